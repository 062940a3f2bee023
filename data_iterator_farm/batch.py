"""What a batch is, and the memory it is made in."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lffd.graphs.network import Network
from lffd.training.losses import TARGET_CHANNELS


@dataclass(frozen=True)
class Batch:
    """One batch of training crops with their labels; `B` crops of side `S`, branch maps of `h` × `w` cells.

    Attributes:
        index: position in the endless stream of batches, from 0.
        names: of the records in each crop; those of a mosaic joined by ` + `.
        images: `(B, S, S, 3)` uint8, BGR.
        targets: per branch, by output name; `A` predictions per cell. `score`: int8 `(B, A, h, w)`, 1 positive, 0
            background, −1 ignored. `box`: float32 `(B, 4A, h, w)` box codes, 0 where not positive. `landmarks`, where
            the network has them: float32 `(B, 11A, h, w)`, ten coordinates and whether they are known.
        faces: `(B,)` int32: boxes in each crop that are not ignored.
    """

    index: int
    names: tuple[str, ...]
    images: NDArray[np.uint8]
    targets: tuple[dict[str, NDArray[Any]], ...]
    faces: NDArray[np.int32]


TargetShapes = Sequence[Mapping[str, tuple[tuple[int, ...], Any]]]
"""Per branch, by output name: shape without the batch, and type."""


def target_shapes(network: Network, size: int) -> list[dict[str, tuple[tuple[int, ...], Any]]]:
    """Return what the targets of crops of `size` pixels look like; see `TargetShapes`."""
    types = {name: np.int8 if name == "score" else np.float32 for name in network.outputs}
    return [
        {name: ((TARGET_CHANNELS[name] * network.predictions, *shape), types[name]) for name in network.outputs}
        for shape in network.map_sizes(size, size)
    ]


class BatchMemory:
    """Gives new batches their arrays.

    The images of a batch that nobody refers to any more are used again, because memory fresh from the system has to
    be cleared page by page first. The reference count says so; a batch may be kept for any time.

    Args:
        batch_size: crops per batch.
        size: side of the crops in pixels.
        targets: what each branch is taught.
        keep: how many arrays of images are kept at most for use again.
    """

    def __init__(self, batch_size: int, size: int, targets: TargetShapes, keep: int) -> None:
        self._images_shape = (batch_size, size, size, 3)
        self._targets, self._keep = targets, keep
        self._kept: list[NDArray[np.uint8]] = []

    def batch(self, index: int) -> Batch:
        """Return batch `index` without names: labels all background, images of undefined content."""
        count = self._images_shape[0]
        shapes = {
            (branch, name): (count, *shape)
            for branch, said in enumerate(self._targets)
            for name, (shape, kind) in said.items()
            if kind is np.float32
        }
        # In one block the codes come as fresh zero pages, of which only the few with positive cells are ever touched.
        sizes = [math.prod(shape) for shape in shapes.values()]
        parts = np.split(np.zeros(sum(sizes), np.float32), np.cumsum(sizes)[:-1])
        made = {key: part.reshape(shape) for (key, shape), part in zip(shapes.items(), parts, strict=True)}
        targets = tuple(
            {
                name: made[branch, name] if (branch, name) in made else np.zeros((count, *shape), kind)
                for name, (shape, kind) in said.items()
            }
            for branch, said in enumerate(self._targets)
        )
        return Batch(index, (), self._images()[:], targets, np.zeros(count, np.int32))

    def _images(self) -> NDArray[np.uint8]:
        """Return an array of images of which no view is left."""
        for images in self._kept:
            # The list, this variable and the call hold one reference each, every view of the array another one.
            if sys.getrefcount(images) == 3:
                return images
        images = np.empty(self._images_shape, np.uint8)  # unlike np.zeros, in huge pages
        self._kept = [*self._kept, images][-self._keep :]
        return images
