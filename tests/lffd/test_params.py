"""`.params` files: the same bytes as MXNet, and a named error for every kind of damage."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lffd.engines.mxnet_engine import import_mxnet
from lffd.errors import ModelError
from lffd.params import pack_params, parse_params, read_params

WEIGHTS = {"conv1_bias": np.arange(4, dtype=np.float32), "conv1_weight": np.ones((4, 3, 1, 1), np.float32)}
HERE = Path("made.params")

arrays = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.float16, np.uint8, np.int32, np.int8, np.int64]),
    hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4),
)


@given(st.dictionaries(st.text(min_size=1, max_size=20), arrays, max_size=4), st.booleans())
def test_round_trip(params: dict[str, np.ndarray], as_states: bool) -> None:
    params = {name: value for name, value in params.items() if ":" not in name}
    data = pack_params({}, params) if as_states else pack_params(params)
    read = parse_params(data, HERE)[1 if as_states else 0]
    assert read.keys() == params.keys()
    for name, value in params.items():
        assert read[name].dtype == value.dtype
        assert read[name].tobytes() == value.tobytes()
        assert read[name].shape == value.shape


def test_the_same_bytes_as_mxnet(tmp_path: Path) -> None:
    mx = import_mxnet()
    mx.nd.save(str(tmp_path / "mx.params"), {f"arg:{name}": mx.nd.array(value) for name, value in WEIGHTS.items()})
    assert (tmp_path / "mx.params").read_bytes() == pack_params(WEIGHTS)


def test_mxnet_reads_ours(tmp_path: Path) -> None:
    mx = import_mxnet()
    (tmp_path / "ours.params").write_bytes(pack_params(WEIGHTS, {"bn_moving_mean": np.zeros(2, np.float16)}))
    read = mx.nd.load(str(tmp_path / "ours.params"))
    assert sorted(read) == ["arg:conv1_bias", "arg:conv1_weight", "aux:bn_moving_mean"]
    np.testing.assert_array_equal(read["arg:conv1_bias"].asnumpy(), WEIGHTS["conv1_bias"])


def test_published_checkpoint_reads_as_mxnet_reads_it(shared: Path) -> None:
    file = shared / "checkpoints" / "plate_64_512_16L_3scales_v1.params"
    expected = import_mxnet().nd.load(str(file))
    params, states = read_params(file)
    assert states == {}
    assert {f"arg:{name}" for name in params} == set(expected)
    assert all(np.array_equal(params[name.removeprefix("arg:")], value.asnumpy()) for name, value in expected.items())


@pytest.mark.parametrize("length", range(0, len(pack_params(WEIGHTS)), 7))
def test_every_truncation_is_named(length: int) -> None:
    with pytest.raises(ModelError, match=r"made\.params: (truncated|not a readable)"):
        parse_params(pack_params(WEIGHTS)[:length], HERE)


@given(st.integers(0, len(pack_params(WEIGHTS)) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_an_error_or_another_value_never_a_crash(place: int, change: int) -> None:
    data = bytearray(pack_params(WEIGHTS))
    data[place] ^= change
    with contextlib.suppress(ModelError):
        params, states = parse_params(bytes(data), HERE)
        assert len(params) + len(states) == 2


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, 1, "wrong magic number"),
        (16, 1 << 60, "more than the file can hold"),
        (24 + 4, 1, "stored sparse"),
        (24 + 8, 33, "has rank 33"),
        (24 + 8, 0, "has shape"),
        (24 + 12, 1 << 40, "truncated"),
        (24 + 28, 99, "unknown element type 99"),
    ],
)
def test_hostile_fields_are_refused_before_memory_is_taken(place: int, value: int, message: str) -> None:
    data = bytearray(pack_params(WEIGHTS))
    size = 8 if place in (0, 16, 36) else 4
    data[place : place + size] = struct.pack("<Q" if size == 8 else "<I", value)
    with pytest.raises(ModelError, match=message):
        parse_params(bytes(data), HERE)


@pytest.mark.parametrize("shape", [(0, 1 << 62, 1 << 62), (1 << 62, 0, 2), (1 << 62, 1 << 62, 4)])
def test_impossible_shapes_are_refused(shape: tuple[int, ...]) -> None:
    data = pack_params({"empty": np.zeros((0, 1, 1), np.float32)})
    spoilt = data.replace(struct.pack("<3q", 0, 1, 1), struct.pack("<3q", *shape))
    assert spoilt != data
    with pytest.raises(ModelError, match=r"made\.params: .*shape"):
        parse_params(spoilt, HERE)


def test_trailing_bytes_and_repeated_names() -> None:
    with pytest.raises(ModelError, match="3 bytes too many"):
        parse_params(pack_params(WEIGHTS) + b"abc", HERE)
    twice = (
        pack_params(WEIGHTS).replace(b"arg:conv1_weight", b"arg:conv1_biasss").replace(b"conv1_biasss", b"conv1_weight")
    )
    assert parse_params(twice, HERE)[0].keys() == WEIGHTS.keys()
    same = pack_params({"a": np.ones(1, np.float32), "b": np.ones(1, np.float32)}).replace(b"arg:b", b"arg:a")
    with pytest.raises(ModelError, match="2 arrays but 1 distinct names"):
        parse_params(same, HERE)


def test_missing_file_and_unknown_type(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read: it does not exist"):
        read_params(tmp_path / "none.params")
    with pytest.raises(ModelError, match="parameter arg:x has type bool"):
        pack_params({"x": np.ones(2, bool)})
