"""Geometry of an LFFD network, derived from its stage table alone.

LFFD (arXiv 1904.10633, section 3) uses receptive fields as its anchors: each cell of a branch's map looks at one square
region of the input, and predicts an object whose longer side lies in the branch's range. Everything that follows from
that — layer names, strides, receptive fields, first centres, map sizes, the box code — is computed here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lffd.errors import GeometryError
from lffd.graphs.layers import Layer, Stage, backbone_layers, head_layers

__all__ = ["Branch", "BranchGeometry", "Layer", "Network", "Stage", "network_from_dict"]

MOST_ROWS, MOST_PAIRS, MOST_CHANNELS, MOST_PIXELS = 100, 1000, 65_536, 65_536
"""Stem convolutions, stages or branches; residual pairs in all; width of a layer; side of the training crop. Far above
any network, so that a damaged declaration is refused before anything of its size is built."""


@dataclass(frozen=True)
class Branch:
    """Where a detection branch hangs, and what it is responsible for.

    Attributes:
        layer: the backbone convolution whose ReLU it reads; the second one of a residual pair, such as `conv8`.
        object_range: lower and upper longer side of its objects in pixels, both included.
    """

    layer: str
    object_range: tuple[float, float]


@dataclass(frozen=True)
class BranchGeometry:
    """One branch's place in the input, and its box code.

    Attributes:
        index: position among the network's branches, shallowest first.
        layer: the backbone layer it hangs on.
        object_range: longer sides in pixels, both ends included, that are positive here.
        gray_range: longer sides from `floor(0.9 low)` to `ceil(1.1 high)`; those outside `object_range` are
            ignored here.
        stride, receptive_field, first_center: of its cells, in input pixels.
    """

    index: int
    layer: str
    object_range: tuple[float, float]
    gray_range: tuple[float, float]
    stride: int
    receptive_field: int
    first_center: int

    @property
    def normalizer(self) -> float:
        """Divisor of the box code in pixels: half of the range's upper end."""
        return self.object_range[1] / 2

    def centers(self, count: int) -> NDArray[np.float32]:
        """Return the input coordinate of `count` consecutive cell centres along one axis, `(count,)`."""
        return self.first_center + self.stride * np.arange(count, dtype=np.float32)

    def encode(self, boxes: NDArray[np.float32], centers: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the box code `((x - x0), (y - y0), (x - x1), (y - y1)) / normalizer`.

        Args:
            boxes: `(N, 4)` xyxy in pixels.
            centers: `(N, 2)` x, y of the cell that predicts each box.
        """
        return ((np.tile(centers, 2) - boxes) / self.normalizer).astype(np.float32)

    def decode(self, codes: NDArray[np.float32], centers: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return boxes `(N, 4)` xyxy in pixels from codes `(N, 4)` at centres `(N, 2)`; the inverse of `encode`."""
        return (np.tile(centers, 2) - codes * self.normalizer).astype(np.float32)


@dataclass(frozen=True)
class Network:
    """A whole version: the declaration from which every farm derives what it needs.

    Attributes:
        name: full version name, such as `10_560_25L_8scales_v1`.
        stem: channels of the 3×3 stride-2 unpadded convolutions before the first stage.
        stages: the stages in order.
        branches: the branches, shallowest first.
        head_channels: width of the hidden 1×1 convolutions of every branch.
        train_input: side in pixels of the square training crop.
    """

    name: str
    stem: tuple[int, ...]
    stages: tuple[Stage, ...]
    branches: tuple[Branch, ...]
    head_channels: int
    train_input: int

    def __post_init__(self) -> None:
        """Refuse a declaration that cannot work, with the part that is wrong."""
        _check_sizes(self)
        _check_branches(self)
        self.map_sizes(self.train_input, self.train_input)

    @cached_property
    def backbone(self) -> tuple[Layer, ...]:
        """The 3×3 convolutions `conv1`, `conv2`, … in order."""
        return tuple(backbone_layers(self.stem, self.stages))

    @cached_property
    def branch_geometry(self) -> tuple[BranchGeometry, ...]:
        """Geometry of each branch, in order."""
        layers = {layer.name: layer for layer in self.backbone}
        found = []
        for index, branch in enumerate(self.branches):
            layer, (low, high) = layers[branch.layer], branch.object_range
            # In floats 1.1 * 70 is 77.00000000000001: rounding first keeps the gray edge at 77.
            gray = (float(math.floor(round(0.9 * low, 6))), float(math.ceil(round(1.1 * high, 6))))
            place = (layer.total_stride, layer.receptive_field, layer.first_center)
            found.append(BranchGeometry(index, branch.layer, branch.object_range, gray, *place))
        return tuple(found)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Every convolution: the backbone, then the five 1×1 ones of each branch."""
        by_name = {layer.name: layer for layer in self.backbone}
        heads = [head for branch in self.branches for head in head_layers(by_name[branch.layer], self.head_channels)]
        return self.backbone + tuple(heads)

    @property
    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name to shape of every parameter of the deployed network."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in self.layers:
            shapes[f"{layer.name}_weight"] = layer.weight_shape
            shapes[f"{layer.name}_bias"] = (layer.out_channels,)
        return shapes

    @property
    def object_range(self) -> tuple[float, float]:
        """Smallest and largest longer side in pixels that any branch detects."""
        return (self.branches[0].object_range[0], self.branches[-1].object_range[1])

    @cached_property
    def minimum_input(self) -> int:
        """Smallest side in pixels for which the deepest branch still has one cell."""
        size = 1
        for layer in reversed(self.backbone[: self._depth]):
            size = (size - 1) * layer.stride + layer.kernel - 2 * layer.padding
        return size

    @property
    def _depth(self) -> int:
        """Number of backbone layers up to the deepest branch."""
        return 1 + [layer.name for layer in self.backbone].index(self.branches[-1].layer)

    def layer_sizes(self, height: int, width: int) -> dict[str, tuple[int, int]]:
        """Return layer name to output `(rows, columns)` for an input of `height` × `width` pixels.

        Raises:
            GeometryError: when the input is smaller than `minimum_input` either way.
        """
        if min(height, width) < self.minimum_input:
            raise GeometryError(
                f"input {width}x{height} is too small for {self.name}: each side needs at least {self.minimum_input} px"
            )
        sizes: dict[str, tuple[int, int]] = {}
        rows, columns = height, width
        for layer in self.backbone:
            extra = 2 * layer.padding - layer.kernel
            rows, columns = (rows + extra) // layer.stride + 1, (columns + extra) // layer.stride + 1
            sizes[layer.name] = (rows, columns)
        for branch in self.branches:
            sizes |= {
                head.name: sizes[branch.layer] for head in self.layers if head.name.startswith(branch.layer + "_")
            }
        return sizes

    def map_sizes(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """Return `(rows, columns)` of each branch's map for an input of `height` × `width` pixels."""
        sizes = self.layer_sizes(height, width)
        return tuple(sizes[branch.layer] for branch in self.branches)

    def multiply_adds(self, height: int, width: int) -> dict[str, int]:
        """Return layer name to multiply–accumulate operations for one input of `height` × `width` pixels."""
        sizes = self.layer_sizes(height, width)
        return {layer.name: math.prod(layer.weight_shape) * math.prod(sizes[layer.name]) for layer in self.layers}

    def to_dict(self) -> dict[str, Any]:
        """Return the declaration as plain JSON values; `network_from_dict` reads it back."""
        return {
            "name": self.name,
            "stem": list(self.stem),
            "stages": [
                {"channels": s.channels, "pairs": s.pairs, "inner_channels": s.inner_channels} for s in self.stages
            ],
            "branches": [{"layer": b.layer, "object_range": list(b.object_range)} for b in self.branches],
            "head_channels": self.head_channels,
            "train_input": self.train_input,
        }


def network_from_dict(fields: dict[str, Any]) -> Network:
    """Return the network that `Network.to_dict` described.

    Raises:
        GeometryError: when a field is missing, unknown or does not fit.
    """
    try:
        values = dict(fields)
        values["stem"] = tuple(int(c) for c in values["stem"])
        values["stages"] = tuple(Stage(**stage) for stage in values["stages"])
        pairs = [(str(branch["layer"]), *branch["object_range"]) for branch in values["branches"]]
        values["branches"] = tuple(Branch(layer, (low, high)) for layer, low, high in pairs)
        return Network(**values)
    except GeometryError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise GeometryError(f"not a network declaration: {type(error).__name__}: {error}") from error


def _check_sizes(network: Network) -> None:
    """Refuse widths and counts that are not positive whole numbers or beyond all reason, and empty tables."""
    if not network.stages or not network.branches:
        raise GeometryError(f"{network.name}: a network needs at least one stage and one branch")
    for name in ("stem", "stages", "branches"):
        if (rows := len(getattr(network, name))) > MOST_ROWS:
            raise GeometryError(f"{network.name}: {rows} rows of {name} are more than {MOST_ROWS}")
    counts = [
        ("head_channels", network.head_channels, MOST_CHANNELS),
        ("train_input", network.train_input, MOST_PIXELS),
    ]
    counts += [(f"stem[{i}]", channels, MOST_CHANNELS) for i, channels in enumerate(network.stem)]
    for i, stage in enumerate(network.stages):
        inner = stage.channels if stage.inner_channels is None else stage.inner_channels
        counts.append((f"stages[{i}].channels", stage.channels, MOST_CHANNELS))
        counts.append((f"stages[{i}].inner_channels", inner, MOST_CHANNELS))
        counts.append((f"stages[{i}].pairs", stage.pairs, MOST_PAIRS))
    for name, value, most in counts:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise GeometryError(f"{network.name}: {name} must be a whole number of at least 1, not {value!r}")
        if value > most:
            raise GeometryError(f"{network.name}: {name} is {value if value < 10**12 else 'huge'}, more than {most}")
    if (pairs := sum(stage.pairs for stage in network.stages)) > MOST_PAIRS:
        raise GeometryError(f"{network.name}: {pairs} residual pairs are more than {MOST_PAIRS}")


def _check_branches(network: Network) -> None:
    """Refuse branches that hang nowhere, are out of order, overlap, or see less than their objects."""
    layers = {layer.name: layer for layer in network.backbone}
    usable = [layer.name for layer in network.backbone if layer.kind == "residual-second"]
    previous: Branch | None = None
    for number, branch in enumerate(network.branches):
        label, (low, high) = f"{network.name}: branch {number} ({branch.layer})", branch.object_range
        if branch.layer not in layers:
            raise GeometryError(f"{label}: there is no such layer; the backbone ends at conv{len(layers)}")
        if branch.layer not in usable:
            raise GeometryError(f"{label}: not the end of a residual pair; choose one of {', '.join(usable)}")
        if not 0 < low < high < math.inf:
            raise GeometryError(f"{label}: object range {low}–{high} must grow from above 0")
        if high > layers[branch.layer].receptive_field:
            seen = layers[branch.layer].receptive_field
            raise GeometryError(f"{label}: object range {low}–{high} is wider than its receptive field of {seen} px")
        if previous is not None and usable.index(branch.layer) <= usable.index(previous.layer):
            raise GeometryError(f"{label}: comes after {previous.layer}; list branches from shallow to deep")
        if previous is not None and low < previous.object_range[0]:
            raise GeometryError(f"{label}: object ranges are unordered; sort them from small to large")
        if previous is not None and low < previous.object_range[1]:
            raise GeometryError(
                f"{label}: object range {low}–{high} overlaps the one before, which ends at {previous.object_range[1]}"
            )
        previous = branch
