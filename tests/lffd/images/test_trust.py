"""Pictures made to hang, to fill the memory, or to be shown wrong without a word."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data_iterator_farm.decoding import decode_image
from lffd.errors import DataError
from lffd.images.encoded import decode
from lffd.images.files import read_picture, read_size
from lffd.images.jpeg import parse_jpeg
from lffd.records import Record
from tests.data_provider_farm.samples import picture

LIMIT_S = 10


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def black_png(side: int, bits: int = 1) -> bytes:
    """A PNG of one colour with `side` pixels a side, made without holding its pixels."""
    header = side.to_bytes(4, "big") * 2 + bytes([bits, 0, 0, 0, 0])
    packer = zlib.compressobj(9)
    row = bytes(1 + side * bits // 8)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = cv2.imencode(".jpg", np.zeros((side, side, 3), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * scans + data[-2:]


READ = """
import sys
from pathlib import Path
from lffd.errors import DataError
from lffd.images.files import read_picture
from data_provider_farm.prepare import Preparation, prepare
from data_provider_farm.readers.annotations import build_source
path = Path(sys.argv[1])
try:
    read_picture(path)
    print("read")
except DataError as error:
    print(error)
for settings in (Preparation(), Preparation(max_side=64), Preparation(verify="full")):
    print(*prepare(build_source(path, path.name, "here"), settings).problems)
"""


def outcome(project: Path, path: Path) -> list[str]:
    """What reading and packing a picture print, in a process of its own with limits of time and memory."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))

    command = [sys.executable, "-c", READ, str(path)]
    done = subprocess.run(
        command, cwd=project, preexec_fn=limit, timeout=LIMIT_S, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_a_jpeg_of_twenty_thousand_scans_ends_at_once(project: Path, tmp_path: Path) -> None:
    path = tmp_path / "scans.jpg"
    path.write_bytes(many_scans(2048, 20_000))
    found = outcome(project, path)
    assert len(found) == 4
    assert all("scans, too many to decode" in line for line in found)
    record = Record("a", path.read_bytes(), 2048, 2048, np.zeros((0, 4), np.float32), np.zeros(0, np.bool_))
    with pytest.raises(DataError, match="too many to decode"):
        decode_image(record)


def test_progressive_jpegs_with_the_usual_scans_are_read() -> None:
    data = many_scans(64, 0)
    assert not parse_jpeg(data, "x").one_scan
    assert data.count(b"\xff\xda") > 5
    assert decode(data, "x").shape == (64, 64, 3)


@pytest.mark.parametrize("side", [32_000, 11_000])
def test_small_files_of_vast_pictures_are_refused_before_memory_is_taken(
    project: Path, tmp_path: Path, side: int
) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(black_png(side))
    with pytest.raises(DataError, match=f"{side}x{side}"):
        read_size(path, turned=True)
    found = outcome(project, path)
    assert len(found) == 4
    assert all(f"{side}x{side}" in line for line in found)


@pytest.mark.parametrize("name", ["pipe.jpg", "/dev/zero", "/dev/full"])
def test_pipes_and_devices_are_no_pictures(project: Path, tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert all("is not a file" in line for line in outcome(project, tmp_path / name))


def test_a_flipped_bit_of_a_png_is_never_shown_as_a_picture(tmp_path: Path) -> None:
    data = png(picture(90, 70))
    rng = np.random.default_rng(0)
    path = tmp_path / "a.png"
    for bit in rng.integers(8 * 8, 8 * len(data), 200).tolist():
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.png: the PNG file is damaged|a\.png: .*pixels"):
            read_picture(path)


def test_a_jpeg_with_a_fault_among_its_pixels_is_damaged(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (80, 96, 3), np.uint8)
    data = cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_RST_INTERVAL, 3])[1].tobytes()
    path = tmp_path / "a.jpg"
    place = data.index(b"\xff\xd0", len(data) // 3)
    path.write_bytes(data[:place] + b"\xff\xd5" + data[place + 2 :])  # restart markers out of order
    with pytest.raises(DataError, match=r"a\.jpg: the JPEG is damaged"):
        read_picture(path)


@pytest.mark.parametrize(("factor", "kind"), [(1, np.int32), (257, np.int32), (256, np.uint16)])
def test_gray_of_32_bits_is_taken_by_its_range(tmp_path: Path, factor: int, kind: type) -> None:
    gray = picture(40, 30)[:, :, 0]
    path = tmp_path / "a.tif"
    Image.fromarray(gray.astype(kind) * factor).save(path)
    np.testing.assert_array_equal(read_picture(path), gray[:, :, None].repeat(3, 2))


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 8])
def test_tiffs_and_pngs_come_as_stored_where_that_is_asked(tmp_path: Path, orientation: int) -> None:
    pixels, exif = picture(40, 30), Image.Exif()
    exif[0x0112] = orientation
    for kind in ("tiff", "png"):
        stream = io.BytesIO()
        Image.fromarray(pixels[:, :, ::-1].copy()).save(stream, kind, exif=exif)
        np.testing.assert_array_equal(decode(stream.getvalue(), "x"), pixels)
        path = tmp_path / f"a.{kind}"
        path.write_bytes(stream.getvalue())
        assert read_size(path, turned=False) == (40, 30)
        assert read_size(path, turned=True) == read_picture(path).shape[1::-1]


def test_an_image_of_another_size_than_its_record_says_is_refused() -> None:
    for data in (cv2.imencode(".jpg", picture(200, 200))[1].tobytes(), png(picture(200, 200))):
        assert decode(data, "x", size=(200, 200)).shape == (200, 200, 3)
        with pytest.raises(DataError, match="x: the record says 400x300 pixels, the image has 200x200"):
            decode(data, "x", size=(400, 300))
