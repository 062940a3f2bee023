"""Where training starts from, when it starts from nothing."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lffd.graphs.codes import CODES
from lffd.graphs.network import Network, raw_output

Initialization = Literal["prior", "xavier"]

PRIOR = 0.01
"""Object probability that every cell starts with under `prior`."""


def initial_arrays(network: Network, batch_norm: bool, seed: int, style: Initialization) -> dict[str, NDArray[Any]]:
    """Return the first parameters (`arg:NAME`) and running statistics (`aux:NAME`), float32.

    Args:
        network: the declaration.
        batch_norm: include the arrays of batch normalisation.
        seed: of the random weights.
        style: `xavier`: the published start, uniform weights by fan-in and fan-out, zero biases. `prior`: normal
            weights by fan-in (He); the scores' biases give every cell the probability `PRIOR` and the boxes' biases a
            box of three quarters of the range's upper end (or what the box code gives as a fair guess), so that the
            first steps are not spent on background; normalisation starts at the declared gains, which are 0.5 at the
            end of LFFD's residual pairs.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x1217]))
    arrays: dict[str, NDArray[Any]] = {}
    graph = network.graph
    for position, node in enumerate(graph.nodes):
        if node.op != "Convolution" or graph.parameters_of(node)["weight"] != f"{node.name}_weight":
            continue  # of two convolutions with the same parameters, the first one names them
        shape, role = graph.parameter_shapes[f"{node.name}_weight"], network.output_of(position)
        arrays[f"arg:{node.name}_weight"] = _weight(shape, role is not None, rng, style)
        if "bias" in graph.parameters_of(node):
            arrays[f"arg:{node.name}_bias"] = _bias(network, position, shape[0], role if style == "prior" else None)
        if batch_norm and node.name in network.gains:
            gain = network.gains[node.name] if style == "prior" else 1.0
            arrays[f"arg:{node.name}_bn_gamma"] = np.full(shape[0], gain, np.float32)
            arrays[f"arg:{node.name}_bn_beta"] = np.zeros(shape[0], np.float32)
            arrays[f"aux:{node.name}_bn_moving_mean"] = np.zeros(shape[0], np.float32)
            arrays[f"aux:{node.name}_bn_moving_var"] = np.ones(shape[0], np.float32)
    return arrays


def _weight(
    shape: tuple[int, ...], output: bool, rng: np.random.Generator, style: Initialization
) -> NDArray[np.float32]:
    fan_in, fan_out = math.prod(shape[1:]), shape[0] * math.prod(shape[2:])
    if style == "xavier":
        bound = math.sqrt(3 / ((fan_in + fan_out) / 2))
        return rng.uniform(-bound, bound, shape).astype(np.float32)
    deviation = 0.01 if output else math.sqrt(2 / fan_in)
    return rng.normal(0, deviation, shape).astype(np.float32)


def _bias(network: Network, position: int, channels: int, role: str | None) -> NDArray[np.float32]:
    """Return what a convolution of `channels` starts with, by what its result says."""
    logit = math.log(PRIOR / (1 - PRIOR))
    if role == "score":  # of two channels their difference counts
        raw = [raw_output(network.graph, said["score"]) for said in network.by_branch(network.graph.outputs)]
        count = network.predictions[raw.index(position)]
        return np.array(
            [logit] * count if channels == count else [logit / 2] * count + [-logit / 2] * count, np.float32
        )
    if role == "box":
        return np.tile(np.array(CODES[network.code].initial, np.float32), channels // 4)
    return np.zeros(channels, np.float32)
