"""Things that many tests need, made small and from a seed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lffd.graphs.model import Model, make_model
from lffd.graphs.network import Network
from symbol_farm.versions import version_network


def random_params(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """He-initialised float32 weights and small biases, so that activations keep their size through the layers."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(0, 0.1 if len(shape) == 1 else np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def random_model(version: str | Network = "plate_small", seed: int = 0) -> Model:
    """A model of a version (short name or declaration) with random weights."""
    network = version if isinstance(version, Network) else version_network(version)
    return make_model(network, random_params(network.parameter_shapes, seed))
