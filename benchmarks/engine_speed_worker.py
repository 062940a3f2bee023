"""One process that trains with one engine, for `benchmarks.engine_speed`: `load`, then `steps`, `batches`, `loop`."""

from __future__ import annotations

import dataclasses
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from config_farm.run.assembly import create_run_engine
from config_farm.run.data import open_batches, training_records
from config_farm.run.experiment import recipe
from inference_speed_evaluation.processes import run_worker
from lffd.errors import UsageError
from lffd.training.engine import TrainingBatch
from lffd.training.loop import LoopOptions, Trainer
from lffd.training.progress import Progress
from lffd.training.run_log import RunLog
from metric_farm.branch_metrics import summarise
from symbol_farm.versions import version_network

WARM_UP = 3


@contextmanager
def watch_gpu(device: str) -> Iterator[list[float]]:
    """Ask `nvidia-smi` ten times per second for the share of time in which the GPU computed; nothing for `cpu`.

    Yields:
        A list that holds the percent of every look once the block has ended.
    """
    samples: list[float] = []
    if device == "cpu":
        yield samples
        return
    number = re.search(r"\d+$", device)
    query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=100"]
    with tempfile.TemporaryFile() as lines:
        process = subprocess.Popen(["nvidia-smi", f"--id={number[0] if number else 0}", *query], stdout=lines)
        try:
            yield samples
        finally:
            process.terminate()
            process.wait()
            lines.seek(0)
            samples += [float(word) for word in lines.read().decode(errors="replace").split() if word.isdigit()]


class SpeedWorker:
    """Holds an engine and a fixed batch, and times steps, batches, or both together."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def answer(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out one order; raises `LffdError` when it cannot be met."""
        if order["do"] == "load":
            self._load(order)
            return {"device": self._engine.device}
        measure = {"steps": self._steps, "batches": self._batches, "loop": self._loop}.get(order["do"])
        if measure is None:
            raise UsageError(f"unknown order {order['do']!r}")
        with watch_gpu(self._experiment.device) as busy:
            seconds = measure(order["count"])
        return {"seconds": seconds, "busy": statistics.mean(busy) if busy else None}

    def _load(self, order: dict[str, Any]) -> None:
        """Make engine, records and a batch; run the first steps, which choose algorithms and compile."""
        self._network = version_network(order["version"])
        chosen = {name: value for name, value in order.items() if name not in ("do", "version")}
        self._experiment = dataclasses.replace(recipe(self._network, "ours"), **chosen)
        self._source = self._stack.enter_context(training_records(self._experiment))
        self._engine, _ = create_run_engine(self._network, self._experiment, self._source, None)
        with open_batches(self._network, self._experiment, self._source, start=0) as batches:
            self._fixed = next(batches)
        self._steps(WARM_UP)

    def _steps(self, count: int) -> float:
        """Return the seconds of `count` steps on one batch; one step is always under way."""
        rate, before = self._experiment.schedule.learning_rate, None
        started = time.perf_counter()
        for _ in range(count):
            pending = self._engine.step([self._fixed], rate)
            if before is not None:
                before.wait()
            before = pending
        pending.wait()
        return time.perf_counter() - started

    def _batches(self, count: int) -> float:
        """Return the seconds in which `count` batches are made with nobody training."""
        with self._warm_batches() as batches:
            started = time.perf_counter()
            for _ in range(count):
                next(batches)
            return time.perf_counter() - started

    def _loop(self, count: int) -> float:
        """Return the seconds of `count` iterations of the training loop, with its data, reports and log."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            batches = stack.enter_context(self._warm_batches())
            log = stack.enter_context(RunLog(folder, 0, count, quiet=True))
            options = LoopOptions(iterations=count, checkpoint_every=0, validate_every=0, log_every=count)
            about: dict[str, Any] = {"folder": folder, "log": log, "progress": Progress(), "summarise": summarise}
            schedule = self._experiment.schedule
            trainer = Trainer(self._engine, lambda _: nullcontext(batches), options, schedule, leader=False, **about)
            started = time.perf_counter()
            trainer.run()
            return time.perf_counter() - started

    @contextmanager
    def _warm_batches(self) -> Iterator[Iterator[TrainingBatch]]:
        """Open a loader that has begun to work ahead."""
        with open_batches(self._network, self._experiment, self._source, start=1) as batches:
            for _ in range(WARM_UP):
                next(batches)
            yield batches


if __name__ == "__main__":
    run_worker(SpeedWorker().answer)
