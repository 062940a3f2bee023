"""The convolutions of an LFFD network, one by one, each with its place in the input."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

LayerKind = Literal["down", "residual-first", "residual-second", "head", "output"]


@dataclass(frozen=True)
class Stage:
    """One 3×3 stride-2 unpadded convolution, then `pairs` residual pairs of 3×3 stride-1 pad-1 convolutions.

    Attributes:
        channels: output channels of the stride-2 convolution and of each pair.
        pairs: number of residual pairs.
        inner_channels: output channels of the first convolution of each pair; `channels` when None.
    """

    channels: int
    pairs: int
    inner_channels: int | None = None


@dataclass(frozen=True)
class Layer:
    """One convolution, with its place in the input.

    Attributes:
        name: prefix of its parameters (`<name>_weight`, `<name>_bias`).
        kind: its role; `down` layers have stride 2 and no padding, the 1×1 kinds are `head` and `output`.
        kernel, stride, padding: of this layer alone.
        in_channels, out_channels: of its weight.
        total_stride: input pixels between two cells of its output.
        receptive_field: side in input pixels of what one cell sees.
        first_center: input pixel (the same in x and y) under the middle of cell (0, 0)'s receptive field.
    """

    name: str
    kind: LayerKind
    kernel: int
    stride: int
    padding: int
    in_channels: int
    out_channels: int
    total_stride: int
    receptive_field: int
    first_center: int

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """Shape of the weight, `(out, in, kernel, kernel)`."""
        return (self.out_channels, self.in_channels, self.kernel, self.kernel)

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return math.prod(self.weight_shape) + self.out_channels


def backbone_layers(stem: tuple[int, ...], stages: tuple[Stage, ...]) -> Iterator[Layer]:
    """Yield the backbone's layers, carrying stride, receptive field and first centre along."""
    plan: list[tuple[LayerKind, int]] = [("down", channels) for channels in stem]
    for stage in stages:
        plan.append(("down", stage.channels))
        pair: list[tuple[LayerKind, int]] = [
            ("residual-first", stage.inner_channels or stage.channels),
            ("residual-second", stage.channels),
        ]
        plan += pair * stage.pairs
    channels, total_stride, field, center = 3, 1, 1, 0
    for number, (kind, out_channels) in enumerate(plan, start=1):
        stride, padding = (2, 0) if kind == "down" else (1, 1)
        field += 2 * total_stride
        center += (1 - padding) * total_stride
        total_stride *= stride
        yield Layer(f"conv{number}", kind, 3, stride, padding, channels, out_channels, total_stride, field, center)
        channels = out_channels


def head_layers(parent: Layer, width: int) -> Iterator[Layer]:
    """Yield the 1×1 convolutions of the branch on `parent`, in the order they run."""
    plan: list[tuple[str, LayerKind, int, int]] = [
        ("1", "head", parent.out_channels, width),
        ("2_score", "head", width, width),
        ("3_score", "output", width, 2),
        ("2_bbox", "head", width, width),
        ("3_bbox", "output", width, 4),
    ]
    for suffix, kind, in_channels, out_channels in plan:
        place = (parent.total_stride, parent.receptive_field, parent.first_center)
        yield Layer(f"{parent.name}_{suffix}", kind, 1, 1, 0, in_channels, out_channels, *place)
