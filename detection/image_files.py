"""Reading the images of a test set: as stored, in order, ahead of the detector."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lffd.ahead import map_ahead
from lffd.errors import DataError


def read_image(path: Path) -> NDArray[np.uint8]:
    """Return an image `(H, W, 3)` uint8, BGR, as stored, whatever its EXIF tag says: annotations go by that.

    A JPEG with a fault that its decoder can mend is mended, as in the official programs.

    Raises:
        DataError: when it cannot be read or decoded.
    """
    import cv2

    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if data.size else None
    except cv2.error as error:
        raise DataError(f"{path}: cannot be decoded ({error.err})") from error
    if pixels is None:
        raise DataError(f"{path}: is not an image that can be decoded")
    return np.asarray(pixels, np.uint8)


def load_ahead(paths: Iterable[Path]) -> Iterator[NDArray[np.uint8]]:
    """Return an iterator over the image of each path in order, decoding the next ones in a thread meanwhile.

    Raises:
        DataError: at the image that cannot be read.
    """
    return map_ahead(read_image, paths)
