"""Encoded images: what a JPEG's header says, whether an image is whole, decoding, shrinking and encoding.

Two decoders are used for what each does best: simplejpeg (libjpeg-turbo) for JPEGs, OpenCV for every other format.
Neither is ever asked to turn an image by its EXIF tag: `upright` and `turn` are the places that know about it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lffd.errors import DataError

Pixels = NDArray[np.uint8]

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
MAX_PIXELS = 1 << 28
HEADER_PREFIX = 1 << 18
START, END = b"\xff\xd8", b"\xff\xd9"
FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})
START_OF_SCAN, APP1 = 0xDA, 0xE1
ORIENTATION_TAG, SHORT = 0x0112, 3


@dataclass(frozen=True)
class JpegHeader:
    """What the markers before a JPEG's first scan say.

    Attributes:
        width, height: as stored, in pixels.
        channels: 1 (gray), 3 (colour) or 4 (CMYK).
        orientation: EXIF orientation, 1 (upright) to 8.
        orientation_at: byte of the low half of that number, where the tag is there.
        scan_at: byte of the first scan's marker.
    """

    width: int
    height: int
    channels: int
    orientation: int
    orientation_at: int | None
    scan_at: int


def is_jpeg(data: bytes) -> bool:
    """Return whether `data` begins like a JPEG."""
    return data.startswith(START + b"\xff")


def parse_jpeg(data: bytes, where: str | Path) -> JpegHeader:
    """Read a JPEG's header; `data` may stop after it.

    Raises:
        DataError: when the header is cut short or impossible.
    """
    position, frame, orientation, orientation_at = 2, None, 1, None
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise DataError(f"{where}: a JPEG marker is missing at byte {position}")
        marker = data[position + 1]
        if marker == 0xFF or marker in BARE_MARKERS:  # fill bytes, markers without a body
            position += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        body = data[position + 4 : position + 2 + length]
        if marker in FRAME_MARKERS and len(body) >= 6:
            frame = struct.unpack(">BHHB", body[:6])
        elif marker == APP1 and body.startswith(b"Exif\0\0"):
            found = _find_orientation(body[6:])
            if found is not None:
                orientation, orientation_at = found[0], position + 10 + found[1]
        elif marker == START_OF_SCAN and frame is not None:
            bits, height, width, channels = frame
            if bits != 8 or not width or not height or channels not in (1, 3, 4):
                raise DataError(
                    f"{where}: a JPEG of {width}x{height}, {channels} channels of {bits} bits is not supported"
                )
            return JpegHeader(width, height, channels, orientation, orientation_at, position)
        position += 2 + max(length, 2)
    raise DataError(f"{where}: the JPEG is cut short inside its header")


def _find_orientation(tiff: bytes) -> tuple[int, int] | None:
    """Return the orientation in an EXIF block and the byte of its low half, if it is there and valid."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return None
    directory = struct.unpack_from(order + "I", tiff, 4)[0]
    if directory + 2 > len(tiff):
        return None
    for entry in range(struct.unpack_from(order + "H", tiff, directory)[0]):
        start = directory + 2 + 12 * entry
        if start + 12 > len(tiff):
            return None
        tag, kind, count, value = struct.unpack_from(order + "HHIH", tiff, start)
        if tag == ORIENTATION_TAG:
            valid = kind == SHORT and count == 1 and 1 <= value <= 8
            return (value, start + (8 if order == "<" else 9)) if valid else None
    return None


def is_whole(data: bytes, header: JpegHeader) -> bool:
    """Return whether the JPEG has its end marker; what comes after it is nobody's business."""
    return data.rfind(END) > header.scan_at


def upright(data: bytes, header: JpegHeader) -> bytes:
    """Return the JPEG with its EXIF orientation set to 1; the picture's own bytes stay as they are."""
    if header.orientation_at is None or header.orientation == 1:
        return data
    return data[: header.orientation_at] + b"\x01" + data[header.orientation_at + 1 :]


def turn(pixels: Pixels, orientation: int) -> Pixels:
    """Return the image as a viewer that obeys EXIF `orientation` 1–8 shows it."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def decode(data: bytes, where: str | Path, at_least: tuple[int, int] = (0, 0)) -> Pixels:
    """Decode an image to `(H, W, 3)` uint8 BGR, as stored, whatever its EXIF tag says.

    Args:
        data: the encoded image.
        where: names it in errors.
        at_least: width and height; a JPEG may be decoded at some eighths of its size as long as it keeps this one.
            (0, 0) asks for the full size.

    Raises:
        DataError: when the image is damaged or too large. For a JPEG any warning of the decoder counts as damage.
    """
    if not is_jpeg(data):
        return _decode_other(data, where)
    header = parse_jpeg(data, where)
    if header.width * header.height > MAX_PIXELS:
        raise DataError(f"{where}: {header.width}x{header.height} is over the limit of {MAX_PIXELS:,} pixels")
    if header.channels == 4:
        return _decode_other(data, where)
    import simplejpeg

    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, "BGR", min_width=at_least[0], min_height=at_least[1], strict=True)
    except ValueError as error:
        raise DataError(f"{where}: the JPEG is damaged: {error}") from error
    return pixels


def _decode_other(data: bytes, where: str | Path) -> Pixels:
    """Decode with OpenCV."""
    import cv2

    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:
        raise DataError(f"{where}: cannot be decoded: {error.err}") from error
    if pixels is None:
        raise DataError(f"{where}: is not an image that can be decoded")
    return np.asarray(pixels, np.uint8)


def encode(pixels: Pixels, quality: int) -> bytes:
    """Return `(H, W, 3)` uint8 BGR pixels as a JPEG."""
    import simplejpeg

    data: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, "BGR", "420")
    return data


def shrink(pixels: Pixels, width: int, height: int) -> Pixels:
    """Return the image at a smaller size, each new pixel the mean of those it covers."""
    import cv2

    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def read_size(path: Path, turned: bool) -> tuple[int, int]:
    """Return the width and height of an image file, reading no more than its header where it is a JPEG.

    Args:
        path: the file.
        turned: give the size after turning it by its EXIF tag.

    Raises:
        DataError: when the file cannot be read as an image.
    """
    data = read_file(path, HEADER_PREFIX)
    try:
        header = parse_jpeg(data, path) if is_jpeg(data) else None
    except DataError:
        header = parse_jpeg(read_file(path), path)
    if header is not None:
        swapped = turned and header.orientation >= 5
        return (header.height, header.width) if swapped else (header.width, header.height)
    height, width = decode(read_file(path), path).shape[:2]
    return width, height


def read_file(path: Path, limit: int = -1) -> bytes:
    """Return the bytes of a file, at most `limit` of them.

    Raises:
        DataError: when it cannot be read.
    """
    try:
        with open(path, "rb", buffering=0) as stream:
            return stream.read(limit) if limit >= 0 else stream.readall()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def list_images(folder: Path) -> list[Path]:
    """Return every image file under a folder, sorted.

    Raises:
        DataError: when there is no such folder or no image in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError(f"{folder}: holds no image ({', '.join(sorted(SUFFIXES))})")
    return files
