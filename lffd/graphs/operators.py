"""The operators that networks are made of: how many inputs each has, its parameters, and what it does to a map.

One table instead of a case for each operator in every place that asks. Receptive fields, strides and centres follow
the usual recursion over layers (LFFD, arXiv 1904.10633, section 3.2, uses them as anchors), extended to padded layers
and to paths that meet again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lffd.errors import ModelError

LARGEST_INTEGER = 1_000_000
"""In an attribute: far above any network's, so that a damaged file is refused."""


@dataclass(frozen=True)
class Node:
    """One operator or variable.

    Attributes:
        name: unique in the graph.
        op: operator name; `null` for a variable.
        attrs: attributes as the JSON's strings.
        inputs: positions of the nodes that it reads.
    """

    name: str
    op: str
    attrs: dict[str, str]
    inputs: tuple[int, ...]

    def integers(self, key: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """Return the attribute `key`, such as `(3, 3)`, as integers.

        Raises:
            ModelError: when it is missing and there is no default, or is not made of integers within reason.
        """
        if key not in self.attrs:
            if default is None:
                raise ModelError(f"node {self.name} ({self.op}) has no attribute {key}")
            return default
        text = self.attrs[key].strip("()[] ")
        if not re.fullmatch(r"-?\d{1,9}(\s*,\s*-?\d{1,9}){0,7},?", text):
            raise ModelError(f"node {self.name} ({self.op}): {key}={self.attrs[key][:40]!r} is not a list of integers")
        values = tuple(int(part) for part in text.strip(",").split(","))
        if max(map(abs, values)) > LARGEST_INTEGER:
            raise ModelError(f"node {self.name} ({self.op}): {key}={self.attrs[key]} is beyond all reason")
        return values

    def integer(self, key: str, default: int | None = None) -> int:
        """Return the attribute `key` as one integer; raises as `integers`."""
        return self.integers(key, None if default is None else (default,))[0]

    def pair(self, key: str, default: int | None = None) -> tuple[int, int]:
        """Return the attribute `key` as two integers; raises as `integers`, and when there is another number."""
        values = self.integers(key, None if default is None else (default, default))
        if len(values) != 2:
            raise ModelError(f"node {self.name} ({self.op}): {key}={self.attrs[key]} is not two integers")
        return values[0], values[1]

    def numbers(self, key: str) -> tuple[float, ...]:
        """Return the attribute `key`, such as `(104.0, 117.0, 123.0)`, as floats.

        Raises:
            ModelError: when it is missing or not made of at most 8 finite numbers.
        """
        parts = self.attrs.get(key, "").strip("()[] ").strip(",").split(",")
        try:
            values = tuple(float(part) for part in parts[:9])
        except ValueError:
            values = ()
        if not 0 < len(values) <= 8 or not all(map(math.isfinite, values)):
            raise ModelError(f"node {self.name} ({self.op}): attribute {key} is missing or not finite numbers")
        return values

    def flag(self, key: str) -> bool:
        """Return the attribute `key` as true or false, false when it is missing; raises as `integers`."""
        text = self.attrs.get(key, "False")
        if text not in _FLAGS:
            raise ModelError(f"node {self.name} ({self.op}): {key}={text[:40]!r} is neither True nor False")
        return _FLAGS[text]

    def number(self, key: str, default: float = math.nan) -> float:
        """Return the attribute `key` as a float.

        Raises:
            ModelError: when it is missing and there is no default, or not a finite number.
        """
        try:
            value = float(self.attrs.get(key, default))
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ModelError(f"node {self.name} ({self.op}): attribute {key} is missing or not a finite number")
        return value


_FLAGS = {"True": True, "true": True, "1": True, "False": False, "false": False, "0": False}


@dataclass(frozen=True)
class Place:
    """What a node's map is, and where its cells look, along either axis of the input.

    Attributes:
        channels: of the map; 0 for a parameter.
        stride: input pixels between two cells.
        low, high: first and last input pixel that cell 0 sees; behind an enlargement, any of the cells that share one.
        center: input pixel under the middle of cell 0.
        direct: whether no enlargement lies on the way; such a path says where the cells of a sum are.
    """

    channels: int
    stride: int = 1
    low: int = 0
    high: int = 0
    center: float = 0.0
    direct: bool = True

    @property
    def receptive_field(self) -> int:
        """Side in input pixels of what one cell sees."""
        return self.high - self.low + 1


MOST_WEIGHTS = 100_000_000
"""Of one layer: far above any network, so that a damaged file is refused before memory of its size is taken."""

PlaceRule = Callable[[Node, Sequence[Place]], Place]


def _variable(node: Node, inputs: Sequence[Place]) -> Place:
    return Place(3 if node.name == "data" else 0)


def _window(node: Node, inputs: Sequence[Place], channels: int) -> Place:
    """Move a square window over the map."""
    source, (kernel, stride, pad) = inputs[0], window(node)
    low, high = source.low - pad * source.stride, source.high + (kernel - 1 - pad) * source.stride
    center = source.center + ((kernel - 1) / 2 - pad) * source.stride
    return Place(channels, source.stride * stride, low, high, center, source.direct)


def window(node: Node) -> tuple[int, int, int]:
    """Return side, stride and padding of the window of a convolution or pooling.

    The side is that of all it covers: of a kernel of 3 with a dilation of 2, whose taps lie 2 apart, it is 5.

    Raises:
        ModelError: for a window that is not square, or has sizes that cannot be.
    """
    parts = [node.pair("kernel"), node.pair("stride", 1), node.pair("pad", 0), node.pair("dilate", 1)]
    (kernel, stride, pad, dilate), wide = ([part[axis] for part in parts] for axis in (0, 1))
    if wide != [kernel, stride, pad, dilate]:
        raise ModelError(f"node {node.name}: only square windows are known here")
    side = dilate * (kernel - 1) + 1
    if not (1 <= kernel <= 255 and 1 <= dilate <= 64 and 1 <= stride <= 64 and 0 <= pad < side):
        raise ModelError(f"node {node.name}: kernel {kernel}, stride {stride} and padding {pad} cannot be")
    return side, stride, pad


def _convolution(node: Node, inputs: Sequence[Place]) -> Place:
    filters, groups, channels = node.integer("num_filter"), node.integer("num_group", 1), inputs[0].channels
    if filters < 1 or groups < 1 or channels % groups or filters % groups:
        raise ModelError(f"node {node.name}: {channels} and {filters} channels cannot be cut into {groups} groups")
    if math.prod((filters, channels // groups, *node.pair("kernel"))) > MOST_WEIGHTS:
        raise ModelError(f"node {node.name}: more than {MOST_WEIGHTS:,} weights are beyond all reason")
    return _window(node, inputs, filters)


def _pooling(node: Node, inputs: Sequence[Place]) -> Place:
    asked = [node.attrs.get(key, usual) for key, usual in _USUAL_POOLING.items()]
    if asked != list(_USUAL_POOLING.values()) or node.pair("dilate", 1) != (1, 1):
        raise ModelError(f"node {node.name}: only maximum pooling of the valid convention is known here")
    return _window(node, inputs, inputs[0].channels)


_USUAL_POOLING = {"pool_type": "max", "pooling_convention": "valid", "global_pool": "False"}


def _enlarge(node: Node, inputs: Sequence[Place]) -> Place:
    source = inputs[0]
    if node.attrs.get("sample_type") != "nearest" or node.integer("scale") != 2 or source.stride % 2:
        raise ModelError(f"node {node.name}: only nearest enlargement by 2 of maps of an even stride is known here")
    stride = source.stride // 2
    return replace(source, stride=stride, low=source.low - stride, direct=False)


def _join(node: Node, inputs: Sequence[Place]) -> Place:
    """Lay maps over each other: same stride, and cells at the same places where the path to them is direct."""
    if len({place.stride for place in inputs}) > 1:
        raise ModelError(f"node {node.name} ({node.op}) joins maps of strides {[place.stride for place in inputs]}")
    telling = [place for place in inputs if place.direct] or list(inputs)
    if len({place.center for place in telling}) > 1:
        raise ModelError(f"node {node.name} ({node.op}) joins maps whose cells lie at different places")
    low, high = min(place.low for place in inputs), max(place.high for place in inputs)
    return Place(inputs[0].channels, inputs[0].stride, low, high, telling[0].center, telling[0].direct)


def _add(node: Node, inputs: Sequence[Place]) -> Place:
    if len({place.channels for place in inputs}) > 1:
        raise ModelError(f"node {node.name} ({node.op}) joins maps of {[place.channels for place in inputs]} channels")
    return _join(node, inputs)


def _concat(node: Node, inputs: Sequence[Place]) -> Place:
    if node.integer("dim", 1) != 1:
        raise ModelError(f"node {node.name}: only channels can be concatenated")
    return replace(_join(node, inputs), channels=sum(place.channels for place in inputs))


def _slice(node: Node, inputs: Sequence[Place]) -> Place:
    begin, end = node.integer("begin"), node.integer("end")
    if node.integer("axis") != 1 or not 0 <= begin < end <= inputs[0].channels:
        raise ModelError(f"node {node.name}: channels {begin} to {end} of {inputs[0].channels} cannot be cut out")
    return replace(inputs[0], channels=end - begin)


def _softmax(node: Node, inputs: Sequence[Place]) -> Place:
    if node.integer("axis", -1) != 1:
        raise ModelError(f"node {node.name}: softmax is known over channels only")
    return inputs[0]


def normalisation_of(node: Node) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return what `_image_normalize` subtracts from each channel, and by what it divides the rest."""
    return node.numbers("mean"), node.numbers("std")


def _activation(node: Node, inputs: Sequence[Place]) -> Place:
    if (kind := node.attrs.get("act_type")) not in ACTIVATIONS:
        raise ModelError(f"node {node.name}: activation {kind} is not one of {', '.join(ACTIVATIONS)}")
    return inputs[0]


ACTIVATIONS = ("relu", "sigmoid")


def _leaky(node: Node, inputs: Sequence[Place]) -> Place:
    if node.attrs.get("act_type", "leaky") != "leaky":
        raise ModelError(f"node {node.name}: activation {node.attrs['act_type']} is not leaky")
    node.number("slope", 0.25)
    return inputs[0]


def _scalar(node: Node, inputs: Sequence[Place]) -> Place:
    if node.number("scalar") == 0 and node.op == "_div_scalar":
        raise ModelError(f"node {node.name} divides by 0")
    return inputs[0]


def _normalize(node: Node, inputs: Sequence[Place]) -> Place:
    offset, factor = normalisation_of(node)
    if len(offset) != 3 or len(factor) != 3 or 0 in factor:
        raise ModelError(f"node {node.name}: mean and std must be three numbers each, std other than 0")
    return inputs[0]


def _batch_norm(node: Node, inputs: Sequence[Place]) -> Place:
    if not 0 < node.number("eps", 1e-3) < 1:
        raise ModelError(f"node {node.name}: eps {node.attrs['eps']} must lie between 0 and 1")
    return inputs[0]


_HARMLESS = ("workspace", "cudnn_tune", "cudnn_off")
"""Attributes that only say how MXNet is to compute."""

_WINDOW = ("kernel", "stride", "pad", "dilate")


@dataclass(frozen=True)
class Operator:
    """What is known of an operator.

    Attributes:
        place: channels and place of the result from those of the maps that it reads; refuses attributes that no
            engine here computes.
        fewest, most: maps that it reads.
        parameters: roles of its further inputs, of which the last may be missing (a convolution without bias).
        kind: what it does along an axis: `window`, `enlarge`, or `same`.
        attributes: what may be said of it; others could change what an engine computes, or end its process.
    """

    place: PlaceRule
    fewest: int = 1
    most: int = 1
    parameters: tuple[str, ...] = ()
    kind: str = "same"
    attributes: tuple[str, ...] = ()

    def check(self, node: Node) -> None:
        """Refuse attributes that are not known here, and a number of inputs that the operator does not take.

        Raises:
            ModelError: MXNet ends the process where the inputs are not as many as the attributes say.
        """
        # MXNet gives a variable the attributes of the node that it belongs to.
        known = node.attrs if node.op == "null" else (*self.attributes, *_HARMLESS)
        if unknown := [key for key in node.attrs if key not in known and not key.startswith("__")]:
            raise ModelError(f"node {node.name} ({node.op}): attribute {unknown[0][:40]!r} is not known here")
        count, further = len(node.inputs), len(self.parameters)
        if "no_bias" in self.attributes:
            further -= node.flag("no_bias")
        low, high = self.fewest + further, self.most + further
        if not low <= count <= high or ("num_args" in self.attributes and node.integer("num_args", count) != count):
            takes = f"{low} to {high}" if high > low else str(low)
            raise ModelError(f"node {node.name} ({node.op}) reads {count} nodes, but takes {takes}")

    def parameter_shape(self, node: Node, role: str, in_channels: int) -> tuple[int, ...]:
        """Return the shape of one of its parameters."""
        if self.kind != "window":
            return (in_channels,)
        filters = node.integer("num_filter")
        if role == "bias":
            return (filters,)
        return (filters, in_channels // node.integer("num_group", 1), *node.pair("kernel"))

    def size(self, node: Node, length: int) -> int:
        """Return the result's length along one axis."""
        if self.kind == "window":
            kernel, stride, pad = window(node)
            return (length + 2 * pad - kernel) // stride + 1
        return 2 * length if self.kind == "enlarge" else length

    def reach(self, node: Node, first: int, last: int) -> tuple[int, int]:
        """Return which cells of the result depend on cells `first` to before `last` of its input alone."""
        if self.kind == "window":
            kernel, stride, pad = window(node)
            return -(-(first + pad) // stride), (last + pad - kernel) // stride + 1
        return (2 * first, 2 * last) if self.kind == "enlarge" else (first, last)


OPERATORS: dict[str, Operator] = {
    "null": Operator(_variable, 0, 0),
    "_minus_scalar": Operator(_scalar, attributes=("scalar", "is_int")),
    "_div_scalar": Operator(_scalar, attributes=("scalar", "is_int")),
    "Convolution": Operator(
        _convolution,
        parameters=("weight", "bias"),
        kind="window",
        attributes=(*_WINDOW, "num_filter", "num_group", "no_bias"),
    ),
    "BatchNorm": Operator(
        _batch_norm,
        parameters=("gamma", "beta", "moving_mean", "moving_var"),
        attributes=("eps", "fix_gamma", "momentum", "use_global_stats"),
    ),
    "Activation": Operator(_activation, attributes=("act_type",)),
    "LeakyReLU": Operator(_leaky, attributes=("act_type", "slope")),
    "Pooling": Operator(_pooling, kind="window", attributes=(*_WINDOW, *_USUAL_POOLING)),
    "UpSampling": Operator(_enlarge, kind="enlarge", attributes=("scale", "sample_type", "num_args")),
    "_image_normalize": Operator(_normalize, attributes=("mean", "std")),
    "elemwise_add": Operator(_add, 2, 2),
    "elemwise_sub": Operator(_add, 2, 2),
    "Concat": Operator(_concat, 1, 64, attributes=("dim", "num_args")),
    "softmax": Operator(_softmax, attributes=("axis",)),
    "slice_axis": Operator(_slice, attributes=("axis", "begin", "end")),
}
"""Every operator that a network may use, by MXNet's name."""
