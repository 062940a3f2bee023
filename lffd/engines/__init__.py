"""What runs a network. Each engine is one file behind one small interface.

An engine takes images as uint8 `(B, H, W, 3)` in BGR order and returns what each branch says, by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lffd.errors import UsageError

BranchMaps = Mapping[str, NDArray[np.float32]]
"""What one branch says about a batch, by output name, float32 `(B, channels, h, w)`: `score`, the probability of an
object for each prediction of a cell, 0–1; `box`, their box codes, four channels each, which `BranchGeometry.decode`
turns into pixels; and whatever else the network has."""


class Engine(Protocol):
    """Runs a deployed network."""

    name: str
    device: str

    def run(self, images: NDArray[np.uint8]) -> list[BranchMaps]:
        """Return what each branch says, shallowest first, for images `(B, H, W, 3)` uint8 BGR."""
        ...


def check_images(images: NDArray[np.uint8]) -> None:
    """Refuse anything but a uint8 batch `(B, H, W, 3)`.

    Raises:
        UsageError: with the shape and type that came.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or images.shape[0] < 1:
        raise UsageError(f"images must be uint8 (B, H, W, 3) in BGR order, not {images.dtype} {images.shape}")
