"""What is timed: one detector on one image size, each pass split into its phases."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from detection.decoding import Candidates, decode, join
from detection.detector import Detector
from detection.peers.detector import PeerDetector
from detection.selection import Selection
from lffd.engines import BranchMaps, Engine
from lffd.model import Model


@dataclass(frozen=True)
class Phases:
    """Wall time of one pass over a batch, in seconds.

    Attributes:
        total: from images to detections.
        forward: inside the engine, all tiles together.
        decode: from maps to candidate boxes; None where it cannot be told apart.
        suppression: from candidates to detections; None likewise.
    """

    total: float
    forward: float
    decode: float | None = None
    suppression: float | None = None

    @property
    def other(self) -> float | None:
        """The rest: checks, resizing and padding before the network, clipping after it."""
        if self.decode is None or self.suppression is None:
            return None
        return max(0.0, self.total - self.forward - self.decode - self.suppression)


class Subject(Protocol):
    """Something whose passes are timed."""

    def run(self) -> Phases:
        """Run one pass and return its times."""
        ...


class TimedEngine:
    """Stands in for a detector's engine and measures it; decoding is measured by doing it once more.

    Attributes:
        forward: seconds inside the engine since the last `reset`.
        decoding: seconds of the second decoding, which is no part of a pass.
        candidates: what it found, image by image.
    """

    def __init__(self, engine: Engine, decode_row: Callable[[Sequence[BranchMaps], int], Candidates]) -> None:
        self.name, self.device = engine.name, engine.device
        self._engine = engine
        self._decode_row = decode_row
        self.reset()

    def reset(self) -> None:
        """Forget what was measured."""
        self.forward, self.decoding = 0.0, 0.0
        self.candidates: list[Candidates] = []

    def run(self, images: NDArray[np.uint8]) -> list[BranchMaps]:
        """Run the engine."""
        start = time.perf_counter()
        maps = self._engine.run(images)
        middle = time.perf_counter()
        self.candidates += [self._decode_row(maps, row) for row in range(len(images))]
        self.forward += middle - start
        self.decoding += time.perf_counter() - middle
        return maps


class NetworkSubject:
    """One of our networks, as `detection.detector.Detector` runs it.

    Args:
        model: the network.
        images: `(B, H, W, 3)` uint8 BGR; a batch of several runs together.
        selection: which candidates become detections.
        options: `engine`, `device`, `threads` and `precision` of the detector.
    """

    def __init__(self, model: Model, images: NDArray[np.uint8], selection: Selection, **options: Any) -> None:
        self._detector = Detector(model, selection, **options)
        self._images = list(images)
        self._selection = selection
        geometry = model.network.branch_geometry

        def decode_row(maps: Sequence[BranchMaps], row: int) -> Candidates:
            return decode(maps, geometry, selection.score_threshold, selection.top_k, row=row)

        self._timed = TimedEngine(self._detector.engine, decode_row)
        self._detector.engine = self._timed

    def run(self) -> Phases:
        """Run one pass; see `Subject.run`."""
        self._timed.reset()
        start = time.perf_counter()
        self._detector.batch(self._images)
        total = time.perf_counter() - start - self._timed.decoding
        found, count = self._timed.candidates, len(self._images)
        per_image = [found[i] for i in range(count)] if len(found) == count else [join(found)]
        start = time.perf_counter()
        for part in per_image:
            self._selection.select(part.boxes, part.scores)
        return Phases(total, self._timed.forward, self._timed.decoding, time.perf_counter() - start)


class PeerSubject(PeerDetector):
    """A detector of another project, image after image; what comes before and after its network is not told apart."""

    _forward_time = 0.0

    def __init__(self, kind: str, path: Path, images: NDArray[np.uint8], selection: Selection, **options: Any) -> None:
        super().__init__(kind, path, selection, **options)
        self._images = list(images)

    def forward(self, tensor: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Run the network, and measure it."""
        start = time.perf_counter()
        outputs = super().forward(tensor)
        self._forward_time += time.perf_counter() - start
        return outputs

    def run(self) -> Phases:
        """Run one pass; see `Subject.run`."""
        self._forward_time, start = 0.0, time.perf_counter()
        for image in self._images:
            self(image)
        return Phases(time.perf_counter() - start, self._forward_time)
