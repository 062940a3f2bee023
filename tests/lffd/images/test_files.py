"""Every kind of picture that a folder may hold, good and bad."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lffd.errors import DataError
from lffd.images.files import is_picture, read_picture

BGR = np.zeros((48, 64, 3), np.uint8)
BGR[:, :, 0] = np.arange(64) * 4
BGR[:, :, 1] = np.arange(48)[:, None] * 5
BGR[8:20, 30:50] = (20, 60, 250)
RGB = Image.fromarray(BGR[:, :, ::-1].copy())
GREY = np.asarray(RGB.convert("L"))


def _encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _write(folder: Path, data: bytes, name: str = "picture") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def _png(width: int, height: int, rows: bytes) -> bytes:
    """A PNG file with any size in its header."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


RGBA = RGB.copy()
RGBA.putalpha(Image.fromarray(np.where(np.arange(64) < 32, 255, 0).astype(np.uint8)[None].repeat(48, 0)))
HALF_WHITE = np.where(np.arange(64)[None, :, None] < 32, BGR, 255)
DEEP_GREY = Image.fromarray(GREY.astype(np.uint16) * 256 + 128)


@pytest.mark.parametrize(
    ("data", "expected", "tolerance"),
    [
        (_encode(RGB, "PNG"), BGR, 0),
        (_encode(RGB, "JPEG", quality=95, subsampling=0), BGR, 24),
        (_encode(RGB, "JPEG", quality=95, subsampling=0, progressive=True), BGR, 24),
        (_encode(RGB.convert("CMYK"), "JPEG", quality=100, subsampling=0), BGR, 24),
        (_encode(RGB.convert("L"), "JPEG", quality=95), GREY[:, :, None].repeat(3, 2), 12),
        (_encode(RGB.convert("L"), "PNG"), GREY[:, :, None].repeat(3, 2), 0),
        (_encode(DEEP_GREY, "PNG"), GREY[:, :, None].repeat(3, 2), 0),
        (_encode(DEEP_GREY, "TIFF"), GREY[:, :, None].repeat(3, 2), 0),
        (_encode(RGBA, "PNG"), HALF_WHITE, 0),
        (_encode(RGB.convert("1"), "PNG"), np.asarray(RGB.convert("1"))[:, :, None].repeat(3, 2) * 255, 0),
        (_encode(RGB.quantize(256), "PNG"), np.asarray(RGB.quantize(256).convert("RGB"))[:, :, ::-1], 0),
        (_encode(RGB, "BMP"), BGR, 0),
        (_encode(RGB, "TIFF"), BGR, 0),
        (_encode(RGB, "WEBP", lossless=True), BGR, 0),
        (
            _encode(RGB.quantize(64), "GIF", save_all=True, append_images=[RGB.rotate(180).quantize(64)]),
            np.asarray(RGB.quantize(64).convert("RGB"))[:, :, ::-1],
            0,
        ),
    ],
    ids=[
        "png",
        "jpeg",
        "progressive",
        "cmyk",
        "grey-jpeg",
        "grey-png",
        "grey16-png",
        "grey16-tiff",
        "rgba",
        "1-bit",
        "palette",
        "bmp",
        "tiff",
        "webp",
        "gif",
    ],
)
def test_good_pictures(tmp_path: Path, data: bytes, expected: np.ndarray, tolerance: int) -> None:
    pixels = read_picture(_write(tmp_path, data))
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.shape == (48, 64, 3)
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance


def test_colour_with_16_bits_keeps_the_upper_byte(tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "deep.png"), BGR.astype(np.uint16) * 256 + 77)
    np.testing.assert_array_equal(read_picture(tmp_path / "deep.png"), BGR)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_the_right_way_up(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # stored lying on its side: a viewer turns it clockwise
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = RGB.transpose(undo[orientation]) if orientation in undo else RGB
    options = {"lossless": True} if kind == "WEBP" else {"quality": 97, "subsampling": 0} if kind == "JPEG" else {}
    pixels = read_picture(_write(tmp_path, _encode(stored, kind, exif=exif, **options)))
    assert pixels.shape == BGR.shape
    assert np.abs(pixels.astype(int) - BGR).mean() < 3


def test_a_jpeg_with_a_small_fault_is_mended(tmp_path: Path) -> None:
    data = _encode(RGB, "JPEG", quality=95)
    scan = data.rindex(b"\xff\xda")
    data = data[:scan] + b"\x00\x00" + data[scan:]  # bytes between two markers
    assert read_picture(_write(tmp_path, data)).shape == BGR.shape


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"just some text\n" * 20, r"is not a picture of a known format \(JPEG, PNG, GIF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is not a picture of a known format"),
        (_encode(NOISE, "JPEG")[:2000], "truncated"),
        (_encode(NOISE.convert("CMYK"), "JPEG")[:2000], "truncated"),
        (_encode(NOISE, "PNG")[:2000], "truncated"),
        (_encode(NOISE.quantize(64), "GIF")[:1000], "damaged or truncated"),
        (_encode(NOISE, "TIFF")[:2000], "damaged"),
        (_encode(NOISE, "WEBP")[:1000], "damaged"),
        (b"\xff\xd8\xff\xe0", "damaged"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (_encode(NOISE.convert("F"), "TIFF"), "floating point"),
        (_encode(Image.fromarray(np.full((4, 4), 1 << 20, np.int32)), "TIFF"), "not in 0–65535"),
        (_png(100_000, 100_000, b"\0" * 1000), r"100000x100000 is more than the 1,073,741,824 pixels"),
        (_png(30_000, 30_000, b"\0" * 1000), "30000x30000 pixels in .* looks like a decompression bomb; .*--trusted"),
    ],
)
def test_bad_pictures_are_named_with_the_reason(tmp_path: Path, data: bytes, message: str) -> None:
    path = _write(tmp_path, data, "bad.jpg")
    tracemalloc.start()
    with pytest.raises(DataError, match=message) as caught:
        read_picture(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert peak < 10_000_000


def test_large_pictures_in_proportion_to_their_file_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lffd.images.encoded.USUAL_PIXELS", 1000)
    assert read_picture(_write(tmp_path, _encode(NOISE, "PNG"))).shape == (80, 90, 3)
    flat = _write(tmp_path, _encode(Image.new("RGB", (800, 800)), "PNG"))
    with pytest.raises(DataError, match="decompression bomb"):
        read_picture(flat)
    assert read_picture(flat, trusted=True).shape == (800, 800, 3)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("nothing", "does not exist"), (".", "is not a file"), ("pipe", "is not a file")):
        with pytest.raises(DataError, match=message):
            read_picture(tmp_path / name)
    assert not is_picture(tmp_path)


SAMPLES = [
    _encode(NOISE.resize((24, 20)), "JPEG"),
    _encode(NOISE.resize((24, 20)), "PNG"),
    _encode(NOISE.resize((24, 20)).quantize(32), "GIF"),
    _encode(NOISE.resize((24, 20)), "BMP"),
    _encode(NOISE.resize((24, 20)), "TIFF"),
    _encode(NOISE.resize((24, 20)), "WEBP"),
]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.integers(3, 1500), st.integers(0, 255)), max_size=5),
    st.one_of(st.none(), st.integers(3, 1500)),
)
def test_damage_of_any_kind_is_an_error_or_a_picture(
    tmp_path: Path, data: bytes, changes: list[tuple[int, int]], end: int | None
) -> None:
    damaged = bytearray(data)
    for position, value in changes:
        damaged[position % len(data)] = value
    path = _write(tmp_path, bytes(damaged[:end]))
    try:
        pixels = read_picture(path)
    except DataError:
        return
    assert pixels.ndim == 3
    assert pixels.dtype == np.uint8
