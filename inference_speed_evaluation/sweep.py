"""Timing detectors against each other: every round runs each of them once, so that a slow moment hits all alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.selection import Selection
from inference_speed_evaluation.processes import WorkerProcess
from lffd.engines.runtime import Runtime
from lffd.errors import EngineError
from lffd.graphs.network import Network

BASELINE = ("mxnet", "fp32")
"""Engine and precision that ratios refer to."""

FEWEST_ROUNDS = 3


@dataclass(frozen=True, eq=False)
class Contender:
    """One detector that takes part: `model` is its name for people, `place` a model directory or `peer:KIND=FILE`.

    `weights` says where they are from, or `random weights`; a peer has no `network`.
    """

    model: str
    weights: str
    place: str
    engine: str
    precision: str
    network: Network | None


@dataclass(frozen=True)
class Setting:
    """Size of the images in pixels, images per pass, threads of the CPU, and the device of all."""

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
    """The figures of one contender in one setting; times are medians in ms per pass."""

    model: str
    weights: str
    engine: str
    precision: str
    resolution: str
    batch: int
    threads: int
    device: str
    total_ms: float | None = None  # from images in memory to detections
    total_p95_ms: float | None = None
    forward_ms: float | None = None  # inside the engine
    forward_p95_ms: float | None = None
    decode_ms: float | None = None  # the rest, split; None for peers
    suppression_ms: float | None = None
    other_ms: float | None = None
    fps: float | None = None  # images per second, from `total_ms`
    ratio_to_mxnet: float | None = None  # median over the rounds of forward by MXNet's of the same round; <1 is faster
    ratio_low: float | None = None  # quartiles of the same
    ratio_high: float | None = None
    gmac: float | None = None  # billions of multiply–adds per image
    gflops: float | None = None  # 2 × gmac × batch, per second of `forward_ms`
    peak_share: float | None = None  # `gflops` over the machine's measured float32 matrix peak; only for fp32
    peak_memory_mb: float | None = None  # of the process
    rounds: int = 0  # how many were timed
    error: str = ""  # why there are no figures


@dataclass
class _Times:
    """Passes of one contender, or why there are none."""

    passes: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""

    def column(self, name: str) -> NDArray[np.float64] | None:
        """Return one phase of every pass in ms; None where it is not told apart."""
        values = [entry[name] for entry in self.passes if name in entry]
        return 1e3 * np.array(values) if values else None

    def attempt(self, worker: WorkerProcess, **order: Any) -> None:
        """Ask a worker that has not failed yet, and keep its answer to a `pass`, or its failure."""
        if self.error:
            return
        try:
            answer = worker.ask(**order)
            if order["do"] == "pass":
                self.passes.append(answer)
        except EngineError as error:
            self.error = str(error)
            worker.close()


def measure_setting(
    contenders: Sequence[Contender], setting: Setting, *, images: Path, selection: Selection, effort: Effort
) -> list[Row]:
    """Time all contenders in one setting, in turn, on the images `(B, H, W, 3)` uint8 of a `.npy` file.

    Returns one row per contender; one that cannot run has its `error` instead of figures.
    """
    times = {contender: _Times() for contender in contenders}
    with ExitStack() as stack:
        workers: dict[Contender, WorkerProcess] = {}
        for contender in contenders:
            name = f"{contender.model} {contender.engine} {contender.precision}"
            worker = workers[contender] = stack.enter_context(WorkerProcess(setting.threads, name))
            runtime = asdict(Runtime(contender.engine, setting.device, setting.threads, contender.precision))
            order = {"model": contender.place, "images": str(images), "selection": asdict(selection)}
            times[contender].attempt(worker, do="load", **order, runtime=runtime)
            for _ in range(effort.warmup):
                times[contender].attempt(worker, do="pass")
            times[contender].passes.clear()
        end = time.perf_counter() + effort.seconds
        for number in range(effort.rounds):
            if number >= FEWEST_ROUNDS and time.perf_counter() > end:
                break
            first = number % len(contenders)  # each round starts with another, so that none always follows the same one
            for contender in [*contenders[first:], *contenders[:first]]:
                times[contender].attempt(workers[contender], do="pass")
    baselines = {c.model: times[c].column("forward") for c in contenders if (c.engine, c.precision) == BASELINE}
    return [_row(c, setting, times[c], baselines.get(c.model)) for c in contenders]


def _row(contender: Contender, setting: Setting, times: _Times, baseline: NDArray[np.float64] | None) -> Row:
    """Return the figures of one contender; `baseline` is what forward took the baseline in each round, in ms."""
    identity = (contender.model, contender.weights, contender.engine, contender.precision)
    size = f"{setting.width}x{setting.height}"
    row = Row(*identity, size, setting.batch, setting.threads, setting.device, error=times.error)
    total, forward = times.column("total"), times.column("forward")
    if times.error or total is None or forward is None:
        return replace(row, error=times.error or "no pass was timed")
    phases = {"total": total, "forward": forward}
    figures = {f"{name}_p95_ms": float(np.percentile(values, 95)) for name, values in phases.items()}
    decode, suppression = times.column("decode"), times.column("suppression")
    if decode is not None and suppression is not None:
        other = np.maximum(total - forward - decode - suppression, 0)
        phases |= {"decode": decode, "suppression": suppression, "other": other}
    figures |= {f"{name}_ms": float(np.median(values)) for name, values in phases.items()}
    figures |= {"fps": 1e3 * setting.batch / figures["total_ms"], "peak_memory_mb": times.passes[-1]["memory_mb"]}
    if baseline is not None and len(baseline) == len(forward):
        quartiles = np.percentile(forward / baseline, [25, 50, 75]).tolist()
        figures |= dict(zip(("ratio_low", "ratio_to_mxnet", "ratio_high"), quartiles, strict=True))
    if contender.network is not None:
        width, height = contender.network.seen_size(setting.width, setting.height)
        gmac = sum(contender.network.multiply_adds(height, width).values()) / 1e9
        figures |= {"gmac": gmac, "gflops": 2e3 * gmac * setting.batch / figures["forward_ms"]}
    return replace(row, rounds=len(times.passes), **figures)  # type: ignore[arg-type]  # all of them are floats


def with_peak(row: Row, peaks: dict[int, float]) -> Row:
    """Return a row with its share of the float32 matrix peak; `peaks` holds GFLOP/s by number of threads."""
    if row.threads not in peaks or row.gflops is None or row.precision != "fp32":
        return row
    return replace(row, peak_share=row.gflops / peaks[row.threads])
