"""Decode any picture that a user may have, or say what is wrong with it, in bounded memory.

Unlike the readers of test sets, this one turns pictures as their EXIF tag says and refuses those that end early.
The format is told from the first bytes, never from the name; sizes are checked before a pixel is decoded.
"""

from __future__ import annotations

import importlib
import io
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lffd.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]

MAX_PIXELS = 1 << 30
MAX_FILE_BYTES = 1 << 32

USUAL_PIXELS = 1 << 27
"""Larger images must have a file in proportion, or they are taken for decompression bombs."""

PIXELS_PER_BYTE = 100
"""A photograph needs a byte for 5–40 pixels; an empty PNG one for 340, an empty JPEG one for 80."""

_FORMATS: tuple[tuple[str, int, bytes, str], ...] = (
    ("JPEG", 0, b"\xff\xd8\xff", "PIL.JpegImagePlugin:JpegImageFile"),
    ("PNG", 0, b"\x89PNG\r\n\x1a\n", "PIL.PngImagePlugin:PngImageFile"),
    ("GIF", 0, b"GIF8", "PIL.GifImagePlugin:GifImageFile"),
    ("BMP", 0, b"BM", "PIL.BmpImagePlugin:BmpImageFile"),
    ("TIFF", 0, b"II*\0", "PIL.TiffImagePlugin:TiffImageFile"),
    ("TIFF", 0, b"MM\0*", "PIL.TiffImagePlugin:TiffImageFile"),
    ("WebP", 8, b"WEBP", "PIL.WebPImagePlugin:WebPImageFile"),
)
"""Name, where the signature stands, the signature, and Pillow's reader."""

_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, OverflowError, struct.error)
"""What Pillow's readers raise on damaged files; Pillow's own opener expects most of these too."""

_ORIENTATION_TAG = 0x0112


def read_picture(path: str | os.PathLike[str], trusted: bool = False) -> Pixels:
    """Return a picture as `(H, W, 3)` uint8, BGR, the right way up.

    16-bit values keep their upper byte, transparent pixels are shown on white, of an animation the first frame is
    read.

    Args:
        path: a regular file.
        trusted: accept sizes that are out of proportion to the file.

    Raises:
        DataError: when the file cannot be read, is no picture, ends early, is damaged, or has too many pixels.
    """
    file = Path(path)
    try:
        if not file.is_file():
            raise DataError(f"{path}: " + ("is not a file" if file.exists() else "does not exist"))
        size = file.stat().st_size
        with file.open("rb") as stream:
            start = stream.read(16)
            name, reader = _recognise(file, start, size)
            stream.seek(0)
            data = stream.read()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    with _open(file, name, reader, data) as image:
        _check_size(file, image.size, size, trusted)
        try:
            if name == "JPEG" and image.mode in ("L", "RGB"):
                return _decode_jpeg(file, data, image)
            return _decode(file, name, image)
        except MemoryError as error:
            raise DataError(f"{file}: there is not enough memory for {image.size[0]}x{image.size[1]} pixels") from error


def is_picture(path: str | os.PathLike[str]) -> bool:
    """Say whether a readable file starts like a picture of a known format."""
    try:
        with Path(path).open("rb") as stream:
            start = stream.read(16)
    except OSError:
        return False
    return any(start[at : at + len(mark)] == mark for _, at, mark, _ in _FORMATS)


def _recognise(file: Path, start: bytes, size: int) -> tuple[str, str]:
    """Return the format's name and reader."""
    if not size:
        raise DataError(f"{file}: is empty")
    if size > MAX_FILE_BYTES:
        raise DataError(f"{file}: has {size:,} bytes, more than the {MAX_FILE_BYTES:,} that are read")
    for name, at, mark, reader in _FORMATS:
        if start[at : at + len(mark)] == mark:
            return name, reader
    known = ", ".join(dict.fromkeys(entry[0] for entry in _FORMATS))
    raise DataError(f"{file}: is not a picture of a known format ({known})")


def _open(file: Path, name: str, reader: str, data: bytes) -> Any:
    """Return Pillow's lazily read image; only the reader of the recognised format is used."""
    from PIL.Image import DecompressionBombError

    module, _, cls = reader.partition(":")
    try:
        return getattr(importlib.import_module(module), cls)(io.BytesIO(data))
    except (*_DAMAGE, DecompressionBombError) as error:
        raise DataError(f"{file}: the {name} file is damaged ({error})") from error


def _check_size(file: Path, shape: tuple[int, int], size: int, trusted: bool) -> None:
    """Refuse what would take too much memory."""
    width, height = shape
    count = width * height
    if count < 1:
        raise DataError(f"{file}: has no pixels ({width}x{height})")
    if count > MAX_PIXELS:
        raise DataError(f"{file}: {width}x{height} is more than the {MAX_PIXELS:,} pixels that are decoded")
    if count > USUAL_PIXELS and count > PIXELS_PER_BYTE * size and not trusted:
        raise DataError(
            f"{file}: claims {width}x{height} pixels in {size:,} bytes, which looks like a decompression bomb; "
            "if you trust the file, allow it with --trusted"
        )


def _decode_jpeg(file: Path, data: bytes, header: Image) -> Pixels:
    """Decode straight to BGR; small faults are mended as everywhere, an early end is not."""
    import simplejpeg

    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, "BGR")
    except ValueError as error:
        if "Premature end" in str(error):
            raise DataError(f"{file}: the JPEG file is truncated: it ends before its last pixel") from error
        return _decode(file, "JPEG", header)
    return _turn(pixels, _orientation(header))


def _decode(file: Path, name: str, image: Image) -> Pixels:
    """Decode with Pillow."""
    from PIL.Image import DecompressionBombError

    try:
        orientation = _orientation(image)
        image.load()
        if name == "TIFF":
            orientation = 1  # Pillow turns these itself
        return _turn(_to_bgr(file, image), orientation)
    except DataError:
        raise
    except DecompressionBombError as error:
        raise DataError(f"{file}: a frame of the {name} file is far larger than the picture") from error
    except _DAMAGE as error:
        raise DataError(f"{file}: the {name} file is damaged or truncated ({error})") from error


def _to_bgr(file: Path, image: Image) -> Pixels:
    """Return the pixels of a loaded image of any mode."""
    import cv2

    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise DataError(f"{file}: its pixels are not in 0–65535; save it with 8 or 16 bits per channel")
        return np.asarray(cv2.cvtColor((values >> 8).astype(np.uint8), cv2.COLOR_GRAY2BGR), np.uint8)
    if image.mode == "F":
        raise DataError(f"{file}: its pixels are floating point; save it with 8 or 16 bits per channel")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = _on_white(image.convert("RGBA"))
    elif image.mode != "RGB":
        image = image.convert("RGB")
    pixels = np.array(image)
    cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR, dst=pixels)
    return pixels


def _on_white(image: Image) -> Image:
    """Return an RGBA image as a viewer shows it on white paper."""
    from PIL.Image import new

    paper = new("RGB", image.size, "white")
    paper.paste(image, mask=image.getchannel("A"))
    return paper


def _orientation(image: Image) -> int:
    """Return the EXIF orientation, 1–8; 1 where the tag is missing or unreadable."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except _DAMAGE:
        return 1
    return value if value in range(1, 9) else 1


def _turn(pixels: Pixels, orientation: int) -> Pixels:
    """Return the picture the right way up: 2–4 mirror or turn it, 5–8 swap its sides as well."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    flip_rows = orientation in (3, 4, 7, 8)
    flip_columns = orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1])
