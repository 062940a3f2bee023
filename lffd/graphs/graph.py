"""A network's graph as a plain list of nodes: the one description that engines, exporters and geometry read.

It is what an MXNet symbol's JSON (MXNet 1.x, `Symbol.tojson`) holds, and reads and writes that JSON without MXNet:
inputs come before the nodes that read them, variables have the operator `null`, and attributes are strings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lffd.errors import ModelError
from lffd.graphs.operators import OPERATORS, Node, Place

_WITHOUT_ARITHMETIC = ("null", "slice_axis", "Concat")

MOST_NODES = 100_000
"""Far above any network, so that a damaged or hostile file is refused before anything of its size is built."""

_FIRST_VALUES = {"moving_mean": '["zero", {}]', "moving_var": '["one", {}]'}
"""Running statistics, which MXNet treats as state and not as arguments, and what they start from."""

_MXNET_VERSION = ["int", 10901]
_RESULTS = {"BatchNorm": 3, "Pooling": 2}
"""Operators to which MXNet gives further results: the mean and variance of the batch, and a workspace."""


@dataclass(frozen=True)
class Graph:
    """A whole graph, checked as far as that goes without parameters: every operator known, every map fitting.

    Attributes:
        nodes: inputs before the nodes that read them.
        outputs: positions of the nodes whose values are the outputs.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Channels, stride, receptive field and first centre of every node; see `operators.Place`.

        Raises:
            ModelError: for an operator that networks here do not use, an attribute or a number of inputs that it does
                not take, and maps that do not fit each other.
        """
        found: list[Place] = []
        for node in self.nodes:
            operator = OPERATORS.get(node.op)
            if operator is None:
                raise ModelError(f"node {node.name}: operator {node.op} is not one of {', '.join(OPERATORS)}")
            operator.check(node)
            for number, source in enumerate(self.nodes[i] for i in node.inputs):
                parameter = bool(operator.parameters) and number > 0
                if parameter != (source.op == "null" and source.name != "data"):
                    raise ModelError(f"node {node.name} ({node.op}) cannot read {source.name} as its input {number}")
            found.append(operator.place(node, [found[i] for i in self.map_inputs(node)]))
        return tuple(found)

    def map_inputs(self, node: Node) -> tuple[int, ...]:
        """Return the positions of the maps that a node reads, without its parameters."""
        return node.inputs[:1] if OPERATORS[node.op].parameters else node.inputs

    def parameters_of(self, node: Node) -> dict[str, str]:
        """Return role, such as `weight`, to name of the parameters that a node has."""
        roles = OPERATORS[node.op].parameters
        return {role: self.nodes[i].name for role, i in zip(roles, node.inputs[1:], strict=False)}

    @cached_property
    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name to shape of every parameter, derived from the operators for an input `data` of three channels.

        Raises:
            ModelError: as `places`.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        places = self.places
        for node in self.nodes:
            for role, name in self.parameters_of(node).items():
                shape = OPERATORS[node.op].parameter_shape(node, role, places[node.inputs[0]].channels)
                if shapes.setdefault(name, shape) != shape:
                    raise ModelError(f"node {node.name}: parameter {name} would have shapes {shapes[name]} and {shape}")
        return shapes

    def axis_sizes(self, length: int) -> list[int]:
        """Return the size of every node's map along one axis of the input; 0 or less where nothing is left.

        Raises:
            ModelError: where maps of different sizes meet, with what the input must be a multiple of.
        """
        sizes: list[int] = []
        for node in self.nodes:
            inputs = [sizes[i] for i in self.map_inputs(node)]
            if len(set(inputs)) > 1:
                raise ModelError(
                    f"at {length} px node {node.name} ({node.op}) joins maps of {inputs} cells; "
                    f"sides must be multiples of {self.input_step}"
                )
            sizes.append(OPERATORS[node.op].size(node, inputs[0]) if inputs else length)
        return sizes

    def exact_cells(self, length: int, cut_start: bool, cut_end: bool) -> list[tuple[int, int]]:
        """Return, per node, the cells `first, after last` along one axis that do not feel the edges of a cut tile.

        A padded window moves an edge's influence in by a cell; at a real border of the image the padding is the same
        in the tile and in the whole, so there is none. Where paths meet, both must be exact.

        Args:
            length: of the tile in pixels.
            cut_start: whether the image goes on before the tile.
            cut_end: whether it goes on after it.
        """
        sizes = self.axis_sizes(length)
        ranges: list[tuple[int, int]] = []
        for node, size in zip(self.nodes, sizes, strict=True):
            inputs = [ranges[i] for i in self.map_inputs(node)]
            low, high = (max(r[0] for r in inputs), min(r[1] for r in inputs)) if inputs else (0, length)
            first, last = OPERATORS[node.op].reach(node, low, high)
            ranges.append((first if cut_start else 0, last if cut_end else size))
        return ranges

    @cached_property
    def input_step(self) -> int:
        """What each side of the input must be a multiple of: the largest stride that is enlarged again, or 1."""
        return max((self.places[n.inputs[0]].stride for n in self.nodes if n.op == "UpSampling"), default=1)

    def multiply_adds(self, height: int, width: int) -> dict[str, int]:
        """Return convolution to multiply–accumulate operations for one input of `height` × `width` pixels."""
        rows, columns, shapes = self.axis_sizes(height), self.axis_sizes(width), self.parameter_shapes
        return {
            node.name: math.prod(shapes[self.parameters_of(node)["weight"]]) * rows[i] * columns[i]
            for i, node in enumerate(self.nodes)
            if node.op == "Convolution"
        }

    def flops(self, height: int, width: int) -> int:
        """Return arithmetic operations for one input of `height` × `width` pixels.

        Two for each multiply–add of a convolution, of which its bias is one, and one for each number that another layer
        computes; slices and concatenations compute none.
        """
        rows, columns, products = self.axis_sizes(height), self.axis_sizes(width), self.multiply_adds(height, width)
        total = 2 * sum(products.values())
        for i, node in enumerate(self.nodes):
            if node.op in _WITHOUT_ARITHMETIC:
                continue
            each = 1 if node.op != "Convolution" else 2 * ("bias" in self.parameters_of(node))
            total += each * self.places[i].channels * rows[i] * columns[i]
        return total

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the variables other than the input `data`."""
        return tuple(node.name for node in self.nodes if node.op == "null" and node.name != "data")

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the running statistics: of each batch normalisation in order, its mean and its variance."""
        norms = (node for node in self.nodes if node.op == "BatchNorm")
        return tuple(self.nodes[source].name for node in norms for source in node.inputs[3:5])

    @cached_property
    def readers(self) -> tuple[tuple[int, ...], ...]:
        """Per node, the positions of the nodes that read it."""
        found: list[list[int]] = [[] for _ in self.nodes]
        for position, node in enumerate(self.nodes):
            for source in node.inputs:
                found[source].append(position)
        return tuple(map(tuple, found))

    def keep(self, outputs: Sequence[int]) -> Graph:
        """Return the graph of the nodes at these positions, in the order in which MXNet lists them.

        That is depth first from the outputs; what none of them needs goes.
        """
        order = list(dict.fromkeys(position for output in outputs for position in self._inputs_first(output)))
        new = {position: index for index, position in enumerate(order)}
        nodes = [self.nodes[position] for position in order]
        moved = (Node(n.name, n.op, n.attrs, tuple(new[i] for i in n.inputs)) for n in nodes)
        return Graph(tuple(moved), tuple(new[output] for output in outputs))

    def _inputs_first(self, output: int) -> Iterable[int]:
        """Yield the positions that lead to `output`, and `output` last; without recursion, for graphs of any depth."""
        seen: set[int] = set()
        waiting = [(output, False)]
        while waiting:
            position, complete = waiting.pop()
            if complete:
                yield position
            elif position not in seen:
                seen.add(position)
                waiting.append((position, True))
                waiting += [(source, False) for source in reversed(self.nodes[position].inputs)]

    def to_json(self) -> str:
        """Return the graph as `mx.sym.Symbol.tojson` writes it."""
        graph = self.keep(self.outputs)
        starts = [0]
        for node in graph.nodes:
            starts.append(starts[-1] + _RESULTS.get(node.op, 1))
        content = {
            "nodes": [_entry(graph, node) for node in graph.nodes],
            "arg_nodes": [position for position, node in enumerate(graph.nodes) if node.op == "null"],
            "node_row_ptr": starts,
            "heads": [[output, 0, 0] for output in graph.outputs],
            "attrs": {"mxnet_version": _MXNET_VERSION},
        }
        return json.dumps(content, indent=1)


def parameter_node(name: str, role: str, attrs: dict[str, str]) -> Node:
    """Return the variable of an operator's parameter; MXNet gives it the operator's attributes."""
    first = {"__init__": _FIRST_VALUES[role]} if role in _FIRST_VALUES else {}
    return Node(f"{name}_{role}", "null", {**first, **attrs}, ())


def _entry(graph: Graph, node: Node) -> dict[str, Any]:
    """Return one node as JSON; a state is read in its version 1, because batch normalisation writes it."""
    inputs = [[source, 0, int("__init__" in graph.nodes[source].attrs)] for source in node.inputs]
    attrs = {"attrs": node.attrs} if node.attrs else {}
    return {"op": node.op, "name": node.name, **attrs, "inputs": inputs}


def parse_graph(text: str, where: str = "symbol") -> Graph:
    """Read a symbol's JSON, and check the whole graph, so that no engine ever sees one that does not fit together.

    Args:
        text: as `Symbol.tojson` writes it; files of MXNet 1.x are accepted.
        where: named in errors.

    Raises:
        ModelError: when it is not such JSON, a node reads one that does not come before it or an output that is not
            there, or as `Graph.places`.
    """
    try:
        content = json.loads(text)
        if len(content["nodes"]) > MOST_NODES:
            raise ModelError(f"{where}: {len(content['nodes'])} nodes are more than {MOST_NODES}")
        nodes = tuple(_node(entry) for entry in content["nodes"])
        outputs = tuple(_first_output(head) for head in content["heads"])
    except (*(ValueError, KeyError, TypeError, IndexError), AttributeError, OverflowError, RecursionError) as error:
        raise ModelError(f"{where}: not the JSON of an MXNet symbol: {type(error).__name__}: {error}") from error
    for position, node in enumerate(nodes):
        if any(not 0 <= source < position for source in node.inputs):
            raise ModelError(f"{where}: node {node.name} reads a node that does not come before it")
    if not outputs or any(not 0 <= output < len(nodes) for output in outputs):
        raise ModelError(f"{where}: the outputs {outputs} are not nodes of the graph")
    if odd := [node.name for node in nodes if not node.name or not node.name.isprintable()]:
        raise ModelError(f"{where}: {odd[0]!r:.40} cannot be the name of a node")
    if len({node.name for node in nodes}) != len(nodes):
        raise ModelError(f"{where}: two nodes have the same name")
    graph = Graph(nodes, outputs)
    try:
        _ = graph.parameter_shapes
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from error
    return graph


def _node(entry: dict[str, Any]) -> Node:
    """Return one node; older files keep the attributes under `attr` or `param`."""
    attrs = {**entry.get("param", {}), **entry.get("attr", {}), **entry.get("attrs", {})}
    inputs = tuple(_first_output(source) for source in entry["inputs"])
    return Node(str(entry["name"]), str(entry["op"]), {str(k): str(v) for k, v in attrs.items()}, inputs)


def _first_output(reference: Sequence[Any]) -> int:
    """Return the node that `[node, output, version]` points at; all operators here have one output."""
    if any(not isinstance(part, int) or isinstance(part, bool) for part in reference[:2]):
        raise TypeError(f"{reference!r:.40} does not point at a node")
    if len(reference) > 1 and reference[1] != 0:
        raise ValueError(f"output {reference[1]} of node {reference[0]} is not there")
    return int(reference[0])
