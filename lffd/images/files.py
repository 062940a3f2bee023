"""Image files: users' pictures, images of test sets, sizes, and folders."""

from __future__ import annotations

import os
from pathlib import Path

from lffd.errors import DataError
from lffd.images.encoded import MAX_PIXELS, SIGNATURE_BYTES, Pixels, decode, format_of, image_size
from lffd.images.jpeg import is_jpeg
from lffd.untrusted import read_file

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".heic", ".heif"})
HEADER_PREFIX = 1 << 18


def read_picture(path: str | os.PathLike[str], trusted: bool = False) -> Pixels:
    """Return a user's picture as `(H, W, 3)` uint8, BGR, the right way up; `trusted` as for `decode`.

    Raises:
        DataError: when the file cannot be read, is no picture, ends early, is damaged, or has too many pixels.
    """
    return decode_picture(read_file(path), str(path), trusted)


def decode_picture(data: bytes, where: str, trusted: bool = False) -> Pixels:
    """Return a user's picture from its bytes, as `read_picture` does; `where` names it in errors."""
    return decode(data, where, turned=True, faults="small", most=MAX_PIXELS, trusted=trusted)


def read_image(path: Path) -> Pixels:
    """Return an image of a test set `(H, W, 3)` uint8, BGR, as stored, whatever its EXIF tag says: annotations do so.

    A JPEG with a fault that its decoder can mend is mended, as in the official programs; else DataError is raised.
    """
    return decode(read_file(path), path, faults="mend", most=MAX_PIXELS)


def is_picture(path: str | os.PathLike[str]) -> bool:
    """Say whether a readable file starts like a picture of a known format."""
    try:
        return format_of(read_file(path, SIGNATURE_BYTES)) is not None
    except DataError:
        return False


def read_size(path: Path, turned: bool) -> tuple[int, int]:
    """Return the width and height of an image file, decoding nothing; arguments and errors as for `image_size`."""
    data = read_file(path, HEADER_PREFIX)
    try:
        if is_jpeg(data):
            return image_size(data, path, turned)
    except DataError:  # the header may be longer
        pass
    return image_size(read_file(path), path, turned)


def list_images(folder: Path) -> list[Path]:
    """Return every image file under a folder, sorted; raises DataError when there is no folder or no image in it."""
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError(f"{folder}: holds no image ({', '.join(sorted(SUFFIXES))})")
    return files
