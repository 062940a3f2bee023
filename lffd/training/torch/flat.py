"""Named tensors as views of one vector, so that one operation updates or exchanges all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ALIGN = 64
"""Every tensor starts at a multiple of so many floats (256 bytes), as convolution libraries want it."""


class FlatTensors:
    """Named float32 tensors that are views of one vector; those of four dimensions lie there channels-last.

    Attributes:
        shapes: by name, in the order in which they lie in the vector.
        vector: all of them, with zeros between.
        views: by name.
        starts: where each begins in the vector.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], device: torch.device) -> None:
        self.shapes = dict(shapes)
        self.starts: dict[str, int] = {}
        end = 0
        for name, shape in shapes.items():
            self.starts[name] = end
            end += -(-math.prod(shape) // _ALIGN) * _ALIGN
        self.vector = torch.zeros(end, device=device)
        self.views = {
            name: _view(self.vector[start : start + math.prod(shapes[name])], shapes[name])
            for name, start in self.starts.items()
        }

    def fill(self, arrays: Mapping[str, NDArray[Any]], prefix: str = "") -> None:
        """Copy host arrays in; that of view `name` is `arrays[prefix + name]`."""
        for name, view in self.views.items():
            view.copy_(torch.from_numpy(np.array(arrays[prefix + name], np.float32)))

    def read(self, prefix: str = "") -> dict[str, NDArray[np.float32]]:
        """Return host copies by `prefix` + name."""
        host = self.vector.cpu()
        copies = {}
        for name, view in self.views.items():
            part = host.as_strided(view.shape, view.stride(), view.storage_offset())
            copies[prefix + name] = np.array(part.numpy(), order="C")
        return copies

    def pack(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return one-dimensional tensors of these names as a new vector in the same order, zeros between."""
        parts = []
        for name in self.views:
            parts.append(tensors[name])
            if gap := -tensors[name].numel() % _ALIGN:
                parts.append(tensors[name].new_zeros(gap))
        return torch.cat(parts)

    def like(self) -> FlatTensors:
        """Return zeros of the same names and shapes."""
        return FlatTensors(self.shapes, self.vector.device)


def _view(part: Tensor, shape: tuple[int, ...]) -> Tensor:
    if len(shape) != 4:
        return part.view(shape)
    filters, channels, height, width = shape
    return part.view(filters, height, width, channels).permute(0, 3, 1, 2)
