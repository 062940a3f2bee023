"""Whether two ways to run a network agree: measured, written down, and a gate for everything that is deployed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lffd.engines import BranchMaps, Engine
from lffd.engines.factory import ENGINES, create_engine
from lffd.engines.runtime import Runtime
from lffd.errors import ModelError
from lffd.graphs.model import Model
from lffd.graphs.network import Network

Outputs = dict[str, NDArray[np.float32]]

Run = Callable[[NDArray[np.uint8]], Outputs]
"""Takes images `(B, H, W, 3)` uint8 BGR and returns named outputs."""

REFERENCES = {"mxnet": "MXNet", "torch": "PyTorch", "onnxruntime": "ONNX Runtime"}
"""What is compared with: the first that is installed, but another than the one under test where there is one."""

TOLERANCE = 1e-4
"""Largest difference, of scores and of box codes, that float32 engines may have."""


@dataclass(frozen=True)
class Difference:
    """Attributes: output: its name; largest, mean: absolute differences; images: shape of the batch it came from."""

    output: str
    largest: float
    mean: float
    images: tuple[int, ...]


@dataclass(frozen=True)
class Parity:
    """How far `subject` is from `reference`: `differences` per output, at the batch where it was largest."""

    subject: str
    reference: str
    differences: tuple[Difference, ...]

    @property
    def largest(self) -> float:
        """The largest difference of any output."""
        return max(difference.largest for difference in self.differences)

    def check(self, tolerance: float) -> None:
        """Refuse more than the tolerated difference, by a `ModelError` that names every output and the input."""
        wrong = [difference for difference in self.differences if not difference.largest <= tolerance]
        if wrong:
            problem = f"{self.subject} differs from {self.reference} by more than {tolerance:g}, so it was not written"
            listed = "; ".join(f"{d.output} by {d.largest:.2g} on images {d.images}" for d in wrong)
            raise ModelError(f"{problem}: {listed}")

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {"reference": self.reference, "largest": self.largest, "outputs": [asdict(d) for d in self.differences]}

    def to_text(self) -> str:
        """Return the report as a table for people."""
        lines = [f"parity of {self.subject} with {self.reference}:", f"  {'output':10} {'largest':>9} {'mean':>9}"]
        lines += [f"  {d.output:10} {d.largest:9.2e} {d.mean:9.2e}" for d in self.differences]
        return "\n".join(lines)


def probe_images(network: Network, seed: int = 0, fixed: tuple[int, int] | None = None) -> Iterator[NDArray[np.uint8]]:
    """Yield batches `(B, H, W, 3)` of uneven shapes: smooth colour waves with edges and noise, like a picture.

    The first is the smallest input that the network takes; batches have one and three images.
    With `fixed`, a height and width that the network takes, it is two batches of one such image.
    """
    rng = np.random.default_rng(seed)
    side = network.minimum_input
    shapes = ((1, side, side), (3, side + 38, side + 1), (1, side + 5, side + 90), (2, 321, 517))
    for batch, height, width in shapes if fixed is None else ((1, *fixed),) * 2:
        rows, columns = np.mgrid[: network.fitting(height), : network.fitting(width)]
        images = []
        for _ in range(batch):
            waves = [np.sin(rows * a + columns * b + 40 * c) for a, b, c in rng.uniform(-0.15, 0.15, (3, 3))]
            edges = (rows // rng.integers(9, 40) + columns // rng.integers(9, 40)) % 2
            noise = rng.normal(0, 12, (*rows.shape, 3))
            images.append(97 + 90 * np.stack(waves, -1) + 60 * edges[..., None] + noise)
        yield np.clip(images, 0, 255).astype(np.uint8)


def measure_parity(
    subject: tuple[str, Run], reference: tuple[str, Run], batches: Iterable[NDArray[np.uint8]]
) -> Parity:
    """Run both, each a name and a function, on every batch of images and return the largest difference per output.

    Raises:
        ModelError: when the outputs have different names or shapes.
    """
    worst: dict[str, Difference] = {}
    for images in batches:
        found, expected = subject[1](images), reference[1](images)
        if {n: a.shape for n, a in found.items()} != {n: a.shape for n, a in expected.items()}:
            given, right = (", ".join(f"{n} {a.shape}" for n, a in maps.items()) for maps in (found, expected))
            raise ModelError(
                f"{subject[0]} gives outputs {given} for images {images.shape}, but {reference[0]} gives {right}"
            )
        for name, value in found.items():
            off = np.abs(value.astype(np.float64) - expected[name])
            largest, mean = (float(off.max()), float(off.mean())) if off.size else (0.0, 0.0)
            largest = math.inf if math.isnan(largest) else largest
            if name not in worst or largest > worst[name].largest:
                worst[name] = Difference(name, largest, mean, images.shape)
    return Parity(subject[0], reference[0], tuple(worst.values()))


def reference_engine(model: Model, tested: str = "") -> tuple[str, Engine]:
    """Return the title and the engine that what `tested` computes is compared with: see `REFERENCES`."""
    installed = [name for name in REFERENCES if ENGINES[name].installed]
    name = next((name for name in installed if name != tested), "onnxruntime")
    return REFERENCES[name], create_engine(model, Runtime(name))


def measure_engine(model: Model, reduced: Model, runtime: Runtime, batches: Iterable[NDArray[np.uint8]]) -> Parity:
    """Return how far a model on an engine, perhaps of reduced precision, is from the full one on the reference."""
    runner, (title, reference) = create_engine(reduced, runtime), reference_engine(model, runtime.engine)
    return measure_parity(
        (f"{runtime.engine} {runtime.precision}", lambda images: named_maps(runner.run(images))),
        (f"{title} fp32", lambda images: named_maps(reference.run(images))),
        batches,
    )


def named_maps(maps: Sequence[BranchMaps]) -> Outputs:
    """Return an engine's maps as an exported graph gives them: `score_0` `(B, 1, h, w)`, `box_0` `(B, 4, h, w)`, …."""
    return {f"{name}_{index}": array for index, branch in enumerate(maps) for name, array in branch.items()}
