"""A tiny network and made-up batches, for tests of training engines."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from data_iterator_farm.batch import target_shapes
from lffd.graphs.codes import CODES
from lffd.graphs.network import Branch, Network
from symbol_farm.lffd_network import Stage, lffd_network

NETWORK = lffd_network(
    "tiny",
    stem=(4,),
    stages=(Stage(4, 1), Stage(6, 1)),
    branches=(Branch("conv4", (4, 8)), Branch("conv7", (8, 16))),
    head_channels=4,
    train_input=64,
)


@dataclass(frozen=True)
class FakeBatch:
    index: int
    names: tuple[str, ...]
    images: np.ndarray
    targets: tuple[dict[str, np.ndarray], ...]

    def part(self, start: int, stop: int) -> FakeBatch:
        cut = slice(start, stop)
        targets = tuple({name: values[cut] for name, values in said.items()} for said in self.targets)
        return replace(self, names=self.names[cut], images=self.images[cut], targets=targets)


def make_batch(count: int = 4, seed: int = 0, network: Network = NETWORK) -> FakeBatch:
    """Targets of every kind at random; box codes are those of boxes around their cell, whatever the network's code."""
    rng = np.random.default_rng(seed)
    side = network.train_input
    targets = tuple(
        {name: _target(rng, name, (count, *shape), network) for name, (shape, _) in said.items()}
        for said in target_shapes(network, side)
    )
    images = rng.integers(0, 256, (count, side, side, 3), np.uint8)
    return FakeBatch(seed, tuple(f"record {i}" for i in range(count)), images, targets)


def _target(rng: np.random.Generator, name: str, shape: tuple[int, ...], network: Network) -> np.ndarray:
    if name == "score":
        return rng.choice([1, 0, 0, 0, 0, -1], shape).astype(np.int8)
    if name == "landmarks":
        points = rng.uniform(-1, 1, (shape[0], network.predictions, 11, *shape[2:]))
        points[:, :, 10] = points[:, :, 10] > 0
        return points.reshape(shape).astype(np.float32)
    corners = rng.uniform(0.2, 1, (shape[0], network.predictions, *shape[2:], 4)) * np.array([-1, -1, 1, 1])
    codes = CODES[network.code].encode(corners.reshape(-1, 4)).reshape(corners.shape)
    return np.moveaxis(codes, 4, 2).reshape(shape).astype(np.float32)
