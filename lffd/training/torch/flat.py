"""Named tensors as views of one vector, so that one operation updates or exchanges all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lffd.training.flat import Flat

_ALIGN = 64
"""Every tensor starts at a multiple of so many floats (256 bytes), as convolution libraries want it."""


class FlatTensors(Flat):
    """Named float32 tensors that are views of one vector; see `Flat`. Those of four dimensions are channels-last.

    Attributes:
        views: by name.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], device: torch.device) -> None:
        super().__init__(shapes, _ALIGN)
        self.vector = torch.zeros(self.size, device=device)
        self.views = {
            name: _view(self.vector[start : start + math.prod(shapes[name])], shapes[name])
            for name, start in self.starts.items()
        }

    def _put(self, name: str, value: NDArray[Any]) -> None:
        self.views[name].copy_(torch.from_numpy(np.array(value, np.float32)))

    def _get(self, name: str) -> NDArray[np.float32]:
        return np.array(self.views[name].cpu().numpy(), order="C")

    def pack(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return one-dimensional tensors of these names as a new vector in the same order, zeros between."""
        parts = []
        for name in self.views:
            parts.append(tensors[name])
            if gap := -tensors[name].numel() % _ALIGN:
                parts.append(tensors[name].new_zeros(gap))
        return torch.cat(parts)


def _view(part: Tensor, shape: tuple[int, ...]) -> Tensor:
    if len(shape) != 4:
        return part.view(shape)
    filters, channels, height, width = shape
    return part.view(filters, height, width, channels).permute(0, 3, 1, 2)
