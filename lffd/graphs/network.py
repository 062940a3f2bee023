"""A whole network: its graph, what each of its outputs says, and which objects each of its branches finds.

LFFD (arXiv 1904.10633, section 3) uses receptive fields as its anchors: each cell of a branch's map looks at one square
region of the input, and predicts an object whose longer side lies in the branch's range. Other detectors call a branch
a level. Strides, receptive fields, centres and map sizes follow from the graph; nothing of them is declared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lffd.errors import GeometryError, ModelError
from lffd.graphs.branches import CHANNELS, Branch, BranchGeometry, Grid, square_grid
from lffd.graphs.codes import CODES, CORNERS
from lffd.graphs.graph import Graph
from lffd.graphs.layers import Layers, Map
from lffd.graphs.operators import window

T = TypeVar("T")

MOST_BRANCHES, MOST_PIXELS = 100, 65_536
"""Far above any network, so that a damaged declaration is refused before anything of its size is built."""


@dataclass(frozen=True)
class Network:
    """A whole version: the declaration from which every farm derives what it needs.

    Attributes:
        name: full version name, such as `10_560_25L_8scales_v1`.
        graph: as it is deployed; its outputs are those of each branch in turn, named by `outputs`.
        branches: the branches, shallowest first.
        train_input: side in pixels of the square training crop.
        outputs: what each branch says, in the graph's order; keys of `CHANNELS`.
        code: name of the box code, see `codes.CODES`.
        assignment: name of the rule by which objects train cells, see `data_iterator_farm.assignment`.
        gains: convolutions that are normalised while training, and the gain they start with; empty for a network that
            was read from a model.
        fixed_input: width and height in pixels to which images are stretched; None for a network that takes any.
    """

    name: str
    graph: Graph = field(hash=False)
    branches: tuple[Branch, ...]
    train_input: int
    outputs: tuple[str, ...] = ("score", "box")
    code: str = CORNERS
    assignment: str = "ranges"
    gains: Mapping[str, float] = field(default_factory=dict, hash=False)
    fixed_input: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Refuse a declaration that cannot work, with the part that is wrong."""
        try:
            _check_declaration(self)
            _check_outputs(self)
        except ModelError as error:
            raise GeometryError(f"{self.name}: {error}") from error
        self.map_sizes(self.train_input, self.train_input)

    def by_branch(self, values: Sequence[T]) -> list[dict[str, T]]:
        """Return what belongs to the graph's outputs in order as one mapping from output name per branch."""
        count = len(self.outputs)
        if len(values) != count * len(self.branches):
            raise ModelError(f"{self.name} has {count * len(self.branches)} outputs, not {len(values)}")
        starts = range(0, len(values), count)
        return [dict(zip(self.outputs, values[start : start + count], strict=True)) for start in starts]

    @property
    def output_names(self) -> list[str]:
        """What exported graphs call the outputs in order: `score_0`, `box_0`, `score_1`, …."""
        return [f"{name}_{index}" for index in range(len(self.branches)) for name in self.outputs]

    @cached_property
    def branch_geometry(self) -> tuple[BranchGeometry, ...]:
        """Geometry of each branch, in order."""
        found = []
        for index, (branch, outputs) in enumerate(zip(self.branches, self.by_branch(self.graph.outputs), strict=True)):
            place, (low, high) = self.graph.places[outputs["score"]], branch.object_range
            # In floats 1.1 * 70 is 77.00000000000001: rounding first keeps the gray edge at 77.
            gray = (float(math.floor(round(0.9 * low, 6))), float(math.ceil(round(1.1 * high, 6))))
            grid = branch.grid or square_grid(place.center, place.stride)
            center = grid[0][0]
            where = (place.stride, place.receptive_field, int(center) if center == int(center) else center)
            found.append(
                BranchGeometry(index, branch.layer, branch.object_range, gray, *where, branch.units, grid, self.code)
            )
        return tuple(found)

    @property
    def predictions(self) -> tuple[int, ...]:
        """Predictions per cell of each branch."""
        return tuple(len(branch.units) for branch in self.branches)

    @property
    def score_channels(self) -> tuple[int, ...]:
        """Channels of each branch's raw score: one logit per prediction, or all objects' and then all backgrounds'."""
        scores = (outputs["score"] for outputs in self.by_branch(self.graph.outputs))
        return tuple(self.graph.places[raw_output(self.graph, score)].channels for score in scores)

    @property
    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name to shape of every parameter of the deployed network."""
        return self.graph.parameter_shapes

    @property
    def parameter_count(self) -> int:
        """Number of weights and biases."""
        return sum(math.prod(shape) for shape in self.parameter_shapes.values())

    @property
    def object_range(self) -> tuple[float, float]:
        """Smallest and largest longer side in pixels that any branch detects."""
        return (self.branches[0].object_range[0], self.branches[-1].object_range[1])

    @property
    def input_step(self) -> int:
        """What each side of the input must be a multiple of."""
        return self.graph.input_step

    @cached_property
    def minimum_input(self) -> int:
        """Smallest side in pixels for which the deepest branch still has one cell."""
        step = self.input_step
        return next(side for side in range(step, MOST_PIXELS, step) if min(self.graph.axis_sizes(side)) > 0)

    def seen_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the size at which the network sees an image of `width` × `height` pixels."""
        return self.fixed_input or (width, height)

    def fitting(self, side: int) -> int:
        """Return the smallest side in pixels that the network takes and that is not below `side`."""
        return -(-max(side, self.minimum_input) // self.input_step) * self.input_step

    def pad(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return an image `(H, W, 3)` with black added right and below, as far as the network asks for."""
        rows, columns = (self.fitting(side) - side for side in image.shape[:2])
        return np.pad(image, ((0, rows), (0, columns), (0, 0))) if rows or columns else image

    def layer_sizes(self, height: int, width: int) -> dict[str, tuple[int, int]]:
        """Return node name to map size `(rows, columns)` for an input of `height` × `width` pixels.

        Raises:
            GeometryError: when the input is smaller than `minimum_input` or no multiple of `input_step` either way.
        """
        if min(height, width) < self.minimum_input:
            raise GeometryError(
                f"input {width}x{height} is too small for {self.name}: each side needs at least {self.minimum_input} px"
            )
        if height % self.input_step or width % self.input_step:
            raise GeometryError(
                f"input {width}x{height} does not fit {self.name}: each side must be a multiple of {self.input_step} px"
            )
        rows, columns = self.graph.axis_sizes(height), self.graph.axis_sizes(width)
        return {node.name: (rows[i], columns[i]) for i, node in enumerate(self.graph.nodes)}

    def map_sizes(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """Return `(rows, columns)` of each branch's map for an input of `height` × `width` pixels; as `layer_sizes`."""
        sizes = self.layer_sizes(height, width)
        return tuple(sizes[self.graph.nodes[outputs["score"]].name] for outputs in self.by_branch(self.graph.outputs))

    def multiply_adds(self, height: int, width: int) -> dict[str, int]:
        """Return convolution to multiply–accumulate operations for one input of `height` × `width` pixels."""
        return self.graph.multiply_adds(height, width)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Every convolution and pooling, in the order in which they are declared."""
        found = []
        shapes, places = self.parameter_shapes, self.graph.places
        for position, node in enumerate(self.graph.nodes):
            if node.op in ("Convolution", "Pooling"):
                names = self.graph.parameters_of(node).values()
                weights = sum(math.prod(shapes[name]) for name in names)
                place = places[position]
                center = int(place.center) if place.center == int(place.center) else place.center
                kernel, stride = node.pair("kernel")[0], window(node)[1]
                where = (place.stride, place.receptive_field, center)
                kind = self._kind(position)
                found.append(Layer(node.name, kind, kernel, stride, place.channels, weights, *where))
        return tuple(found)

    @cached_property
    def backbone(self) -> tuple[Layer, ...]:
        """The layers that lead to those which the branches read; the others are heads."""
        places = [i for i, node in enumerate(self.graph.nodes) if node.name in {b.layer for b in self.branches}]
        names = {node.name for node in self.graph.keep(places).nodes} if places else set()
        return tuple(layer for layer in self.layers if layer.name in names)

    def _kind(self, position: int) -> str:
        """Return what a layer is, for people."""
        node = self.graph.nodes[position]
        if node.op == "Pooling":
            return "pool"
        if self.output_of(position) is not None:
            return "output"
        if node.integer("num_group", 1) > 1:
            return "depthwise"
        return "down" if node.pair("stride", 1)[0] > 1 else "pointwise" if node.pair("kernel")[0] == 1 else "dense"

    def output_of(self, position: int) -> str | None:
        """Return what a convolution's result says, where it leaves the graph directly or as a probability."""
        return self._output_layers.get(position)

    @cached_property
    def _output_layers(self) -> dict[int, str]:
        return {
            raw_output(self.graph, position): name
            for outputs in self.by_branch(self.graph.outputs)
            for name, position in outputs.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the declaration without its graph as plain JSON values; `network_from_dict` reads it back."""
        return {
            "name": self.name,
            "train_input": self.train_input,
            "outputs": list(self.outputs),
            "code": self.code,
            "assignment": self.assignment,
            **({"fixed_input": list(self.fixed_input)} if self.fixed_input else {}),
            "branches": [
                {"layer": b.layer, "object_range": list(b.object_range)}
                | ({"anchors": [list(anchor) for anchor in b.anchors]} if b.anchors else {})
                | ({"grid": [list(axis) for axis in b.grid]} if b.grid else {})
                for b in self.branches
            ],
        }


@dataclass(frozen=True)
class Layer:
    """One convolution or pooling, with its place in the input.

    Attributes:
        name: prefix of its parameters (`<name>_weight`, `<name>_bias`).
        kind: `down` (strided), `dense`, `pointwise`, `depthwise`, `pool` or `output`.
        kernel, stride: of this layer alone.
        out_channels: of its result.
        parameters: number of weights and biases.
        total_stride: input pixels between two cells of its output.
        receptive_field: side in input pixels of what one cell sees.
        first_center: input pixel (the same in x and y) under the middle of cell (0, 0)'s receptive field.
    """

    name: str
    kind: str
    kernel: int
    stride: int
    out_channels: int
    parameters: int
    total_stride: int
    receptive_field: int
    first_center: float


def declare(
    name: str,
    net: Layers,
    branches: Sequence[tuple[Branch, Mapping[str, Map]]],
    train_input: int,
    *,
    code: str = CORNERS,
    assignment: str = "ranges",
    fixed_input: tuple[int, int] | None = None,
) -> Network:
    """Return the network that layer functions have drawn.

    Args:
        name: full version name.
        net: what collected the layers.
        branches: shallowest first, each with what it says: raw `score` (one channel per prediction, or two: those of
            all objects, then those of all backgrounds), `box`, and further keys of `CHANNELS`, the same and in the same
            order for all.
        train_input: side in pixels of the square training crop.
        code: name of the box code.
        assignment: name of the rule by which objects train cells.
        fixed_input: width and height in pixels to which images are stretched, for a network that takes no other.

    Raises:
        GeometryError: for a declaration that cannot work.
    """
    outputs = []
    for index, (branch, said) in enumerate(branches):
        count = len(branch.units)
        outputs += [net.probability(x, index, count) if role == "score" else x for role, x in said.items()]
    names = tuple(branches[0][1]) if branches else ()
    declared = tuple(branch for branch, _ in branches)
    graph, gains = net.graph(outputs), dict(net.gains)
    return Network(name, graph, declared, train_input, names, code, assignment, gains, fixed_input)


def raw_output(graph: Graph, position: int) -> int:
    """Return the node that an output is made of: what losses attach to, in front of softmax or sigmoid and slices."""
    node = graph.nodes[position]
    while node.op in ("softmax", "slice_axis", "elemwise_sub") or (
        node.op == "Activation" and node.attrs["act_type"] == "sigmoid"
    ):
        position = node.inputs[0]
        node = graph.nodes[position]
    return position


def network_from_dict(fields: Mapping[str, Any], graph: Graph) -> Network:
    """Return the network that `Network.to_dict` described, on its graph.

    Descriptions of cards of format 1, which also list the layers of a plain LFFD network, are read as well.

    Raises:
        GeometryError: when a field is missing or does not fit.
    """
    try:
        branches = tuple(
            Branch(
                str(entry["layer"]),
                _numbers(entry["object_range"], 2),
                tuple(_numbers(anchor, 2) for anchor in entry.get("anchors", ())),
                _grid(entry["grid"]) if "grid" in entry else None,
            )
            for entry in fields["branches"]
        )
        outputs = tuple(str(name) for name in fields.get("outputs", ("score", "box")))
        code, assignment = str(fields.get("code", CORNERS)), str(fields.get("assignment", "ranges"))
        fixed = _numbers(fields["fixed_input"], 2) if "fixed_input" in fields else None
        side = fields["train_input"]
        return Network(str(fields["name"]), graph, branches, side, outputs, code, assignment, fixed_input=fixed)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        if isinstance(error, GeometryError):
            raise
        raise GeometryError(f"not a network declaration: {type(error).__name__}: {error}") from error


def _grid(values: Sequence[Any]) -> Grid:
    """Return a grid with steps above 0; anything else is a ValueError."""
    x, y = (_numbers(axis, 2) for axis in values)
    if min(x[1], y[1]) <= 0:
        raise ValueError(f"{str(values)[:60]} is not a grid with steps above 0")
    return x, y


def _numbers(values: Sequence[Any], count: int) -> Any:
    """Return so many plain finite numbers as a tuple; anything else is a ValueError."""
    numbers = tuple(values)
    plain = all(isinstance(n, int | float) and not isinstance(n, bool) and abs(n) < 1e9 for n in numbers)
    if len(numbers) != count or not plain:
        raise ValueError(f"{str(values)[:60]} is not {count} numbers")
    return numbers


def cut_branches(network: Network, kept: Sequence[int]) -> Network:
    """Return the declaration with the branches `kept` (rising), without the layers that no kept one needs."""
    by_branch = network.by_branch(network.graph.outputs)
    graph = network.graph.keep([position for index in kept for position in by_branch[index].values()])
    name = f"{network.name}_branches_{'_'.join(map(str, kept))}"
    return replace(network, name=name, graph=graph, branches=tuple(network.branches[index] for index in kept))


def _check_declaration(network: Network) -> None:
    """Refuse unknown names, and sizes and ranges that cannot be."""
    side = network.train_input
    if not isinstance(side, int) or isinstance(side, bool) or not 1 <= side <= MOST_PIXELS:
        raise GeometryError(f"{network.name}: train_input must be a whole number from 1 to {MOST_PIXELS}")
    if network.fixed_input and not all(isinstance(n, int) and 1 <= n <= MOST_PIXELS for n in network.fixed_input):
        raise GeometryError(f"{network.name}: fixed_input must be two whole numbers from 1 to {MOST_PIXELS}")
    if not 1 <= len(network.branches) <= MOST_BRANCHES:
        raise GeometryError(f"{network.name}: a network needs 1 to {MOST_BRANCHES} branches")
    if network.outputs[:2] != ("score", "box") or len(set(network.outputs)) < len(network.outputs):
        raise GeometryError(f"{network.name}: outputs {network.outputs} must begin with score and box, each once")
    if unknown := [name for name in network.outputs if name not in CHANNELS]:
        raise GeometryError(f"{network.name}: output {unknown[0]} is not one of {', '.join(CHANNELS)}")
    if network.code not in CODES:
        raise GeometryError(f"{network.name}: box code {network.code!r:.40} is not one of {', '.join(CODES)}")
    previous = 0.0
    for number, branch in enumerate(network.branches):
        label, (low, high) = f"{network.name}: branch {number} ({branch.layer})", branch.object_range
        if not 0 < low < high < math.inf:
            raise GeometryError(f"{label}: object range {low}–{high} must grow from above 0")
        if low < previous:
            raise GeometryError(
                f"{label}: object range {low}–{high} overlaps or comes before the one in front, which ends at "
                f"{previous}; sort branches from small to large objects"
            )
        if any(not 0 < side < math.inf for unit in branch.units for side in unit):
            raise GeometryError(f"{label}: the sides of its anchors must be above 0 px")
        previous = high


def _check_outputs(network: Network) -> None:
    """Refuse outputs of other channels, of one branch at different places, and branches that see too little."""
    places, before = network.graph.places, 0
    for number, outputs in enumerate(network.by_branch(network.graph.outputs)):
        label = f"{network.name}: branch {number} ({network.branches[number].layer})"
        first = places[outputs["score"]]
        for name, position in outputs.items():
            channels, place = CHANNELS[name] * network.predictions[number], places[position]
            if place.channels != channels:
                node = network.graph.nodes[position].name
                raise GeometryError(
                    f"{label}: output {name} ({node}) has {place.channels} channels instead of {channels}"
                )
            if (place.stride, place.center) != (first.stride, first.center):
                raise GeometryError(f"{label}: its outputs lie at different places")
        if first.stride < before:
            raise GeometryError(
                f"{label}: has a finer stride than the branch before; list branches from shallow to deep"
            )
        if network.branches[number].object_range[1] > first.receptive_field:
            low, high = network.branches[number].object_range
            seen = first.receptive_field
            raise GeometryError(f"{label}: object range {low}–{high} is wider than its receptive field of {seen} px")
        before = first.stride
