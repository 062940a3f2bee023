"""Measure what decoding and suppression cost beside the network, on a crowded picture.

The network runs on noise, whose content does not change its speed. What is decoded are maps as a trained network
gives them on a crowd: around each made-up face every cell of the responsible branch in the middle of the face finds
it, a little off, with a score of its own.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from accuracy_evaluation.output_files import write_json
from detection.decoding import decode
from detection.detector import PREDICTION
from inference_speed_evaluation.inference_speed_eval import random_weights
from lffd import cli
from lffd.engines import BranchMaps
from lffd.engines.factory import create_engine
from lffd.engines.runtime import Runtime
from lffd.errors import UsageError
from lffd.files import check_output
from lffd.graphs.branches import BranchGeometry
from lffd.graphs.network import Network

_MIDDLE = 0.65
"""Share of a face's side around its centre in which cells find it."""


@dataclass(frozen=True)
class Options:
    """What to measure."""

    version: str = "v2"
    """Network version; its weights are random."""
    size: str = "640x480"
    """Width and height of the picture in pixels."""
    faces: int = 500
    """How many faces the picture is to hold; fewer when no more fit."""
    engine: str = "auto"
    """What runs the network."""
    threads: int | None = None
    """CPU threads; the engine's own choice by default."""
    overlap: Literal["iou", "own-area"] = "iou"
    """Rule of suppression."""
    rounds: int = 25
    """Forward, decoding and suppression in turn, so many times; medians count."""
    json: Path | None = None
    """Write the figures to this file."""


def crowd(width: int, height: int, count: int, smallest: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return up to `count` square faces `(N, 4)` of 1–2.4 times the smallest side that hardly overlap."""
    placed: list[tuple[float, float, float]] = []
    for _ in range(100 * count):
        side = float(smallest * np.exp(rng.uniform(0, np.log(2.4))))
        x, y = rng.uniform(side / 2, width - side / 2), rng.uniform(side / 2, height - side / 2)
        if all(max(abs(x - a), abs(y - b)) > 0.4 * (side + other) for a, b, other in placed):
            placed.append((x, y, side))
        if len(placed) == count:
            break
    rows = np.array(placed, np.float32).reshape(-1, 3)
    return np.concatenate([rows[:, :2] - rows[:, 2:] / 2, rows[:, :2] + rows[:, 2:] / 2], axis=1)


def crowded_maps(
    network: Network, width: int, height: int, faces: NDArray[np.float32], rng: np.random.Generator
) -> list[BranchMaps]:
    """Return maps as a trained network gives them for these faces."""
    maps: list[BranchMaps] = []
    for geometry, (rows, columns) in zip(network.branch_geometry, network.map_sizes(height, width), strict=True):
        maps.append({name: np.zeros((1, n, rows, columns), np.float32) for name, n in (("score", 1), ("box", 4))})
        low, high = geometry.gray_range
        for face in faces:
            if low <= face[2] - face[0] <= high:
                _answer(maps[-1], geometry, face, rng)
    return maps


def _answer(part: BranchMaps, geometry: BranchGeometry, face: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Let the cells in the middle of a face find it."""
    side, middle = face[2] - face[0], (face[:2] + face[2:]) / 2
    rows, columns = part["score"].shape[2:]
    for row in np.flatnonzero(np.abs(geometry.centers(rows) - middle[1]) <= _MIDDLE * side / 2):
        for column in np.flatnonzero(np.abs(geometry.centers(columns) - middle[0]) <= _MIDDLE * side / 2):
            place = geometry.first_center + geometry.stride * np.array([[column, row]], np.float32)
            found = face + rng.normal(0, 0.05 * side, 4).astype(np.float32)
            part["score"][0, 0, row, column] = rng.uniform(0.5, 1)
            part["box"][0, :, row, column] = geometry.encode(found[None], place)[0]


def measure(options: Options) -> dict[str, Any]:
    """Return medians in milliseconds, the share of decoding and suppression, and how many boxes went in and out."""
    width, height = cli.parse_size(options.size)
    model = random_weights(options.version)
    network, rng = model.network, np.random.default_rng(0)
    faces = crowd(width, height, options.faces, network.object_range[0], rng)
    maps = crowded_maps(network, width, height, faces, rng)
    engine = create_engine(model, Runtime(options.engine, threads=options.threads))
    image = rng.integers(0, 256, (1, height, width, 3), np.uint8)
    selection = replace(PREDICTION, overlap=options.overlap, max_detections=10_000)
    times: list[Sequence[float]] = []
    for _ in range(options.rounds + 2):
        moments = [time.perf_counter()]
        engine.run(image)
        moments.append(time.perf_counter())
        found = decode(maps, network.branch_geometry, selection.score_threshold, selection.top_k)
        moments.append(time.perf_counter())
        chosen = selection.select(found.boxes, found.scores)
        moments.append(time.perf_counter())
        times.append(np.diff(moments).tolist())
    forward, decoding, suppression = (1000 * statistics.median(column) for column in zip(*times[2:], strict=True))
    facts = {"network": network.name, "engine": engine.name, "size": options.size}
    counts = {"faces": len(faces), "candidates": found.scores.size, "detections": chosen.size}
    medians = {"forward_ms": forward, "decoding_ms": decoding, "suppression_ms": suppression}
    return {**facts, **counts, **medians, "share": (decoding + suppression) / forward}


def main(options: Options) -> None:
    """Measure decoding and suppression of a crowded picture as a share of the network's forward pass."""
    if options.rounds < 1 or options.faces < 1:
        raise UsageError("rounds and faces must be at least 1")
    check_output(options.json, marks=('"suppression_ms":',))
    figures: dict[str, Any] = measure(options)
    print(
        "{network} on {engine}, {size}: {faces} faces, {candidates:,} candidates, {detections} detections\n"
        "forward {forward_ms:.1f} ms, decoding {decoding_ms:.2f} ms, suppression {suppression_ms:.2f} ms: "
        "{share:.1%} of the forward pass".format(**figures)
    )
    write_json(options.json, figures)


if __name__ == "__main__":
    cli.run(main)
