"""What is inside a record: exact round trips, and refusals."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from data_provider_farm.pack_format.record_layout import (
    FIXED_FIELDS,
    IMAGE_HEADER,
    OBJECT_WIDTH,
    Encoded,
    decode_record,
    encode_record,
    set_key,
    validate_record,
)
from lffd.errors import DataError
from lffd.images.encoded import decode
from lffd.records import Record
from tests.data_provider_farm.samples import five_points, mixed_records, record, records, same


def joined(data: Encoded) -> bytes:
    return bytes(data.head) + data.image


@settings(deadline=None)
@given(records())
def test_any_record_comes_back_to_the_bit(given_record: Record) -> None:
    validate_record(given_record, "test")
    data = encode_record(given_record)
    set_key(data, 2**31 - 1)
    assert len(data.head) % 4 == 0
    assert same(decode_record(joined(data), 2**31 - 1, "test"), given_record)


@pytest.mark.parametrize("index", range(5))
def test_every_flipped_bit_is_found(index: int) -> None:
    data = joined(encode_record(mixed_records()[index]))
    label_bytes = IMAGE_HEADER.size + 4 * IMAGE_HEADER.unpack_from(data)[0]
    for bit in [*range(8 * (label_bytes + 40)), *range(8 * (label_bytes + 40), 8 * len(data), 13)]:
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DataError, match="test: "):
            decode_record(bytes(damaged), 0, "test")


@pytest.mark.parametrize("length", [0, 10, 24, 59, 60, 100])
def test_a_cut_record_is_named(length: int) -> None:
    with pytest.raises(DataError, match="test: "):
        decode_record(joined(encode_record(record([(1, 1, 9, 9)])))[:length], 0, "test")


def test_another_number_means_a_damaged_index() -> None:
    data = encode_record(record())
    set_key(data, 3)
    with pytest.raises(DataError, match=r"the index leads to record 3 instead.*edit reindex"):
        decode_record(joined(data), 4, "test")


BREAKS: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "1 to 4096 bytes"),
    ({"name": "a\nb"}, "printable"),
    ({"name": "a\udc80"}, "printable"),
    ({"name": "a" * 4097}, "1 to 4096 bytes"),
    ({"image": b""}, "no image bytes"),
    ({"width": 0}, "size 0x48"),
    ({"height": 65537}, "size 64x65537"),
    ({"boxes": np.zeros((1, 4))}, "float32"),
    ({"boxes": np.zeros((4,), np.float32)}, r"\(N, 4\)"),
    ({"boxes": np.array([[0, 0, 65, 5]], np.float32)}, "box 0"),
    ({"boxes": np.array([[-1, 0, 5, 5]], np.float32)}, "box 0"),
    ({"boxes": np.array([[6, 0, 5, 5]], np.float32)}, "box 0"),
    ({"boxes": np.array([[0, 0, np.nan, 5]], np.float32)}, "box 0"),
    ({"boxes": np.array([[0, 0, np.inf, 5]], np.float32)}, "box 0"),
    ({"ignored": np.zeros(2, np.bool_)}, r"bool \(1,\)"),
    ({"ignored": np.zeros(1, np.int64)}, "ignored must be bool"),
    ({"landmarks": np.zeros((2, 5, 3), np.float32)}, r"landmarks must be float32 \(1, 5, 3\)"),
    ({"landmarks": np.zeros((1, 5, 3))}, "landmarks must be float32"),
    ({"landmarks": np.full((1, 5, 3), 3, np.float32)}, "0 .unknown., 1 .hidden. or 2 .seen."),
    ({"landmarks": np.full((1, 5, 3), np.nan, np.float32)}, "finite"),
]


@pytest.mark.parametrize(("changes", "message"), BREAKS)
def test_records_that_break_a_promise_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"here: .*{message}"):
        validate_record(dataclasses.replace(record([(0, 0, 5, 5)]), **changes), "here")


@pytest.mark.parametrize(
    ("position", "value"),
    [(0, 9.0), (0, -1.0), (0, np.nan), (0, 1e9), (1, 11.0), (2, 0.5), (5, 7.0), (8, 4000.0)],
)
def test_a_forged_label_with_a_right_checksum_is_still_refused(position: int, value: float) -> None:
    """Whoever writes the checksum himself gets no array of a size of his choice."""
    forged = encode_record(record([(0, 0, 5, 5)]))
    struct.pack_into("<f", forged.head, IMAGE_HEADER.size + 4 * position, value)
    resign(forged)
    with pytest.raises(DataError, match="not written by this toolkit"):
        decode_record(joined(forged), 0, "test")


def test_points_are_invisible_to_readers_that_do_not_know_them() -> None:
    """The label but for one row that says nothing to others, and an image that starts with the whole JPEG."""
    plain, pointed = (record([(1, 2, 30, 40)], landmarks=points) for points in (None, five_points(1)))
    old, new = joined(encode_record(plain)), joined(encode_record(pointed))
    before, after = (IMAGE_HEADER.unpack_from(data)[0] for data in (old, new))
    assert after == before + OBJECT_WIDTH
    labels = [np.frombuffer(data, "<f4", before, IMAGE_HEADER.size).copy() for data in (old, new)]
    for label in labels:
        label[6:8] = 0  # the checksum
    assert labels[0].tolist() == labels[1].tolist()
    row = np.frombuffer(new, "<f4", OBJECT_WIDTH, IMAGE_HEADER.size + 4 * before)
    assert row[:5].tolist() == [-1, 0, 0, 1, 1]
    image = new[IMAGE_HEADER.size + 4 * after :]
    assert image.startswith(plain.image)
    pixels = decode(image, "test")
    np.testing.assert_array_equal(pixels, decode(plain.image, "test"))


def test_points_that_are_cut_off_are_refused() -> None:
    forged = encode_record(record([(0, 0, 5, 5)], landmarks=five_points(1)))
    short = forged._replace(image=forged.image[-60:])
    resign(short)
    with pytest.raises(DataError, match="contradicts itself"):
        decode_record(joined(short), 0, "test")


def test_a_forged_name_is_refused() -> None:
    forged = encode_record(record())
    struct.pack_into("<f", forged.head, IMAGE_HEADER.size + 4 * FIXED_FIELDS, 0xFF)  # no UTF-8 begins so
    resign(forged)
    with pytest.raises(DataError, match="UTF-8"):
        decode_record(joined(forged), 0, "test")


def resign(data: Encoded) -> None:
    """Put the right checksum into changed bytes."""
    import zlib

    start = IMAGE_HEADER.size
    struct.pack_into("<ff", data.head, start + 24, 0, 0)
    label = bytes(data.head[start:])
    crc = zlib.crc32(data.image, zlib.crc32(label, zlib.crc32(struct.pack("<I", len(label)))))
    struct.pack_into("<ff", data.head, start + 24, crc & 0xFFFF, crc >> 16)
