"""What runs a network. Each engine is one file behind one small interface; MXNet is the default.

An engine takes images as uint8 `(B, H, W, 3)` in BGR order and returns one `BranchMaps` per branch.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lffd.errors import UsageError


class BranchMaps(NamedTuple):
    """What one branch says about a batch.

    Attributes:
        scores: object probability, float32 `(B, h, w)`, 0–1.
        boxes: box code, float32 `(B, 4, h, w)`; `BranchGeometry.decode` turns it into pixels.
    """

    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]


class Engine(Protocol):
    """Runs a deployed network."""

    name: str
    device: str

    def run(self, images: NDArray[np.uint8]) -> list[BranchMaps]:
        """Return one `BranchMaps` per branch, shallowest first, for images `(B, H, W, 3)` uint8 BGR."""
        ...


def check_images(images: NDArray[np.uint8]) -> None:
    """Refuse anything but a uint8 batch `(B, H, W, 3)`.

    Raises:
        UsageError: with the shape and type that came.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or images.shape[0] < 1:
        raise UsageError(f"images must be uint8 (B, H, W, 3) in BGR order, not {images.dtype} {images.shape}")
