"""One process per detector, so that each gets its own number of threads and its own memory count.

MXNet and NumPy read their number of threads once, when they start; two OpenMP libraries in one process disturb each
other. Orders are `load`, then any number of `pass`; `peak` measures matrix products instead.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.decoding import Candidates, decode, join
from detection.detector import Detector
from detection.load import parse_peer
from detection.peers.detector import PeerDetector
from detection.selection import Selection
from inference_speed_evaluation.machine import matrix_peak
from inference_speed_evaluation.processes import run_worker
from lffd.engines import BranchMaps
from lffd.engines.runtime import Runtime
from lffd.errors import UsageError
from lffd.graphs.model import Model, load_model

Images = NDArray[np.uint8]

Pass = Callable[[], dict[str, float]]
"""Runs a detector once over its images, and returns wall time in seconds.

`total`: from images to detections; `forward`: inside the engine, all tiles together; where they can be told apart also
`decode`: from maps to candidate boxes, and `suppression`: from candidates to detections."""


def network_pass(model: Model, images: Images, selection: Selection, runtime: Runtime) -> Pass:
    """Return a pass of one of our networks over `images` `(B, H, W, 3)` uint8 BGR, which run together."""
    detector = Detector(model, selection, runtime=runtime)
    engine_run, branches = detector.engine.run, detector.network.branch_geometry
    spent: dict[str, float] = {}
    candidates: list[Candidates] = []

    def timed(batch: Images) -> list[BranchMaps]:
        start = time.perf_counter()
        maps = engine_run(batch)
        spent["forward"] += time.perf_counter() - start
        start, limits = time.perf_counter(), (selection.score_threshold, selection.top_k)
        # The detector decodes too: this is once more, to measure it, and no part of the pass.
        candidates.extend(decode(maps, branches, *limits, row=row) for row in range(len(batch)))
        spent["decode"] += time.perf_counter() - start
        return maps

    detector.engine.run = timed  # type: ignore[assignment, method-assign]

    def run() -> dict[str, float]:
        candidates.clear()
        spent.update(forward=0.0, decode=0.0)
        start = time.perf_counter()
        detector.batch(list(images))
        total = time.perf_counter() - start - spent["decode"]
        found = candidates if len(candidates) == len(images) else [join(candidates)]
        start = time.perf_counter()
        for part in found:
            selection.select(part.boxes, part.scores)
        return {"total": total, **spent, "suppression": time.perf_counter() - start}

    return run


def peer_pass(kind: str, path: Path, images: Images, selection: Selection, runtime: Runtime) -> Pass:
    """Return a pass of a detector of another project, image after image."""
    detector = PeerDetector(kind, path, selection, runtime)
    forward, spent = detector.forward, [0.0]

    def timed(tensor: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        start = time.perf_counter()
        outputs = forward(tensor)
        spent[0] += time.perf_counter() - start
        return outputs

    detector.forward = timed  # type: ignore[method-assign]

    def run() -> dict[str, float]:
        spent[0], start = 0.0, time.perf_counter()
        for image in images:
            detector(image)
        return {"total": time.perf_counter() - start, "forward": spent[0]}

    return run


class Worker:
    """Answers orders, one after the other."""

    _pass: Pass | None = None

    def answer(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out one order, or raise an `LffdError`."""
        if order["do"] == "peak":
            return {"gflops": matrix_peak()}
        if order["do"] == "load":
            images = np.load(order["images"], allow_pickle=False)
            selection, runtime = Selection(**order["selection"]), Runtime(**order["runtime"])
            if peer := parse_peer(order["model"]):
                self._pass = peer_pass(*peer, images, selection, runtime)
            else:
                self._pass = network_pass(load_model(order["model"]), images, selection, runtime)
            return {}
        if self._pass is None:
            raise UsageError("the first order must be load")
        if order["do"] == "pass":
            unit = 1 if sys.platform == "darwin" else 1024
            return {**self._pass(), "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6}
        raise UsageError(f"unknown order {order['do']!r}")


if __name__ == "__main__":
    run_worker(Worker().answer)
