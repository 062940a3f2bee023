"""The graph that is trained: batch normalisation put behind convolutions, and folded into them again for deployment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lffd.errors import ModelError
from lffd.graphs.graph import Graph, parameter_node
from lffd.graphs.network import Network, raw_output
from lffd.graphs.operators import OPERATORS, Node

EPSILON = 1e-5
"""Added to the variance, in training and in folding alike."""

MOMENTUM = 0.95
"""Share of the old running statistics kept at each step."""

_PARTS = ("gamma", "beta", "moving_mean", "moving_var")


def training_graph(network: Network, batch_norm: bool) -> Graph:
    """Return what losses attach to: the network up to its raw scores, without softmax or sigmoid.

    Args:
        network: the declaration.
        batch_norm: put batch normalisation behind the convolutions that `network.gains` lists; `fold` turns its
            parameters into those of the plain graph.
    """
    graph = network.graph
    raw = graph.keep([raw_output(graph, output) for output in graph.outputs])
    if not batch_norm:
        return raw
    nodes: list[Node] = []
    moved: list[int] = []
    attrs = {"eps": str(EPSILON), "fix_gamma": "False", "momentum": str(MOMENTUM)}
    for node in raw.nodes:
        nodes.append(Node(node.name, node.op, node.attrs, tuple(moved[source] for source in node.inputs)))
        moved.append(len(nodes) - 1)
        if node.name in network.gains:
            name, roles = f"{node.name}_bn", OPERATORS["BatchNorm"].parameters
            first = len(nodes)
            nodes += [parameter_node(name, role, attrs) for role in roles]
            nodes.append(Node(name, "BatchNorm", attrs, (moved[-1], *range(first, first + len(roles)))))
            moved[-1] = len(nodes) - 1
    return Graph(tuple(nodes), tuple(moved[output] for output in raw.outputs))


def cancelled_biases(names: Iterable[str]) -> set[str]:
    """Return the convolution biases that batch normalisation subtracts again, among the parameters of a graph.

    Their gradient is zero but for rounding, which AdamW would blow up to whole steps; so engines leave them alone.
    That holds as well for the depthwise half of `Layers.separable`, whose 1×1 convolution is normalised.
    """
    known = set(names)
    layers = {name: name.removesuffix("_bias").removesuffix("_dw") for name in known if name.endswith("_bias")}
    return {name for name, layer in layers.items() if f"{layer}_bn_gamma" in known}


def fold(
    parameters: Mapping[str, NDArray[Any]], states: Mapping[str, NDArray[Any]] | None = None
) -> dict[str, NDArray[np.float32]]:
    """Return the parameters of the plain graph.

    For each layer `x` with `x_bn_gamma`, `x_bn_beta`, `x_bn_moving_mean` and `x_bn_moving_var`, the weight of each
    output channel is multiplied by gamma / sqrt(var + EPSILON), and the bias moved accordingly. Other parameters pass.

    Args:
        parameters: weights, biases, gammas and betas by name.
        states: running means and variances by name; they may also stand among `parameters`.

    Raises:
        ModelError: when a layer lacks one of its four arrays, or its weight.
    """
    everything = {**parameters, **(states or {})}
    layers = sorted(
        {name.removesuffix(f"_bn_{part}") for name in everything for part in _PARTS if name.endswith(f"_bn_{part}")}
    )
    folded = {
        name: np.asarray(value, np.float32)
        for name, value in everything.items()
        if not any(name.endswith(f"_bn_{part}") for part in _PARTS)
    }
    for layer in layers:
        needed = [f"{layer}_weight", f"{layer}_bias", *(f"{layer}_bn_{part}" for part in _PARTS)]
        if missing := [name for name in needed if name not in everything]:
            raise ModelError(f"batch normalisation of {layer} cannot be folded: missing {', '.join(missing)}")
        weight, bias, gamma, beta, mean, variance = (np.asarray(everything[name], np.float64) for name in needed)
        factor = gamma / np.sqrt(variance + EPSILON)
        folded[f"{layer}_weight"] = (weight * factor[:, None, None, None]).astype(np.float32)
        folded[f"{layer}_bias"] = ((bias - mean) * factor + beta).astype(np.float32)
    return folded
