"""Named arrays on one MXNet device kept in one vector, so that one operator updates all of them.

The arrays that a graph is bound to stay apart: oneDNN gives them layouts of its own, which views of a vector cannot
take. Copies between the two are cheap beside a training step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray


class FlatArrays:
    """Named float32 arrays as views of one vector.

    Attributes:
        shapes: shape of each array.
        vector: all of them, one after the other.
        views: each of them, `(size,)`, sharing memory with the vector.
    """

    def __init__(self, mx: ModuleType, shapes: Mapping[str, tuple[int, ...]], context: Any) -> None:
        self._mx = mx
        self.shapes = dict(shapes)
        sizes = [math.prod(shape) for shape in shapes.values()]
        self.vector = mx.nd.zeros((max(sum(sizes), 1),), ctx=context)
        ends = np.cumsum(sizes).tolist()
        self.views = {name: self.vector[end - size : end] for name, size, end in zip(shapes, sizes, ends, strict=True)}

    def fill(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Copy host arrays in, by name."""
        for name, view in self.views.items():
            view[:] = np.ravel(arrays[name])

    def read(self) -> dict[str, NDArray[np.float32]]:
        """Return host copies by name."""
        return {name: view.asnumpy().reshape(self.shapes[name]) for name, view in self.views.items()}

    def gather(self, arrays: Mapping[str, Any]) -> None:
        """Copy device arrays of the same names and shapes in.

        Multiplying by 1 is the copy: an operator first brings an array out of oneDNN's own (padded) layout, which
        plain copies and reshapes of MXNet 1.9.1 do not.
        """
        for name, view in self.views.items():
            self._mx.nd._internal._mul_scalar(arrays[name], scalar=1.0, out=view.reshape(self.shapes[name]))

    def scatter(self, arrays: Mapping[str, Any]) -> None:
        """Copy out into device arrays of the same names and shapes, on any device."""
        for name, view in self.views.items():
            view.reshape(self.shapes[name]).copyto(arrays[name])


def zeros(mx: ModuleType, shapes: Mapping[str, tuple[int, ...]], context: Any) -> dict[str, Any]:
    """Return arrays of zeros on one device, by name."""
    return {name: mx.nd.zeros(shape, ctx=context) for name, shape in shapes.items()}


def decay_mask(mx: ModuleType, params: FlatArrays) -> Any:
    """Return 1 where weight decay acts (convolution weights) and 0 elsewhere, as a flat vector."""
    mask = FlatArrays(mx, params.shapes, params.vector.context)
    mask.fill({name: np.full(shape, float(name.endswith("_weight"))) for name, shape in params.shapes.items()})
    return mask.vector
