"""MXNet's symbol JSON written without MXNet, so that a network needs one description and no retired library to travel.

`Operators` stands in for `mx.sym` where a network is described (`symbol_farm/network.py`): the same calls, and `tojson`
gives the same text, node by node and attribute by attribute. It knows the operators that our networks use.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from lffd.graphs.graph import PARAMETER_INPUTS

_FIRST_VALUES = {"moving_mean": '["zero", {}]', "moving_var": '["one", {}]'}
"""Running statistics, which MXNet treats as state and not as arguments, and what they start from."""

_HIDDEN_OUTPUTS = {"BatchNorm": 2}
"""Outputs after the first, which only take up numbers: mean and variance of the batch."""

_MXNET_VERSION = ["int", 10901]


class Symbol:
    """One value of the graph, the first output of its node; `-`, `/` and `+` make further nodes."""

    def __init__(self, owner: Operators, op: str, name: str, attrs: dict[str, str], inputs: Sequence[Symbol]) -> None:
        self.owner, self.op, self.name, self.attrs, self.inputs = owner, op, name, attrs, tuple(inputs)

    def __sub__(self, number: float) -> Symbol:
        return self.owner.apply("_minus_scalar", self.owner.next_name("_minusscalar"), [self], scalar=number)

    def __truediv__(self, number: float) -> Symbol:
        return self.owner.apply("_div_scalar", self.owner.next_name("_divscalar"), [self], scalar=number)

    def __add__(self, other: Symbol) -> Symbol:
        return self.owner.apply("elemwise_add", self.owner.next_name("_plus"), [self, other])


class Operators:
    """The part of `mx.sym` that describes our networks; one instance per graph, because it numbers unnamed nodes."""

    def __init__(self) -> None:
        self._unnamed: Counter[str] = Counter()

    def Variable(self, name: str) -> Symbol:  # noqa: N802 - MXNet's names, here and below
        """Return an input."""
        return Symbol(self, "null", name, {}, ())

    def Convolution(self, data: Symbol, name: str, **attrs: Any) -> Symbol:  # noqa: N802
        """Return a convolution with the parameters `<name>_weight` and `<name>_bias`."""
        return self.apply("Convolution", name, [data], **attrs)

    def BatchNorm(self, data: Symbol, name: str, **attrs: Any) -> Symbol:  # noqa: N802
        """Return batch normalisation with gains, biases and running statistics under `<name>_…`."""
        return self.apply("BatchNorm", name, [data], **attrs)

    def Activation(self, data: Symbol, name: str, **attrs: Any) -> Symbol:  # noqa: N802
        """Return an elementwise function such as `act_type="relu"`."""
        return self.apply("Activation", name, [data], **attrs)

    def softmax(self, data: Symbol, name: str, **attrs: Any) -> Symbol:
        """Return the softmax over one axis."""
        return self.apply("softmax", name, [data], **attrs)

    def slice_axis(self, data: Symbol, name: str, **attrs: Any) -> Symbol:
        """Return a range of one axis."""
        return self.apply("slice_axis", name, [data], **attrs)

    def Group(self, outputs: Sequence[Symbol]) -> Group:  # noqa: N802
        """Return the graph with these outputs."""
        return Group(outputs)

    def apply(self, op: str, name: str, inputs: Sequence[Symbol], **attrs: Any) -> Symbol:
        """Return a node, after variables for the parameters that its operator has; attributes become MXNet's text."""
        written = {key: str(attrs[key]) for key in sorted(attrs)}
        parameters = []
        for role in PARAMETER_INPUTS.get(op, ()):
            first = {"__init__": _FIRST_VALUES[role]} if role in _FIRST_VALUES else {}
            parameters.append(Symbol(self, "null", f"{name}_{role}", {**first, **written}, ()))
        return Symbol(self, op, name, written, [*inputs, *parameters])

    def next_name(self, prefix: str) -> str:
        """Return `prefix` with the next number, as MXNet names what the caller does not."""
        self._unnamed[prefix] += 1
        return f"{prefix}{self._unnamed[prefix] - 1}"


class Group:
    """Outputs together, as `mx.sym.Group`."""

    def __init__(self, outputs: Sequence[Symbol]) -> None:
        self.outputs = tuple(outputs)

    def tojson(self) -> str:
        """Return the graph as `mx.sym.Symbol.tojson` does: nodes after their inputs, in the order of the outputs."""
        nodes = list(dict.fromkeys(node for output in self.outputs for node in _inputs_first(output)))
        position = {node: index for index, node in enumerate(nodes)}
        starts = [0]
        for node in nodes:
            starts.append(starts[-1] + 1 + _HIDDEN_OUTPUTS.get(node.op, 0))
        content = {
            "nodes": [_entry(node, position) for node in nodes],
            "arg_nodes": [position[node] for node in nodes if node.op == "null"],
            "node_row_ptr": starts,
            "heads": [[position[output], 0, 0] for output in self.outputs],
            "attrs": {"mxnet_version": _MXNET_VERSION},
        }
        return json.dumps(content, indent=1)


def _entry(node: Symbol, position: dict[Symbol, int]) -> dict[str, Any]:
    """Return one node as JSON; a state is read in its version 1, because batch normalisation writes it."""
    inputs = [[position[source], 0, int("__init__" in source.attrs)] for source in node.inputs]
    attrs = {"attrs": node.attrs} if node.attrs else {}
    return {"op": node.op, "name": node.name, **attrs, "inputs": inputs}


def _inputs_first(output: Symbol) -> Iterator[Symbol]:
    """Yield the nodes that lead to `output`, and `output` last; without recursion, for graphs of any depth."""
    seen: set[Symbol] = set()
    waiting: list[tuple[Symbol, bool]] = [(output, False)]
    while waiting:
        node, complete = waiting.pop()
        if complete:
            yield node
        elif node not in seen:
            seen.add(node)
            waiting.append((node, True))
            waiting += [(source, False) for source in reversed(node.inputs)]
