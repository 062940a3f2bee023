"""The upper rows of JPEGs: the same to the bit as those of the whole image; what damage is seen and what is not."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import simplejpeg

from data_iterator_farm.decoding import Scratch, decode_image
from lffd.errors import DataError
from lffd.images.jpeg import lower_height, parse_jpeg
from lffd.records import Record
from tests.data_iterator_farm.made_up import make_record, textured

SIZE = (203, 310)


def noisy(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(textured(*SIZE, seed).astype(int) + rng.integers(-40, 40, (SIZE[1], SIZE[0], 3)), 0, 255).astype(
        np.uint8
    )


def jpeg(kind: str) -> bytes:
    options = {
        "progressive": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
        "restart": [cv2.IMWRITE_JPEG_RST_INTERVAL, 3],
        "optimised": [cv2.IMWRITE_JPEG_OPTIMIZE, 1],
    }
    if kind in options:
        return cv2.imencode(".jpg", noisy(), options[kind])[1].tobytes()
    if kind == "grey":
        return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(noisy()[..., :1]), 90, "GRAY", "Gray"))
    return bytes(simplejpeg.encode_jpeg(noisy(), 90, "BGR", kind))


def record_of(data: bytes) -> Record:
    return replace(make_record(size=SIZE, name="r.jpg"), image=data)


KINDS = ["420", "422", "444", "440", "grey", "restart", "optimised", "progressive"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_rows_are_those_of_the_whole_image(kind: str, reduction: int) -> None:
    record = record_of(jpeg(kind))
    whole = decode_image(record, reduction)
    scratch, shorter = Scratch(), 0
    for rows in {1, 2, 15, 16, 17, 100 // reduction, 200 // reduction, whole.shape[0] - 1, whole.shape[0]}:
        part = decode_image(record, reduction, scratch, rows)
        assert part.shape[0] >= rows
        assert part.shape[1:] == whole.shape[1:]
        np.testing.assert_array_equal(part[:rows], whole[:rows])
        shorter += part.shape[0] < whole.shape[0]
    assert bool(shorter) == (kind not in ("progressive", "restart"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_frame_header_is_read(kind: str) -> None:
    found = parse_jpeg(jpeg(kind), "x")
    assert (found.width, found.height) == SIZE
    assert (found.height_at is None) == (kind in ("progressive", "restart"))
    assert found.one_scan == (kind != "progressive")


def test_fill_bytes_and_comments_before_the_frame_are_passed_over() -> None:
    data = jpeg("420")
    longer = data[:2] + b"\xff\xfe\x00\x06abcd" + b"\xff\xff" + data[2:]
    found = parse_jpeg(longer, "x")
    assert (found.width, found.height) == SIZE
    np.testing.assert_array_equal(decode_image(record_of(longer), rows=40)[:40], decode_image(record_of(data))[:40])


def test_markers_without_a_body_are_passed_over() -> None:
    data = jpeg("420")
    longer = data[:2] + b"\xff\x01\xff\xd0" + data[2:]
    found, plain = parse_jpeg(longer, "x"), parse_jpeg(data, "x")
    assert (found.width, found.height, found.height_at) == (*SIZE, (plain.height_at or 0) + 4)
    np.testing.assert_array_equal(decode_image(record_of(longer), rows=40)[:40], decode_image(record_of(data))[:40])


def test_several_scans_are_never_shortened() -> None:
    data = bytearray(jpeg("444"))
    scan = data.index(b"\xff\xda")
    data[scan + 4] = 1  # the first scan says that it holds one channel of the three
    found = parse_jpeg(bytes(data), "x")
    assert not found.one_scan
    assert found.height_at is None


def test_of_flipped_bits_some_are_refused_and_none_do_harm() -> None:
    data, rng, refused = jpeg("420"), np.random.default_rng(0), 0
    start = data.index(b"\xff\xda") + 14
    for _ in range(60):
        flipped = bytearray(data)
        flipped[int(rng.integers(start, len(data) - 2))] ^= 1 << int(rng.integers(8))
        record = record_of(bytes(flipped))
        try:
            assert decode_image(record, rows=150).shape[1:] == (SIZE[0], 3)
            decode_image(record)
        except DataError:
            refused += 1
    assert 0 < refused < 60


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xdb\xff\xff", b"\xff\xd8" + bytes(99)]
)
def test_no_frame_header_is_said(data: bytes) -> None:
    with pytest.raises(DataError, match=r"^x: the JPEG is damaged"):
        parse_jpeg(data, "x")


def test_nothing_is_gained_near_the_end() -> None:
    data = jpeg("420")
    assert lower_height(data, parse_jpeg(data, "x"), 300) is None


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.95])
def test_a_cut_image_is_an_error_wherever_it_is_looked_at(cut: float) -> None:
    data = jpeg("420")
    with pytest.raises(DataError, match=r"r\.jpg.*damaged"):
        decode_image(record_of(data[: int(len(data) * cut)]), rows=20)


def test_a_fault_in_the_rows_that_are_looked_at_is_an_error() -> None:
    data = bytearray(jpeg("restart"))
    middle = len(data) // 4
    place = data.index(b"\xff\xd0", middle)
    data[place : place + 2] = b"\xff\xd5"  # restart markers out of order
    with pytest.raises(DataError, match=r"r\.jpg.*damaged"):
        decode_image(record_of(bytes(data)), rows=250)
