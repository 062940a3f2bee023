"""Where training starts from, when it starts from nothing."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lffd.graphs.receptive_field import Layer, Network

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
            box of three quarters of the range's upper end, so that the first steps are not spent on background; the
            second normalisation of each residual pair starts at gain 0.5.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x1217]))
    arrays: dict[str, NDArray[Any]] = {}
    for layer in network.layers:
        arrays[f"arg:{layer.name}_weight"] = _weight(layer, rng, style)
        arrays[f"arg:{layer.name}_bias"] = _bias(layer, style)
        if batch_norm and layer.kind != "output":
            channels = layer.out_channels
            gain = 0.5 if style == "prior" and layer.kind == "residual-second" else 1.0
            arrays[f"arg:{layer.name}_bn_gamma"] = np.full(channels, gain, np.float32)
            arrays[f"arg:{layer.name}_bn_beta"] = np.zeros(channels, np.float32)
            arrays[f"aux:{layer.name}_bn_moving_mean"] = np.zeros(channels, np.float32)
            arrays[f"aux:{layer.name}_bn_moving_var"] = np.ones(channels, np.float32)
    return arrays


def _weight(layer: Layer, rng: np.random.Generator, style: Initialization) -> NDArray[np.float32]:
    shape = layer.weight_shape
    fan_in, fan_out = math.prod(shape[1:]), shape[0] * math.prod(shape[2:])
    if style == "xavier":
        bound = math.sqrt(3 / ((fan_in + fan_out) / 2))
        return rng.uniform(-bound, bound, shape).astype(np.float32)
    deviation = 0.01 if layer.kind == "output" else math.sqrt(2 / fan_in)
    return rng.normal(0, deviation, shape).astype(np.float32)


def _bias(layer: Layer, style: Initialization) -> NDArray[np.float32]:
    if style == "prior" and layer.name.endswith("_3_score"):
        logit = math.log(PRIOR / (1 - PRIOR))
        return np.array([logit / 2, -logit / 2], np.float32)
    if style == "prior" and layer.name.endswith("_3_bbox"):
        return np.array([0.75, 0.75, -0.75, -0.75], np.float32)
    return np.zeros(layer.out_channels, np.float32)
