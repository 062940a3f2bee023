"""RecordIO framing, held to MXNet's own writer and reader."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_provider_farm.pack_format.record_layout import MAGIC, frame_record, read_record
from lffd.engines.mxnet_engine import import_mxnet
from lffd.errors import DataError

BODIES = [
    b"",
    b"x",
    b"abcd",
    b"abcde",
    MAGIC,
    MAGIC * 3,
    MAGIC + b"ab",
    b"ab" + MAGIC,  # not at a multiple of four: stays as it is
    b"abcd" + MAGIC + b"efgh" + MAGIC,
    b"abc" + MAGIC * 2 + b"d",
    bytes(1000) + MAGIC + bytes(7),
]
pieces = st.lists(st.sampled_from([MAGIC, b"\x0a", b"\x0a\x23", b"abcd", b"\0"]) | st.binary(max_size=6)).map(b"".join)


def read_back(data: bytes, path: Path, offset: int = 0, expected_end: int = 0) -> tuple[bytes, int]:
    path.write_bytes(data)
    with path.open("rb") as stream:
        return read_record(stream.fileno(), offset, len(data), "test", expected_end)


@pytest.mark.parametrize("body", BODIES)
def test_framing_is_that_of_mxnet_to_the_byte(tmp_path: Path, body: bytes) -> None:
    mx = import_mxnet()
    theirs = tmp_path / "theirs.rec"
    writer = mx.recordio.MXRecordIO(str(theirs), "w")
    writer.write(b"head" + body)
    writer.close()
    assert b"".join(frame_record(b"head", body)) == theirs.read_bytes()
    assert read_back(theirs.read_bytes(), tmp_path / "ours.rec") == (b"head" + body, theirs.stat().st_size)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(pieces, min_size=1, max_size=4), st.integers(-8, 8) | st.integers(-1000, 10**12))
def test_records_of_any_bytes_come_back_one_after_the_other(tmp_path: Path, bodies: list[bytes], slip: int) -> None:
    data = b"".join(b"".join(frame_record(b"", body)) for body in bodies)
    offset = 0
    for body in bodies:
        whole = read_back(data, tmp_path / "x.rec", offset)
        hinted = read_back(data, tmp_path / "x.rec", offset, whole[1] + slip)
        assert hinted == whole, "where the record is said to end must not matter"
        found, offset = whole
        assert found == body
    assert offset == len(data)


def test_a_record_over_the_limit_is_refused() -> None:
    class Long(bytes):
        def __len__(self) -> int:
            return 1 << 29

    with pytest.raises(DataError, match="over RecordIO's limit"):
        frame_record(b"", Long())


def part(kind: int, length: int, body: bytes) -> bytes:
    return MAGIC + struct.pack("<I", kind << 29 | length) + body


@pytest.mark.parametrize(
    ("data", "offset", "message"),
    [
        (b"", 0, "no record can start"),
        (part(0, 4, b"abcd"), 2, "no record can start"),
        (part(0, 4, b"abcd"), -4, "no record can start"),
        (part(0, 4, b"abcd"), 12, "no record can start"),
        (part(0, 4, b"abcd")[:7], 0, "no record can start"),
        (b"abcd" + part(0, 4, b"abcd"), 0, "no record starts"),
        (part(0, 400, b"abcd"), 0, "cut short"),
        (part(2, 4, b"abcd"), 0, "out of order"),
        (part(3, 4, b"abcd"), 0, "out of order"),
        (part(5, 4, b"abcd"), 0, "out of order"),
        (part(1, 4, b"abcd"), 0, "no record can start"),
        (part(1, 4, b"abcd") + part(0, 4, b"abcd"), 0, "out of order"),
        (part(1, 4, b"abcd") + part(1, 4, b"abcd"), 0, "out of order"),
    ],
)
def test_what_is_not_a_record_is_named(tmp_path: Path, data: bytes, offset: int, message: str) -> None:
    with pytest.raises(DataError, match=f"test: .*{message}"):
        read_back(data, tmp_path / "x.rec", offset)


def test_a_file_that_shrinks_while_open_is_an_error_not_a_hang(tmp_path: Path) -> None:
    path = tmp_path / "x.rec"
    data = b"".join(frame_record(b"", bytes(100)))
    path.write_bytes(data)
    with path.open("r+b") as stream:
        os.ftruncate(stream.fileno(), 50)
        with pytest.raises(DataError, match="cut short while it was open"):
            read_record(stream.fileno(), 0, len(data), "test")
        with pytest.raises(DataError, match="cut short while it was open"):
            read_record(stream.fileno(), 0, len(data), "test", expected_end=len(data))
