"""Named arrays on one MXNet device kept in one vector, so that one operator updates all of them.

The arrays that a graph is bound to stay apart: oneDNN gives them layouts of its own, which views of a vector cannot
take. Copies between the two are cheap beside a training step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lffd.engines.mxnet_engine import import_mxnet
from lffd.training.flat import Flat


class FlatArrays(Flat):
    """Named float32 arrays as one-dimensional views of one vector; see `Flat`."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], context: Any) -> None:
        super().__init__(shapes)
        self.vector = import_mxnet().nd.zeros((max(self.size, 1),), ctx=context)
        self._views = {n: self.vector[at : at + math.prod(shapes[n])] for n, at in self.starts.items()}

    def _put(self, name: str, value: NDArray[Any]) -> None:
        self._views[name][:] = np.ravel(value)

    def _get(self, name: str) -> NDArray[np.float32]:
        host: NDArray[np.float32] = self._views[name].asnumpy().reshape(self.shapes[name])
        return host

    def gather(self, arrays: Mapping[str, Any]) -> None:
        """Copy device arrays of the same names and shapes in.

        Multiplying by 1 is the copy: an operator first brings an array out of oneDNN's own (padded) layout, which
        plain copies and reshapes of MXNet 1.9.1 do not.
        """
        multiply = import_mxnet().nd._internal._mul_scalar
        for name, view in self._views.items():
            multiply(arrays[name], scalar=1.0, out=view.reshape(self.shapes[name]))

    def scatter(self, arrays: Mapping[str, Any]) -> None:
        """Copy out into device arrays of the same names and shapes, on any device."""
        for name, view in self._views.items():
            view.reshape(self.shapes[name]).copyto(arrays[name])
