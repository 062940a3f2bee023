"""The published pickles: every honest form is read, everything else refused without running it."""

from __future__ import annotations

import collections
import contextlib
import pickle
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_provider_farm.readers.annotations import SourceImage
from data_provider_farm.readers.lffd_pickle import load_plain_pickle, read_lffd_pickle
from lffd.errors import DataError
from tests.data_provider_farm.samples import jpeg

BOXES = [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.5]]
CORNERS = [[1.0, 2.0, 4.0, 6.0], [5.0, 6.0, 12.0, 14.5]]


def read(tmp_path: Path, content: Any, protocol: int = pickle.HIGHEST_PROTOCOL) -> list[SourceImage]:
    path = tmp_path / "train.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    listing = read_lffd_pickle(path)
    images = list(listing.images)
    assert listing.count == len(images)
    return images


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, ">f4", np.uint16])
@pytest.mark.parametrize("order", ["C", "F"])
def test_dictionary_of_arrays(tmp_path: Path, protocol: int, kind: Any, order: Any) -> None:
    boxes = np.array(BOXES).astype(kind)
    content = {
        1: [np.frombuffer(jpeg(seed=1), np.uint8), 0],
        0: [np.frombuffer(jpeg(), np.uint8), 1, np.asarray(boxes, order=order)],
    }
    first, second = read(tmp_path, content, protocol)
    assert (first.data, first.name) == (jpeg(), "train/0000000.jpg")
    expected = np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), 1)
    assert np.array_equal(first.boxes, expected.astype(np.float32))
    assert second.data == jpeg(seed=1)
    assert second.boxes.shape == (0, 4)
    assert first.box_where == tuple(f"{tmp_path / 'train.pkl'}: entry 0, box {index}" for index in range(2))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "entry",
    [
        (jpeg(), 1, BOXES),
        [jpeg(), np.int64(1), np.array(BOXES)],
        [bytearray(jpeg()), 1, [np.array(row) for row in BOXES]],
        [jpeg().decode("latin1"), True, tuple(map(tuple, BOXES))],
        [np.frombuffer(jpeg(), np.uint8).reshape(-1, 1), 1, np.array(BOXES).ravel()],
    ],
)
def test_other_honest_forms(tmp_path: Path, protocol: int, entry: Any) -> None:
    (image,) = read(tmp_path, [entry], protocol)
    assert image.data == jpeg()
    assert image.boxes.tolist() == CORNERS


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("boxes", [[], np.zeros((0, 4)), np.zeros((0, 4), np.float32), np.zeros(0)])
def test_no_boxes(tmp_path: Path, protocol: int, boxes: Any) -> None:
    for flag in (0, 1):
        (image,) = read(tmp_path, {0: [jpeg(), flag, boxes]}, protocol)
        assert image.boxes.shape == (0, 4)


def test_a_pickle_of_python_2(tmp_path: Path) -> None:
    """Written by hand as Python 2 with protocol 2 writes it: byte strings, and NumPy's old names."""

    def text(value: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(value)) + value

    def array(dtype: bytes, order: bytes, shape: bytes, data: bytes) -> bytes:
        new = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01bt\x52"
        kind = (
            b"cnumpy\ndtype\n("
            + text(dtype)
            + b"K\x00K\x01tR(K\x03"
            + text(order)
            + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        )
        return new + b"(K\x01" + shape + kind + b"\x89" + text(data) + b"tb"

    image = array(b"u1", b"|", b"(M" + struct.pack("<H", len(jpeg())) + b"t", jpeg())
    boxes = array(b"f4", b"<", b"(K\x02K\x04t", np.array(BOXES, "<f4").tobytes())
    (found,) = read(tmp_path, b"\x80\x02}K\x00]" + b"(" + image + b"K\x01" + boxes + b"es.")
    assert found.data == jpeg()
    assert found.boxes.tolist() == CORNERS


class Hostile:
    """Creates a file when it is unpickled by anyone who trusts it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("protocol", range(6))
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "owned"
    data = pickle.dumps({0: [jpeg(), 1, Hostile(target)]}, protocol)
    with pytest.raises(DataError, match=r"refused: the pickle asks for .*nothing of it was run"):
        read(tmp_path, data)
    assert not target.exists()
    pickle.loads(data)  # to show that it would have worked
    assert target.exists()


CODE = [
    b"cos\nsystem\n(S'true'\ntR.",
    b"(S'true'\nios\nsystem\n.",
    b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    b"cbuiltins\neval\n(S'1'\ntR.",
    b"cnumpy.core.multiarray\nfromfile\n(S'x'\ntR.",
    b"cnumpy\nload\n(S'x'\ntR.",
    b"c_codecs\nencode\n(S'x'\nS'zlib'\ntR.",
    b"cbuiltins\nbytearray\n(I99999999999\ntR.",
    b"c_codecs\ndecode\n(S'x'\nS'zlib'\ntR.",
    b"c_codecs\nencode\n}S'__defaults__'\n(S'x'\ntsb.",  # would change one of our functions
    b"Pmy object\n.",
    b"\x82\x01.",
]


@pytest.mark.parametrize("data", CODE)
def test_pickles_with_code_are_refused(data: bytes) -> None:
    with pytest.raises(DataError, match="x: "):
        load_plain_pickle(data, "x")


@pytest.mark.parametrize(
    "value",
    [
        np.array([object()]),
        np.array(["text"]),
        np.zeros(1, "datetime64[s]"),
        np.zeros(1, [("a", "f4")]),
        np.zeros(1, np.complex64),
        collections.Counter(),
        Path("x"),
        {1, 2}.__class__,
        range(3),
    ],
)
def test_anything_but_plain_numbers_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match=r"x: refused"):
        load_plain_pickle(pickle.dumps(value), "x")


def forged_array(shape: bytes, data: bytes) -> bytes:
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01" + shape
        + b"cnumpy\ndtype\n(U\x02f8K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U"
        + bytes([len(data)]) + data + b"tb."
    )  # fmt: skip


def test_forged_arrays_allocate_nothing() -> None:
    assert load_plain_pickle(forged_array(b"(K\x01t", bytes(8)), "x").value.tolist() == [0.0]
    huge = b"(\x8a\x05\x00\x00\x00\x00\x40t"
    for shape in (huge, b"(K\x02t", b"(J\xff\xff\xff\xfft", b"K\x01", b"(U\x01at", b"(" + b"K\x01" * 9 + b"t"):
        with pytest.raises(DataError, match=r"x: refused: .*an array"):
            load_plain_pickle(forged_array(shape, bytes(8)), "x")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"\x80\x04.",
        b"\x80\x63N.",
        pickle.dumps({0: [jpeg(), 0]})[:-50],
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x0f.",  # bytes longer than any file
        b"]" * 3 + b"(" * 50_000 + b".",
    ],
)
def test_damaged_pickles_are_named(data: bytes) -> None:
    with pytest.raises(DataError, match="x: "):
        load_plain_pickle(data, "x")


def test_flipped_and_cut_pickles_are_read_or_named(tmp_path: Path) -> None:
    data = pickle.dumps({0: [np.frombuffer(jpeg(8, 8), np.uint8), 1, np.array(BOXES)]}, 2)
    rng = np.random.default_rng(0)
    anonymous = 0
    for _ in range(500):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        try:
            read(tmp_path, bytes(damaged[: rng.integers(len(data)) if rng.random() < 0.2 else len(data)]))
        except DataError as error:
            anonymous += "train.pkl" not in str(error)
    assert anonymous == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (7, "is not an LFFD pack, but a int"),
        ({"a": [jpeg(), 0]}, "its keys are not numbers"),
        ([5], "entry 0: expected"),
        ([[jpeg()]], "entry 0: expected"),
        ([[jpeg(), 0], [jpeg(), 2, BOXES]], "entry 1: the flag must be"),
        ([[jpeg(), 0, BOXES]], "entry 0: the flag must be"),
        ([[jpeg(), [1], BOXES]], "the flag must be"),
        ([[None, 0]], "the image must be bytes or a uint8 array, not NoneType"),
        ([[np.zeros(4, np.float32), 0]], "the image must be"),
        ([["\u20ac", 0]], "the image is a text"),
        ([[jpeg(), 1, 5]], r"boxes must be an \(N, 4\) array"),
        ([[jpeg(), 1, [[1, 2, 3]]]], "a box must be four numbers"),
        ([[jpeg(), 1, np.zeros(3)]], "a box must be four numbers"),
        ([[jpeg(), 1, [["1", "2", "3", "4"]]]], "a box must be four numbers"),
    ],
)
def test_packs_of_another_kind_are_named_by_entry(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"train.pkl: {message}|train.pkl: .*{message}"):
        read(tmp_path, content)


@pytest.mark.parametrize(
    "data",
    [
        b"Nr\xff\xff\xff\x7f.",  # a memo entry with the number 2 ** 31 - 1
        b"\x96" + (1 << 40).to_bytes(8, "little") + b"0N.",  # a byte array that says 1 TiB
    ],
)
def test_numbers_in_a_pickle_reserve_no_memory(data: bytes) -> None:
    tracemalloc.start()
    with contextlib.suppress(DataError):
        assert load_plain_pickle(data, "x") is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
