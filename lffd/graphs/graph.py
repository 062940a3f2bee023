"""An MXNet symbol's JSON as a plain list of nodes, so that engines and exporters work without MXNet.

The JSON (MXNet 1.x, `Symbol.tojson`) lists nodes in an order in which inputs come first; variables have the operator
`null`, and attributes are strings.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lffd.errors import ModelError

PARAMETER_INPUTS = {
    "Convolution": ("weight", "bias"),
    "BatchNorm": ("gamma", "beta", "moving_mean", "moving_var"),
}
"""Operators with parameters, and what their inputs after the first are."""


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
            ModelError: when it is missing and there is no default, or is not made of integers.
        """
        if key not in self.attrs:
            if default is None:
                raise ModelError(f"node {self.name} ({self.op}) has no attribute {key}")
            return default
        text = self.attrs[key].strip("()[] ")
        if not re.fullmatch(r"-?\d{1,9}(\s*,\s*-?\d{1,9})*,?", text):
            raise ModelError(f"node {self.name} ({self.op}): {key}={self.attrs[key]!r} is not a list of integers")
        return tuple(int(part) for part in text.strip(",").split(","))

    def integer(self, key: str, default: int | None = None) -> int:
        """Return the attribute `key` as one integer; raises as `integers`."""
        return self.integers(key, None if default is None else (default,))[0]

    def number(self, key: str) -> float:
        """Return the attribute `key` as a float.

        Raises:
            ModelError: when it is missing or not a number.
        """
        try:
            value = float(self.attrs[key])
        except (KeyError, ValueError):
            value = math.nan
        if not math.isfinite(value):
            raise ModelError(f"node {self.name} ({self.op}): attribute {key} is missing or not a finite number")
        return value

    def flag(self, key: str) -> bool:
        """Return the attribute `key` as a truth value; false when missing."""
        return self.attrs.get(key, "False").lower() in ("true", "1")


@dataclass(frozen=True)
class Graph:
    """A whole graph.

    Attributes:
        nodes: inputs before the nodes that read them.
        outputs: positions of the nodes whose values are the outputs.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]

    @cached_property
    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name to shape of every parameter, derived from the operators for an input `data` of three channels.

        Raises:
            ModelError: for an operator that deployed networks do not use.
        """
        channels: list[int] = []
        shapes: dict[str, tuple[int, ...]] = {}
        for node in self.nodes:
            channels.append(_channels(node, [channels[i] for i in node.inputs]))
            for position, role in enumerate(PARAMETER_INPUTS.get(node.op, ()), start=1):
                if position < len(node.inputs):
                    source = channels[node.inputs[0]]
                    shapes[self.nodes[node.inputs[position]].name] = _parameter_shape(node, role, source)
        return shapes

    @cached_property
    def output_geometry(self) -> tuple[tuple[int, int, int], ...]:
        """Of each output: channels, and stride and receptive field in input pixels, as its convolutions make them.

        Raises:
            ModelError: as `parameter_shapes`, and when maps of different strides are joined.
        """
        channels: list[int] = []
        places: list[tuple[int, int]] = []
        for node in self.nodes:
            channels.append(_channels(node, [channels[i] for i in node.inputs]))
            places.append(_place(node, [places[i] for i in node.inputs]))
        return tuple((channels[output], *places[output]) for output in self.outputs)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the variables other than the input `data`."""
        return tuple(node.name for node in self.nodes if node.op == "null" and node.name != "data")

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the running statistics: of each batch normalisation in order, its mean and its variance."""
        norms = (node for node in self.nodes if node.op == "BatchNorm")
        return tuple(self.nodes[source].name for node in norms for source in node.inputs[3:5])


def _channels(node: Node, inputs: list[int]) -> int:
    """Return the output channels of a node from those of its inputs."""
    rule = _CHANNEL_RULES.get(node.op)
    if rule is None:
        raise ModelError(f"node {node.name}: operator {node.op} is not one of {', '.join(_CHANNEL_RULES)}")
    return rule(node, inputs)


def _place(node: Node, inputs: list[tuple[int, int]]) -> tuple[int, int]:
    """Return stride and receptive field of a node's cells from those of its inputs; (1, 1) for a variable."""
    if not inputs:
        return (1, 1)
    if node.op != "Convolution":
        maps = inputs[:1] if node.op in PARAMETER_INPUTS else inputs
        if len({stride for stride, _ in maps}) != 1:
            raise ModelError(f"node {node.name} ({node.op}) joins maps of strides {[stride for stride, _ in maps]}")
        return (maps[0][0], max(field for _, field in maps))
    stride, field = inputs[0]
    return (stride * node.integer("stride", 1), field + (node.integer("kernel") - 1) * stride)


def _parameter_shape(node: Node, role: str, in_channels: int) -> tuple[int, ...]:
    """Return the shape of one parameter of a convolution or batch normalisation."""
    if node.op != "Convolution":
        return (in_channels,)
    filters = node.integer("num_filter")
    if role == "bias":
        return (filters,)
    groups = node.integer("num_group", 1)
    if groups < 1 or in_channels % groups or filters % groups:
        raise ModelError(f"node {node.name}: {in_channels} and {filters} channels cannot be cut into {groups} groups")
    return (filters, in_channels // groups, *node.integers("kernel"))


def _first_channels(node: Node, inputs: list[int]) -> int:
    if not inputs:
        raise ModelError(f"node {node.name} ({node.op}) reads nothing")
    return inputs[0]


def _same_channels(node: Node, inputs: list[int]) -> int:
    if len(set(inputs)) > 1:
        raise ModelError(f"node {node.name} ({node.op}) joins maps of {inputs} channels")
    return _first_channels(node, inputs)


_CHANNEL_RULES: dict[str, Callable[[Node, list[int]], int]] = {
    "null": lambda node, inputs: 3 if node.name == "data" else 0,
    "_minus_scalar": _same_channels,
    "_div_scalar": _same_channels,
    "Convolution": lambda node, inputs: node.integer("num_filter"),
    "BatchNorm": _first_channels,
    "Activation": _same_channels,
    "elemwise_add": _same_channels,
    "softmax": _same_channels,
    "slice_axis": lambda node, inputs: node.integer("end") - node.integer("begin"),
}
"""Output channels of each operator from those of its inputs (parameters count as 0)."""


def parse_graph(text: str, where: str = "symbol") -> Graph:
    """Read a symbol's JSON.

    Args:
        text: as `Symbol.tojson` writes it; files of MXNet 1.x are accepted.
        where: named in errors.

    Raises:
        ModelError: when it is not such JSON, or a node reads one that does not come before it.
    """
    try:
        content = json.loads(text)
        nodes = tuple(_node(entry) for entry in content["nodes"])
        outputs = tuple(int(head[0]) for head in content["heads"])
    except (*(ValueError, KeyError, TypeError, IndexError), AttributeError, OverflowError, RecursionError) as error:
        raise ModelError(f"{where}: not the JSON of an MXNet symbol: {type(error).__name__}: {error}") from error
    for position, node in enumerate(nodes):
        if any(not 0 <= source < position for source in node.inputs):
            raise ModelError(f"{where}: node {node.name} reads a node that does not come before it")
    if not outputs or any(not 0 <= output < len(nodes) for output in outputs):
        raise ModelError(f"{where}: the outputs {outputs} are not nodes of the graph")
    if len({node.name for node in nodes}) != len(nodes):
        raise ModelError(f"{where}: two nodes have the same name")
    return Graph(nodes, outputs)


def _node(entry: dict[str, Any]) -> Node:
    """Return one node; older files keep the attributes under `attr` or `param`."""
    attrs = {**entry.get("param", {}), **entry.get("attr", {}), **entry.get("attrs", {})}
    inputs = tuple(int(source[0]) for source in entry["inputs"])
    return Node(str(entry["name"]), str(entry["op"]), {str(k): str(v) for k, v in attrs.items()}, inputs)
