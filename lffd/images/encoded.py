"""The one place that turns bytes into BGR pixels, in bounded memory, and back.

The format is told from the first bytes, never from the name; sizes are checked before a pixel is decoded. JPEGs are
decoded by simplejpeg (libjpeg-turbo), every other format by Pillow. Neither turns an image by its EXIF tag unasked;
HEIC pictures, whose turning is part of the format and no tag, always come the right way up.
"""

from __future__ import annotations

import importlib
import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from lffd.errors import DataError, EngineError
from lffd.hints import require
from lffd.images.jpeg import ORIENTATION_TAG, JpegHeader, check_scans, check_whole, is_jpeg, parse_jpeg

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]
Faults = Literal["refuse", "small", "mend"]

MAX_PIXELS = 1 << 30
PACKED_PIXELS = 1 << 28
"""Most pixels of an image to learn from: every thread that makes batches holds one."""

USUAL_PIXELS = 1 << 26
"""Larger images must have a file in proportion, or they are taken for decompression bombs."""

PIXELS_PER_BYTE = 100
"""A photograph needs a byte for 5–40 pixels; an empty PNG one for 340, an empty JPEG one for 80."""

FORMATS: tuple[tuple[str, str, int, tuple[bytes, ...]], ...] = (
    ("JPEG", "Jpeg", 0, (b"\xff\xd8\xff",)),
    ("PNG", "Png", 0, (b"\x89PNG\r\n\x1a\n",)),
    ("GIF", "Gif", 0, (b"GIF8",)),
    ("BMP", "Bmp", 0, (b"BM",)),
    ("TIFF", "Tiff", 0, (b"II*\0", b"MM\0*")),
    ("WebP", "WebP", 8, (b"WEBP",)),
    ("PPM", "Ppm", 0, (b"P5", b"P6")),
    ("HEIC", "Heif", 4, tuple(b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"))),
)
"""Name, the name in Pillow's reader, where the signature stands, and the signatures."""

SIGNATURE_BYTES = 16

_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, OverflowError, struct.error, zlib.error)
"""What Pillow's readers raise on damaged files; Pillow's own opener expects most of these too."""


def format_of(data: bytes) -> tuple[str, str] | None:
    """Return the name and Pillow's name of the format that the first bytes show, if it is known."""
    return next(((name, reader) for name, reader, at, marks in FORMATS if data.startswith(marks, at)), None)


def decode(
    data: bytes,
    where: str | Path,
    *,
    at_least: tuple[int, int] = (0, 0),
    turned: bool = False,
    faults: Faults = "refuse",
    most: int = PACKED_PIXELS,
    trusted: bool = False,
    size: tuple[int, int] | None = None,
) -> Pixels:
    """Decode an image to `(H, W, 3)` uint8 BGR.

    16-bit values keep their upper byte, 32-bit ones count as of 8 or 16 bits by their range, transparent pixels are
    shown on white, of an animation the first frame is read.

    Args:
        data: the encoded image.
        where: names it in errors.
        at_least: width and height; a JPEG may be decoded at some eighths of its size as long as it keeps this one.
            (0, 0) asks for the full size.
        turned: turn it as its EXIF tag says; otherwise pixels come as stored.
        faults: what happens to a JPEG whose decoder warns: `refuse` takes any warning for damage, `small` mends bytes
            too many, `mend` shows what can be decoded, as the official programs of test sets do.
        most: limit of its pixels.
        trusted: accept sizes that are out of proportion to the bytes.
        size: width and height that a record promises for the pixels as stored.

    Raises:
        DataError: when the image is of no known format, damaged, too large or of another size than promised.
    """
    if is_jpeg(data):
        header = parse_jpeg(data, where, mend=faults != "refuse")
        check_pixels((header.width, header.height), len(data), where, most, trusted)
        check_size((header.width, header.height), size, where)
        check_scans(data, header, where)
        pixels = _decode_jpeg(data, where, header, at_least, faults)
        return turn(pixels, header.orientation if turned else 1)
    image, kind = _open(data, where)
    check_pixels(image.size, len(data), where, most, trusted)
    if kind == "PNG":
        _check_png(data, where)
    pixels = _decode_other(image, where, kind, turned)
    check_size(pixels.shape[1::-1], size, where)
    return pixels


def image_size(data: bytes, where: str | Path, turned: bool = False) -> tuple[int, int]:
    """Return the width and height of an image from its header, perhaps after turning it by its EXIF tag.

    Of a JPEG, `data` may stop after the header. Raises DataError when there is no header that can be read.
    """
    if is_jpeg(data):
        header = parse_jpeg(data, where)
        width, height, orientation = header.width, header.height, header.orientation
    else:
        image, kind = _open(data, where)
        check_pixels(image.size, len(data), where, PACKED_PIXELS)  # a PNG must be decoded to tell its orientation
        (width, height), orientation = image.size, _orientation(image) if turned or kind == "TIFF" else 1
        if kind == "TIFF" and orientation >= 5:  # Pillow tells the turned size of these alone
            width, height = height, width
    return (height, width) if turned and orientation >= 5 else (width, height)


def check_pixels(size: tuple[int, int], size_bytes: int, where: str | Path, most: int, trusted: bool = False) -> None:
    """Refuse, with a DataError, an image that claims more than `most` pixels, or far more than its bytes can hold."""
    width, height = size
    count = width * height
    if count < 1:
        raise DataError(f"{where}: has no pixels ({width}x{height})")
    if count > most:
        raise DataError(f"{where}: {width}x{height} is more than the {most:,} pixels that are decoded")
    if count > USUAL_PIXELS and count > PIXELS_PER_BYTE * size_bytes and not trusted:
        claim = f"claims {width}x{height} pixels in {size_bytes:,} bytes, which looks like a decompression bomb"
        raise DataError(f"{where}: {claim}; if you trust the file, predict takes it with --trusted")


def check_size(found: tuple[int, ...], promised: tuple[int, int] | None, where: str | Path) -> None:
    """Refuse, with a DataError, an image of another width and height than its record promises, if it does."""
    if promised is not None and found != promised:
        said, has = "x".join(map(str, promised)), "x".join(map(str, found))
        raise DataError(f"{where}: the record says {said} pixels, the image has {has}")


def _decode_jpeg(
    data: bytes, where: str | Path, header: JpegHeader, at_least: tuple[int, int], faults: Faults
) -> Pixels:
    """Decode straight to BGR."""
    import simplejpeg

    if faults != "mend":
        check_whole(data, header, where)
    options = {"min_width": at_least[0], "min_height": at_least[1]}
    try:
        return np.asarray(simplejpeg.decode_jpeg(data, "BGR", **options), np.uint8)
    except ValueError as error:
        if faults == "refuse" or (faults == "small" and "extraneous bytes" not in str(error)):
            raise DataError(f"{where}: the JPEG is damaged: {error}") from error
    try:
        return np.asarray(simplejpeg.decode_jpeg(data, "BGR", strict=False, **options), np.uint8)
    except ValueError:  # it mends no header
        return _decode_other(_open(data, where)[0], where, "JPEG", turned=False)


def _open(data: bytes, where: str | Path) -> tuple[Any, str]:
    """Return Pillow's lazily read image and its format; only the reader of the recognised format is used."""
    if not data:
        raise DataError(f"{where}: is empty")
    known = format_of(data)
    if known is None:
        names = ", ".join(name for name, *_ in FORMATS)
        raise DataError(f"{where}: is not a picture of a known format ({names})")
    name, reader = known
    with _damage(where, name):
        module = _heif_reader(where) if name == "HEIC" else importlib.import_module(f"PIL.{reader}ImagePlugin")
        return getattr(module, f"{reader}ImageFile")(io.BytesIO(data)), name


def _heif_reader(where: str | Path) -> Any:
    """Return the module that reads HEIC pictures; it turns them as their file says, and clears the EXIF tag."""
    try:
        return require("pillow_heif.as_plugin", "heic")
    except EngineError as error:
        raise DataError(f"{where}: is a HEIC picture: {error}") from error


@contextmanager
def _damage(where: str | Path, name: str, size: str = "its") -> Iterator[None]:
    """Turn what Pillow raises on a damaged file of the format into a DataError."""
    from PIL.Image import DecompressionBombError

    try:
        yield
    except DataError:
        raise
    except DecompressionBombError as error:
        raise DataError(f"{where}: a frame of the {name} file is far larger than the picture") from error
    except MemoryError as error:
        raise DataError(f"{where}: there is not enough memory for {size} pixels") from error
    except _DAMAGE as error:
        raise DataError(f"{where}: the {name} file is damaged or truncated ({error})") from error


def _check_png(data: bytes, where: str | Path) -> None:
    """Refuse a PNG with a wrong checksum or without its end; Pillow looks at neither for the pixels."""
    position, kind = 8, b""
    while kind != b"IEND":
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        kind, checksum = data[position + 4 : position + 8], data[end : end + 4]
        if len(checksum) < 4:
            raise DataError(f"{where}: the PNG file is damaged or truncated: it has no end")
        if zlib.crc32(memoryview(data)[position + 4 : end]) != int.from_bytes(checksum, "big"):
            raise DataError(f"{where}: the PNG file is damaged: a checksum is wrong before byte {end:,}")
        position = end + 4


def _decode_other(image: Image, where: str | Path, name: str, turned: bool) -> Pixels:
    """Decode with Pillow."""
    with _damage(where, name, "x".join(map(str, image.size))):
        orientation = _orientation(image) if name == "TIFF" else 1
        image.load()
        pixels = to_bgr(where, image)
        if name == "TIFF":  # Pillow turned it, and forgot the tag
            return pixels if turned else turn(pixels, {6: 8, 8: 6}.get(orientation, orientation))
        return turn(pixels, _orientation(image)) if turned else pixels


def to_bgr(where: str | Path, image: Image) -> Pixels:
    """Return the pixels of a loaded image of any mode."""
    import cv2

    if image.mode.startswith("I"):
        values = np.asarray(image)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 0xFFFF:
            raise DataError(f"{where}: its pixels are not in 0–65535; save it with 8 or 16 bits per channel")
        values = values >> 8 if image.mode != "I" or high > 0xFF else values  # 32 bits may hold values of 8 bits
        return np.asarray(cv2.cvtColor(values.astype(np.uint8), cv2.COLOR_GRAY2BGR), np.uint8)
    if image.mode == "F":
        raise DataError(f"{where}: its pixels are floating point; save it with 8 or 16 bits per channel")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        from PIL.Image import new

        image = image.convert("RGBA")
        paper = new("RGB", image.size, "white")
        paper.paste(image, mask=image.getchannel("A"))
        image = paper
    pixels = np.array(image if image.mode == "RGB" else image.convert("RGB"))
    cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR, dst=pixels)
    return pixels


def _orientation(image: Image) -> int:
    """Return the EXIF orientation that Pillow finds, 1–8; 1 where the tag is missing or unreadable."""
    try:
        value = image.getexif().get(ORIENTATION_TAG, 1)
    except _DAMAGE:
        return 1
    return value if value in range(1, 9) else 1


def turn(pixels: Pixels, orientation: int) -> Pixels:
    """Return the image as a viewer that obeys EXIF `orientation` 1–8 shows it."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    flip_rows, flip_columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1])


def encode(pixels: Pixels, quality: int) -> bytes:
    """Return `(H, W, 3)` uint8 BGR pixels as a JPEG."""
    import simplejpeg

    data: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, "BGR", "420")
    return data


def shrink(pixels: Pixels, width: int, height: int) -> Pixels:
    """Return the image at a smaller size, each new pixel the mean of those it covers."""
    import cv2

    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
