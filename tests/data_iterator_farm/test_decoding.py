"""Encoded images to pixels: formats, sizes, damage, memory."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg

from data_iterator_farm.decoding import CachedSource, Scratch, decode_image, reduction_for
from lffd.errors import DataError
from tests.data_iterator_farm.made_up import broken, encode, make_record, textured


@pytest.mark.parametrize("kind", ["jpeg", "png", "bmp", "webp"])
def test_formats_decode_to_bgr(kind: Any) -> None:
    image = textured(75, 50)
    record = make_record(size=(75, 50), image=image, kind=kind)
    decoded = decode_image(record)
    assert decoded.shape == (50, 75, 3)
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - image).mean() < (0.5 if kind in ("png", "bmp") else 4)


@pytest.mark.parametrize("kind", ["jpeg", "png"])
@pytest.mark.parametrize("reduction", [2, 4, 8])
@pytest.mark.parametrize("size", [(64, 48), (101, 67)])
def test_a_reduced_pixel_is_the_mean_of_its_square(kind: Any, reduction: Any, size: Any) -> None:
    image = textured(*size)
    reduced = decode_image(make_record(size=size, image=image, kind=kind), reduction)
    assert reduced.shape == (-(-size[1] // reduction), -(-size[0] // reduction), 3)
    rows, columns = size[1] // reduction, size[0] // reduction
    squares = image[: rows * reduction, : columns * reduction].reshape(rows, reduction, columns, reduction, 3)
    means = squares.mean(axis=(1, 3))
    assert np.abs(reduced[:rows, :columns] - means).mean() < 2.5


@pytest.mark.parametrize(
    ("scale", "size", "want"),
    [
        (2, (640, 480), 1),
        (0.51, (640, 480), 1),
        (0.5, (640, 480), 2),
        (0.2, (640, 480), 4),
        (0.01, (640, 480), 8),
        (0.01, (31, 480), 1),
    ],
)
def test_reduction_never_asks_for_fewer_pixels_than_the_crop_shows(scale: Any, size: Any, want: Any) -> None:
    assert reduction_for(scale, *size) == want


def test_grey_and_cmyk_jpegs_decode() -> None:
    image = textured(64, 48)
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    data = bytes(simplejpeg.encode_jpeg(grey[..., None], 95, "GRAY", "Gray"))
    decoded = decode_image(replace(make_record(size=(64, 48)), image=data))
    assert np.abs(decoded.astype(int) - grey[..., None]).max() < 12
    cmyk = np.concatenate((255 - image[..., ::-1], np.zeros((48, 64, 1), np.uint8)), axis=2)
    record = replace(make_record(size=(64, 48)), image=bytes(simplejpeg.encode_jpeg(cmyk, 95, "CMYK", "444")))
    by_opencv = cv2.imdecode(np.frombuffer(record.image, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(decode_image(record).astype(int) - by_opencv).mean() < 2


def test_orientation_is_not_applied() -> None:
    image = textured(64, 48)
    entry = struct.pack(">HHII", 0x0112, 3, 1, 6 << 16)
    exif = b"Exif\x00\x00MM\x00\x2a" + struct.pack(">IH", 8, 1) + entry + bytes(4)
    plain = encode(image)
    turned = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (64, 48, 3), "EXIF is not read"
    record = make_record(size=(64, 48), image=image)
    np.testing.assert_array_equal(decode_image(replace(record, image=turned)), decode_image(record))


GOOD = make_record(size=(64, 48), name="there/a.jpg")


@pytest.mark.parametrize(
    ("record", "what"),
    [
        (broken(GOOD), "damaged"),
        (replace(GOOD, image=GOOD.image[:100]), "damaged"),
        (replace(GOOD, image=b""), "is empty"),
        (replace(GOOD, image=b"hello"), "not a picture of a known format"),
        (replace(GOOD, image=encode(textured(64, 48), "png")[:300]), "PNG file is damaged"),
        (replace(GOOD, width=65), "65x48"),
        (replace(GOOD, image=encode(textured(60, 48), "png")), "60x48"),
        (replace(GOOD, width=1 << 16, height=1 << 16), "pixels"),
    ],
)
def test_damage_names_the_record(record: Any, what: Any) -> None:
    with pytest.raises(DataError, match=rf"there/a\.jpg.*{what}"):
        decode_image(record)


def test_scratch_memory_is_used_again() -> None:
    scratch = Scratch()
    first = decode_image(GOOD, 1, scratch)
    assert np.shares_memory(first, decode_image(GOOD, 1, scratch))
    assert not np.shares_memory(decode_image(GOOD), decode_image(GOOD))


def test_cached_images_are_the_same_and_stay_within_their_limit() -> None:
    records = [make_record(size=(64, 48), image=textured(64, 48, seed), name=str(seed)) for seed in range(5)]
    room = sum(len(record.image) for record in records) + 2 * 64 * 48 * 3 + 100
    cached = CachedSource(records, room)
    assert len(cached) == 5
    scratch = Scratch()
    for _ in range(2):
        for index, record in enumerate(records):
            for reduction in (1, 2):
                found = decode_image(cached[index], reduction, scratch)
                np.testing.assert_array_equal(found, decode_image(record, reduction))
            assert (cached[index].name, cached[index].width) == (record.name, 64)
    kept = [decode_image(cached[index]) is decode_image(cached[index]) for index in range(5)]
    assert kept[0]
    assert sum(kept) <= 2
    with pytest.raises(DataError, match="damaged"):
        decode_image(CachedSource([broken(records[0])], 10**6)[0])
