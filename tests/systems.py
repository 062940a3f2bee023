"""Models of other projects' detectors with weights that keep every map within a few units."""

from __future__ import annotations

from functools import cache

import numpy as np

from lffd.graphs.model import Model, make_model
from symbol_farm.versions import version_network


@cache
def calm_model(name: str, seed: int = 0) -> Model:
    """Random weights by fan-in, half as large at the outputs; what is added to a sum is small."""
    network, rng, params = version_network(name), np.random.default_rng(seed), {}
    last = {layer.name for layer in network.layers if layer.kind == "output"}
    for key, shape in network.parameter_shapes.items():
        if key.endswith("_bias"):
            params[key] = rng.normal(0, 0.05, shape).astype(np.float32)
            continue
        first = key.removesuffix("_weight") in {"body_conv1", "body_stage1_0_0", "conv0"}
        scale = 0.05 if first else 0.4 if key.removesuffix("_weight") in last else 0.9
        params[key] = rng.normal(0, scale * np.sqrt(1 / np.prod(shape[1:])), shape).astype(np.float32)
    return make_model(network, params)
