"""What a batch is, and the memory it is made in."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Batch:
    """One batch of training crops with their labels; `B` crops of side `S`, branch maps of `h` × `w` cells.

    Attributes:
        index: position in the endless stream of batches, from 0.
        names: of the records in each crop; those of a mosaic joined by ` + `.
        images: `(B, S, S, 3)` uint8, BGR.
        classes: per branch `(B, h, w)` int8: 1 positive, 0 background, -1 ignored.
        boxes: per branch `(B, 4, h, w)` float32 box codes, 0 where not positive.
        faces: `(B,)` int32: boxes in each crop that are not ignored.
    """

    index: int
    names: tuple[str, ...]
    images: NDArray[np.uint8]
    classes: tuple[NDArray[np.int8], ...]
    boxes: tuple[NDArray[np.float32], ...]
    faces: NDArray[np.int32]


class BatchMemory:
    """Gives new batches their arrays.

    The images of a batch that nobody refers to any more are used again, because memory fresh from the system has to
    be cleared page by page first. The reference count says so; a batch may be kept for any time.

    Args:
        batch_size: crops per batch.
        size: side of the crops in pixels.
        shapes: `(h, w)` of each branch's map.
        keep: how many arrays of images are kept at most for use again.
    """

    def __init__(self, batch_size: int, size: int, shapes: Sequence[tuple[int, int]], keep: int) -> None:
        self._images_shape = (batch_size, size, size, 3)
        self._shapes, self._keep = tuple(shapes), keep
        self._kept: list[NDArray[np.uint8]] = []

    def batch(self, index: int) -> Batch:
        """Return batch `index` without names: labels all background, images of undefined content."""
        count = self._images_shape[0]
        sizes = [count * 4 * height * width for height, width in self._shapes]
        # In one block the codes come as fresh zero pages, of which only the few with positive cells are ever touched.
        codes = np.split(np.zeros(sum(sizes), np.float32), np.cumsum(sizes)[:-1])
        return Batch(
            index,
            (),
            self._images()[:],
            tuple(np.zeros((count, *shape), np.int8) for shape in self._shapes),
            tuple(code.reshape(count, 4, *shape) for code, shape in zip(codes, self._shapes, strict=True)),
            np.zeros(count, np.int32),
        )

    def _images(self) -> NDArray[np.uint8]:
        """Return an array of images of which no view is left."""
        for images in self._kept:
            # The list, this variable and the call hold one reference each, every view of the array another one.
            if sys.getrefcount(images) == 3:
                return images
        images = np.empty(self._images_shape, np.uint8)  # unlike np.zeros, in huge pages
        self._kept = [*self._kept, images][-self._keep :]
        return images
