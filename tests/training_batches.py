"""A tiny network and made-up batches, for tests of training engines."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from data_iterator_farm.batch import target_shapes
from lffd.graphs.branches import Branch
from lffd.graphs.codes import CODES
from lffd.graphs.network import Network
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
    """Targets at random; boxes are such that they lie around their cell, whatever the network's code."""
    rng = np.random.default_rng(seed)
    side = network.train_input
    shapes = [{name: (count, *shape) for name, (shape, _) in said.items()} for said in target_shapes(network, side)]
    boxes = [_box_codes(rng, said["box"], said["score"][1], network) for said in shapes]
    images = rng.integers(0, 256, (count, side, side, 3), np.uint8)
    scores = [rng.choice([1, 0, 0, 0, 0, -1, -2], said["score"]).astype(np.int8) for said in shapes]
    targets = [{"score": score, "box": box} for score, box in zip(scores, boxes, strict=True)]
    if "landmarks" in network.outputs:
        for said, shape in zip(targets, shapes, strict=True):
            said["landmarks"] = _landmarks(rng, shape["landmarks"])
    return FakeBatch(seed, tuple(f"record {i}" for i in range(count)), images, tuple(targets))


def _box_codes(rng: np.random.Generator, shape: tuple[int, ...], predictions: int, network: Network) -> np.ndarray:
    apart = (shape[0], predictions, 4, *shape[2:])
    corners = rng.uniform(0.2, 1, shape).reshape(apart) * np.array([-1, -1, 1, 1])[:, None, None]
    codes = CODES[network.code].encode(np.moveaxis(corners, 2, -1).reshape(-1, 4))
    rows = codes.reshape(shape[0], predictions, *shape[2:], 4)
    return np.ascontiguousarray(np.moveaxis(rows, -1, 2).reshape(shape), np.float32)


def _landmarks(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Points around the cell, some of them unknown."""
    points = rng.uniform(-1, 1, (shape[0], shape[1] // 11, 11, *shape[2:]))
    points[:, :, 10] = points[:, :, 10] > 0
    return points.reshape(shape).astype(np.float32)
