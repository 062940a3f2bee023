"""What a batch is, and how it lies in memory."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_iterator_farm.policies import Policies
from data_iterator_farm.rendering import Origin
from lffd.errors import UsageError
from lffd.graphs.network import Network
from lffd.training.losses import TARGET_CHANNELS

_ALIGN = 64


@dataclass(frozen=True)
class Batch:
    """One batch of training crops with their labels; `B` crops of side `S`, branch maps of `h` × `w` cells.

    Attributes:
        index: position in the endless stream of batches, from 0.
        origins: of each crop's pixels: one, or the four tiles of a mosaic.
        images: `(B, S, S, 3)` uint8, BGR.
        targets: per branch, by output name; `A` predictions per cell. `score`: int8 `(B, A, h, w)`, 1 positive, 0
            background, −1 ignored, −2 ignored but taught its box. `box`: float32 `(B, 4A, h, w)` box codes, else 0.
            `landmarks`, where the network has them: float32 `(B, 11A, h, w)`, ten coordinates and whether they are
            known.
        faces: `(B,)` int32: boxes in each crop that are not ignored.
    """

    index: int
    origins: tuple[tuple[Origin, ...], ...]
    images: NDArray[np.uint8]
    targets: tuple[dict[str, NDArray[Any]], ...]
    faces: NDArray[np.int32]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the records in each crop; those of a mosaic joined by ` + `."""
        return tuple(" + ".join(origin.name for origin in tiles) for tiles in self.origins)


@dataclass(frozen=True)
class BatchPlan:
    """What the batches of a run are, whoever makes them.

    Attributes:
        network: whose branches are labelled and whose ranges the sampling follows.
        policies: how crops are made and labelled; `policies.preset` gives them by name.
        batch_size: crops per batch (of this worker).
        input_size: side of the square crops in pixels.
        seed: of every random choice.
        rank, size: this worker's number and how many there are. Together, the workers' batches `i` are exactly the
            batch `i` of one worker with `size` times the batch size.
        skip_bad_records: replace a record that cannot be used by another one; each is logged once.
    """

    network: Network
    policies: Policies
    batch_size: int
    input_size: int
    seed: int
    rank: int = 0
    size: int = 1
    skip_bad_records: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if self.batch_size < 1 or not 0 <= self.rank < self.size or self.seed < 0:
            raise UsageError(
                f"batch size {self.batch_size} must be at least 1, seed {self.seed} at least 0, "
                f"and rank {self.rank} below size {self.size}"
            )


def target_shapes(network: Network, size: int) -> list[dict[str, tuple[tuple[int, ...], Any]]]:
    """Return the shape without the batch, and type, of the targets of crops of `size` pixels, by branch and output."""
    types = {name: np.int8 if name == "score" else np.float32 for name in network.outputs}
    return [
        {name: ((TARGET_CHANNELS[name] * count, *shape), types[name]) for name in network.outputs}
        for shape, count in zip(network.map_sizes(size, size), network.predictions, strict=True)
    ]


class Layout:
    """Where the arrays of a batch lie in bytes: targets branch by branch, numbers of faces, images.

    Attributes:
        targets: what each branch is taught, see `target_shapes`.
        label_bytes, image_bytes: how many a batch takes.
    """

    def __init__(self, plan: BatchPlan) -> None:
        self.targets = target_shapes(plan.network, plan.input_size)
        self._images_shape = (plan.batch_size, plan.input_size, plan.input_size, 3)
        kinds = [kind for said in self.targets for kind in said.values()]
        self._fields: list[tuple[tuple[int, ...], Any, slice]] = []
        self.label_bytes, self.image_bytes = 0, math.prod(self._images_shape)
        for one, kind in [*kinds, ((), np.int32)]:
            shape = (plan.batch_size, *one)
            end = self.label_bytes + math.prod(shape) * np.dtype(kind).itemsize
            self._fields.append((shape, kind, slice(self.label_bytes, end)))
            self.label_bytes = -(-end // _ALIGN) * _ALIGN

    def batch(
        self,
        index: int,
        origins: tuple[tuple[Origin, ...], ...],
        memory: NDArray[np.uint8],
        images: NDArray[np.uint8] | None = None,
    ) -> Batch:
        """Return the batch that lies in these bytes, its `images` perhaps elsewhere; labels of 0 are background."""
        arrays = iter([memory[part].view(kind).reshape(shape) for shape, kind, part in self._fields])
        targets = tuple({name: next(arrays) for name in said} for said in self.targets)
        if images is None:
            images = memory[self.label_bytes :][: self.image_bytes]  # the system may have rounded the block up
        return Batch(index, origins, images.reshape(self._images_shape), targets, next(arrays))


class BatchMemory:
    """Gives new batches their arrays.

    The images of a batch that nobody refers to any more are used again, because memory fresh from the system has to
    be cleared page by page first. The reference count says so; a batch may be kept for any time. At most `keep` arrays
    of images are kept for use again.
    """

    def __init__(self, layout: Layout, keep: int) -> None:
        self._layout, self._keep = layout, keep
        self._kept: list[NDArray[np.uint8]] = []

    def batch(self, index: int) -> Batch:
        """Return batch `index` without origins: labels all background, images of undefined content."""
        # In one block the labels come as fresh zero pages; of the codes, only few are ever touched.
        return self._layout.batch(index, (), np.zeros(self._layout.label_bytes, np.uint8), self._images())

    def _images(self) -> NDArray[np.uint8]:
        """Return an array of images of which no view is left."""
        for images in self._kept:
            # The list, this variable and the call hold one reference each, every view of the array another one.
            if sys.getrefcount(images) == 3:
                return images
        images = np.empty(self._layout.image_bytes, np.uint8)  # unlike np.zeros, in huge pages
        self._kept = [*self._kept, images][-self._keep :]
        return images
