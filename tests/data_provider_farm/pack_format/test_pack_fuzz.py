"""Damaged packs and indexes: a reader gives right records or an error with a name, never anything else."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from data_provider_farm.pack_format.packed_file import PackReader
from lffd.errors import DataError
from lffd.records import Record
from tests.data_provider_farm.samples import mixed_records, record, same, write_pack

MAGIC = b"\x0a\x23\xd7\xce"


@pytest.fixture(scope="module")
def written() -> list[Record]:
    split = record([(2, 3, 40, 41)], name="split.jpg")
    escaped = Record(split.name, split.image + MAGIC * 2, split.width, split.height, split.boxes, split.ignored)
    return [*mixed_records(), escaped, record([(1, 1, 60, 40)], name="last.jpg", seed=9)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, written: list[Record]) -> Path:
    return write_pack(tmp_path_factory.mktemp("fuzz") / "whole.rec", written)


def read_all(path: Path, written: list[Record]) -> int:
    """Read every record that opens; return how many errors came, and insist that everything else is right."""
    try:
        reader = PackReader(path)
    except DataError as error:
        return named(error, path)
    with reader:
        assert len(reader) <= len(written)
        errors = sum(read_one(reader, index, written[index]) for index in range(len(reader)))
        return errors + (len(reader) < len(written))


def read_one(reader: PackReader, index: int, expected: Record) -> int:
    try:
        found = reader[index]
    except DataError as error:
        return named(error, reader.path)
    assert same(found, expected)
    return 0


def named(error: DataError, path: Path) -> int:
    return int(path.stem in str(error)) or pytest.fail(f"the error does not name the file: {error}")


@pytest.fixture
def fuzzed(tmp_path: Path, whole: Path) -> Path:
    """A copy of the pack that may be damaged."""
    path = tmp_path / "fuzzed.rec"
    for suffix in (".rec", ".idx"):
        shutil.copyfile(whole.with_suffix(suffix), path.with_suffix(suffix))
    return path


def damage(fuzzed: Path, suffix: str, data: bytes, written: list[Record]) -> int:
    """Put `data` in the place of one file, and read everything."""
    fuzzed.with_suffix(suffix).write_bytes(data)
    return read_all(fuzzed, written)


@pytest.mark.parametrize("suffix", [".rec", ".idx"])
def test_cut_files(fuzzed: Path, written: list[Record], suffix: str) -> None:
    data = fuzzed.with_suffix(suffix).read_bytes()
    for length in range(0, len(data), 17 if suffix == ".rec" else 1):
        assert damage(fuzzed, suffix, data[:length], written) > 0


@pytest.mark.parametrize("suffix", [".rec", ".idx"])
def test_longer_files(fuzzed: Path, written: list[Record], suffix: str) -> None:
    data = fuzzed.with_suffix(suffix).read_bytes()
    for extra in (b"\0", b"\0" * 4, b"0" * 27, data[-27:], data):
        assert damage(fuzzed, suffix, data + extra, written) > 0


def test_every_flipped_bit_of_the_index(fuzzed: Path, written: list[Record]) -> None:
    data = fuzzed.with_suffix(".idx").read_bytes()
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        assert damage(fuzzed, ".idx", bytes(damaged), written) > 0


def test_flipped_bits_of_the_pack(fuzzed: Path, written: list[Record]) -> None:
    """Only the zeros that fill a record up to a multiple of four may change unnoticed."""
    data = fuzzed.read_bytes()
    rng = np.random.default_rng(0)
    unnoticed = 0
    for bit in rng.integers(0, 8 * len(data), 1000).tolist():
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        unnoticed += damage(fuzzed, ".rec", bytes(damaged), written) == 0
    assert unnoticed < 10


def test_random_edits(fuzzed: Path, written: list[Record]) -> None:
    """Overwritten, removed, doubled and swapped stretches of either file."""
    rng = np.random.default_rng(1)
    for _ in range(300):
        suffix = (".rec", ".idx")[rng.integers(2)]
        data = fuzzed.with_suffix(suffix).read_bytes()
        start, middle, end = np.sort(rng.integers(0, len(data), 3)).tolist()
        edits = [
            data[:start] + rng.bytes(middle - start) + data[middle:],
            data[:start] + data[middle:],
            data[:middle] + data[start:],
            data[:start] + data[middle:end] + data[start:middle] + data[end:],
            rng.bytes(end),
        ]
        damage(fuzzed, suffix, edits[rng.integers(len(edits))], written)
        fuzzed.with_suffix(suffix).write_bytes(data)
