"""A tiny network and made-up batches, for tests of training engines."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lffd.graphs.network import Branch, Network, Stage

NETWORK = Network("tiny", (4,), (Stage(4, 1), Stage(6, 1)), (Branch("conv4", (4, 8)), Branch("conv7", (8, 16))), 4, 64)


@dataclass(frozen=True)
class FakeBatch:
    index: int
    names: tuple[str, ...]
    images: np.ndarray
    classes: tuple[np.ndarray, ...]
    boxes: tuple[np.ndarray, ...]

    def part(self, start: int, stop: int) -> FakeBatch:
        cut = slice(start, stop)
        return replace(
            self,
            names=self.names[cut],
            images=self.images[cut],
            classes=tuple(value[cut] for value in self.classes),
            boxes=tuple(value[cut] for value in self.boxes),
        )


def make_batch(count: int = 4, seed: int = 0, network: Network = NETWORK) -> FakeBatch:
    rng = np.random.default_rng(seed)
    side = network.train_input
    sizes = network.map_sizes(side, side)
    codes = [rng.uniform(0.2, 1, (count, 4, *size)) * np.array([1, 1, -1, -1])[:, None, None] for size in sizes]
    return FakeBatch(
        seed,
        tuple(f"record {i}" for i in range(count)),
        rng.integers(0, 256, (count, side, side, 3), np.uint8),
        tuple(rng.choice([1, 0, 0, 0, 0, -1], (count, *size)).astype(np.int8) for size in sizes),
        tuple(code.astype(np.float32) for code in codes),
    )
