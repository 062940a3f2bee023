"""Timing detectors against each other: every round runs each of them once, so that a slow moment hits all alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from detection.selection import Selection
from inference_speed_evaluation.processes import WorkerProcess
from lffd.errors import EngineError
from lffd.graphs.network import Network

BASELINE = ("mxnet", "fp32")
"""Engine and precision that ratios refer to."""

FEWEST_ROUNDS = 3


@dataclass(frozen=True)
class Candidate:
    """One detector that takes part.

    Attributes:
        model: name for people.
        weights: `random weights`, or where they are from.
        place: model directory, or `peer:KIND=FILE`.
        engine, precision: what runs it.
        network: the declaration; None for a peer.
    """

    model: str
    weights: str
    place: str
    engine: str
    precision: str
    network: Network | None

    @property
    def label(self) -> str:
        """Name of the row."""
        return f"{self.model} {self.engine} {self.precision}"


@dataclass(frozen=True)
class Setting:
    """Attributes: width, height: of the images; batch: images per pass; threads: of the CPU; device: of all."""

    width: int
    height: int
    batch: int = 1
    threads: int = 1
    device: str = "cpu"


@dataclass(frozen=True)
class Effort:
    """How long to measure: `rounds` at most, `FEWEST_ROUNDS` at least, about `seconds` per setting; `warmup` before."""

    rounds: int
    seconds: float
    warmup: int


@dataclass(frozen=True)
class Row:
    """The figures of one candidate in one setting; times are medians in ms per pass.

    Attributes:
        model, weights, engine, precision, resolution, batch, threads, device: what was timed.
        total_ms, total_p95_ms: from images in memory to detections.
        forward_ms, forward_p95_ms: inside the engine.
        decode_ms, suppression_ms, other_ms: the rest, split; None for peers.
        fps: images per second, from `total_ms`.
        ratio_to_mxnet: median over the rounds of `forward` divided by MXNet's of the same round; below 1 is faster.
        ratio_low, ratio_high: quartiles of the same.
        gmac: billions of multiply–adds per image; gflops: 2 × that × batch, per second of `forward_ms`.
        peak_share: `gflops` over the machine's measured float32 matrix peak; only for fp32.
        peak_memory_mb: of the process.
        rounds: how many were timed.
        error: why there are no figures; empty when there are.
    """

    model: str
    weights: str
    engine: str
    precision: str
    resolution: str
    batch: int
    threads: int
    device: str
    total_ms: float | None = None
    total_p95_ms: float | None = None
    forward_ms: float | None = None
    forward_p95_ms: float | None = None
    decode_ms: float | None = None
    suppression_ms: float | None = None
    other_ms: float | None = None
    fps: float | None = None
    ratio_to_mxnet: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    gmac: float | None = None
    gflops: float | None = None
    peak_share: float | None = None
    peak_memory_mb: float | None = None
    rounds: int = 0
    error: str = ""


@dataclass
class _Times:
    """Passes of one candidate."""

    passes: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""

    def column(self, name: str) -> np.ndarray[Any, np.dtype[np.float64]] | None:
        values = [entry[name] for entry in self.passes]
        return None if not values or None in values else np.array(values, np.float64)


def measure_setting(
    candidates: Sequence[Candidate],
    setting: Setting,
    *,
    images: Path,
    selection: Selection,
    effort: Effort,
) -> list[Row]:
    """Time all candidates in one setting, in turn.

    Args:
        candidates: what to time.
        setting: sizes, threads, device.
        images: `.npy` file with the images `(B, H, W, 3)` uint8.
        selection: which candidates of the networks become detections.
        effort: how long.

    Returns:
        One row per candidate; one that cannot run has its `error` instead of figures.
    """
    times = {candidate: _Times() for candidate in candidates}
    with ExitStack() as stack:
        workers: dict[Candidate, WorkerProcess] = {}
        for candidate in candidates:
            worker = stack.enter_context(WorkerProcess(setting.threads, candidate.label))
            order = {"do": "load", "model": candidate.place, "engine": candidate.engine, "images": str(images)}
            order |= {"precision": candidate.precision, "device": setting.device}
            _attempt(times[candidate], worker, **order, threads=setting.threads, selection=asdict(selection))
            for _ in range(effort.warmup):
                _attempt(times[candidate], worker, do="pass")
            times[candidate].passes.clear()
            workers[candidate] = worker
        _run_rounds(workers, times, effort)
    baselines = {c.model: times[c] for c in candidates if (c.engine, c.precision) == BASELINE}
    return [_row(c, setting, times[c], baselines.get(c.model)) for c in candidates]


def _attempt(record: _Times, worker: WorkerProcess, **order: Any) -> None:
    """Ask a worker that has not failed yet, and keep its answer or its failure."""
    if record.error:
        return
    try:
        answer = worker.ask(**order)
    except EngineError as error:
        record.error = str(error)
        worker.close()
        return
    if order["do"] == "pass":
        record.passes.append(answer)


def _run_rounds(workers: dict[Candidate, WorkerProcess], times: dict[Candidate, _Times], effort: Effort) -> None:
    """Run rounds; each starts with another candidate, so that none always follows the same one."""
    order, end = list(workers), time.perf_counter() + effort.seconds
    for number in range(effort.rounds):
        if number >= FEWEST_ROUNDS and time.perf_counter() > end:
            break
        first = number % len(order)
        for candidate in order[first:] + order[:first]:
            _attempt(times[candidate], workers[candidate], do="pass")


def _row(candidate: Candidate, setting: Setting, times: _Times, baseline: _Times | None) -> Row:
    """Return the figures of one candidate."""
    identity: dict[str, Any] = {
        "model": candidate.model,
        "weights": candidate.weights,
        "engine": candidate.engine,
        "precision": candidate.precision,
        "resolution": f"{setting.width}x{setting.height}",
        "batch": setting.batch,
        "threads": setting.threads,
        "device": setting.device,
    }
    total, forward = times.column("total"), times.column("forward")
    if times.error or total is None or forward is None:
        return Row(**identity, error=times.error or "no pass was timed")
    parts = {name: times.column(name) for name in ("decode", "suppression")}
    split: dict[str, Any] = {f"{n}_ms": 1e3 * float(np.median(v)) for n, v in parts.items() if v is not None}
    if parts["decode"] is not None and parts["suppression"] is not None:
        rest = total - forward - parts["decode"] - parts["suppression"]
        split["other_ms"] = 1e3 * float(np.median(np.maximum(rest, 0)))
    return Row(
        **identity,
        total_ms=1e3 * float(np.median(total)),
        total_p95_ms=1e3 * float(np.percentile(total, 95)),
        forward_ms=1e3 * float(np.median(forward)),
        forward_p95_ms=1e3 * float(np.percentile(forward, 95)),
        fps=setting.batch / float(np.median(total)),
        peak_memory_mb=float(times.passes[-1]["memory_mb"]),
        rounds=len(times.passes),
        **split,
        **_ratios(forward, None if baseline is None else baseline.column("forward")),
        **_work(candidate, setting, float(np.median(forward))),
    )


def _ratios(forward: Any, baseline: Any) -> dict[str, Any]:
    """Return median and quartiles of the ratios to the baseline, round by round."""
    if baseline is None or len(baseline) != len(forward):
        return {}
    low, middle, high = np.percentile(forward / baseline, [25, 50, 75])
    return {"ratio_to_mxnet": float(middle), "ratio_low": float(low), "ratio_high": float(high)}


def _work(candidate: Candidate, setting: Setting, forward: float) -> dict[str, Any]:
    """Return what the network computes per image and per second."""
    if candidate.network is None:
        return {}
    gmac = sum(candidate.network.multiply_adds(setting.height, setting.width).values()) / 1e9
    return {"gmac": gmac, "gflops": 2 * gmac * setting.batch / forward}


def with_peak(row: Row, peaks: dict[int, float]) -> Row:
    """Return a row with its share of the float32 matrix peak; `peaks` holds GFLOP/s by number of threads."""
    peak = peaks.get(row.threads)
    if peak is None or row.gflops is None or row.precision != "fp32":
        return row
    return replace(row, peak_share=row.gflops / peak)
