"""Checkpoints are whole or passed over."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lffd.checkpoint import newest_checkpoint, read_checkpoint, write_checkpoint
from lffd.errors import ModelError

ARRAYS = {"arg:conv1_weight": np.random.default_rng(0).normal(size=(3, 2, 1, 1)).astype(np.float32), "n": np.array([7])}


def test_round_trip(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 12, ARRAYS, {"iteration": 12, "note": "ü"})
    found = read_checkpoint(path)
    assert found.facts == {"iteration": 12, "note": "ü"}
    assert found.arrays.keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
        assert found.arrays[name].dtype == value.dtype
        np.testing.assert_array_equal(found.arrays[name], value)
    with np.load(path) as plain:  # any NumPy reads it
        np.testing.assert_array_equal(plain["n"], [7])


def test_no_folder_is_no_checkpoint(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "none") == (None, [])


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 0.99])
def test_a_truncated_newest_one_is_passed_over_by_name(tmp_path: Path, share: float) -> None:
    write_checkpoint(tmp_path, 1, ARRAYS, {"iteration": 1})
    newest = write_checkpoint(tmp_path, 2, ARRAYS, {"iteration": 2})
    data = newest.read_bytes()
    newest.write_bytes(data[: int(len(data) * share)])
    found, skipped = newest_checkpoint(tmp_path)
    assert found is not None
    assert found.facts["iteration"] == 1
    assert len(skipped) == 1
    assert "iteration_00000002.npz: not a whole checkpoint" in skipped[0]


def test_any_flipped_byte_of_the_arrays_is_found(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 1, ARRAYS, {"iteration": 1})
    data = bytearray(path.read_bytes())
    place = data.index(ARRAYS["arg:conv1_weight"].tobytes()) + 5
    data[place] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ModelError, match="not a whole checkpoint"):
        read_checkpoint(path)


def _entry(array: np.ndarray, **options: bool) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "entry",
    [
        _entry(np.array([print], dtype=object), allow_pickle=True),
        _entry(np.zeros(4)).replace(b"(4,)", b"(9,)"),
        b"no array at all",
    ],
)
def test_entries_that_lie_are_refused_and_nothing_is_unpickled(tmp_path: Path, entry: bytes) -> None:
    path = tmp_path / "iteration_00000001.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("facts.json", '{"iteration": 1}')
        archive.writestr("arg:x", entry)
    with pytest.raises(ModelError, match="not a whole checkpoint"):
        read_checkpoint(path)


def test_leftovers_of_a_killed_write_are_not_chosen(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, ARRAYS, {"iteration": 1})
    (tmp_path / ".iteration_00000002.npz.123.tmp").write_bytes(b"half")
    found, skipped = newest_checkpoint(tmp_path)
    assert found is not None
    assert (found.facts["iteration"], skipped) == (1, [])
