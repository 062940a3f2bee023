"""Named arrays on one MXNet device as views of one vector, so that one operator updates all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ALIGN = 16
"""Every array starts at a multiple of so many floats (64 bytes) in the flat vector."""


class FlatArrays:
    """Named arrays that are views of one vector on one device, so that one operator updates all of them."""

    def __init__(self, mx: ModuleType, shapes: Mapping[str, tuple[int, ...]], context: Any) -> None:
        self.shapes = dict(shapes)
        starts, end = {}, 0
        for name, shape in shapes.items():
            starts[name] = end
            end += -(-math.prod(shape) // _ALIGN) * _ALIGN
        self.vector = mx.nd.zeros((max(end, 1),), ctx=context)
        self.views = {
            name: self.vector[start : start + math.prod(self.shapes[name])].reshape(self.shapes[name])
            for name, start in starts.items()
        }

    def fill(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Copy host arrays in, by name."""
        for name, view in self.views.items():
            view[:] = arrays[name]

    def read(self) -> dict[str, NDArray[np.float32]]:
        """Return host copies by name."""
        return {name: view.asnumpy() for name, view in self.views.items()}
