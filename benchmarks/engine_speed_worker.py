"""One process that trains with one engine, for `benchmarks.engine_speed`: orders `load`, `steps`, `batches`, `loop`."""

from __future__ import annotations

import dataclasses
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from config_farm.run.assembly import create_run_engine
from config_farm.run.batches import open_batches, training_records
from config_farm.run.experiment import Experiment, recipe
from inference_speed_evaluation.processes import run_worker
from lffd.errors import UsageError
from lffd.training.engine import TrainingBatch
from symbol_farm.versions import version_network

WARM_UP = 3


class GpuWatch:
    """Asks `nvidia-smi` ten times per second for the share of time in which the GPU computed; a context manager.

    Args:
        device: `cuda:0`, `gpu:1`, …; nothing is watched for `cpu`.

    Attributes:
        samples: percent, one per look; filled at the end.
    """

    def __init__(self, device: str) -> None:
        number = re.search(r"\d+$", device)
        query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=100"]
        self._command = ["nvidia-smi", f"--id={number[0] if number else 0}", *query] if device != "cpu" else []
        self.samples: list[float] = []

    def __enter__(self) -> GpuWatch:
        if self._command:
            self._lines = tempfile.TemporaryFile()
            self._process = subprocess.Popen(self._command, stdout=self._lines)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._command:
            self._process.terminate()
            self._process.wait()
            self._lines.seek(0)
            words = self._lines.read().decode(errors="replace").split()
            self.samples = [float(word) for word in words if word.isdigit()]
            self._lines.close()


class SpeedWorker:
    """Holds an engine and a fixed batch, and times steps, batches, or both together."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def answer(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out one order.

        Raises:
            LffdError: when it cannot be met.
        """
        if order["do"] == "load":
            self._load(order)
            return {"device": self._engine.device}
        if order["do"] == "steps":
            return self._time(iter(lambda: self._fixed, None), order["count"])
        if order["do"] == "batches":
            return self._time_batches(order["count"])
        if order["do"] == "loop":
            with open_batches(self._network, self._experiment, self._source, start=1) as batches:
                self._time(batches, WARM_UP)  # the loader has begun to work ahead
                return self._time(batches, order["count"])
        raise UsageError(f"unknown order {order['do']!r}")

    def _load(self, order: dict[str, Any]) -> None:
        """Make engine, records and a batch; run the first steps, which choose algorithms and compile."""
        self._network = version_network(order["version"])
        names = {field.name for field in dataclasses.fields(Experiment)} - {"version"}
        chosen = {name: value for name, value in order.items() if name in names}
        self._experiment = dataclasses.replace(recipe(self._network, "ours"), **chosen)
        self._source = self._stack.enter_context(training_records(self._experiment))
        self._engine, _ = create_run_engine(self._network, self._experiment, self._source, None)
        with open_batches(self._network, self._experiment, self._source, start=0) as batches:
            self._fixed = next(batches)
        self._time(iter(lambda: self._fixed, None), WARM_UP)

    def _time(self, batches: Iterator[TrainingBatch], count: int) -> dict[str, Any]:
        """Return seconds and the GPU's mean busy percent of `count` steps; one step is always under way."""
        rate, before = self._experiment.schedule.learning_rate, None
        with GpuWatch(self._experiment.device) as watch:
            started = time.perf_counter()
            for _ in range(count):
                pending = self._engine.step([next(batches)], rate)
                if before is not None:
                    before.wait()
                before = pending
            pending.wait()
            seconds = time.perf_counter() - started
        return {"seconds": seconds, "busy": statistics.mean(watch.samples) if watch.samples else None}

    def _time_batches(self, count: int) -> dict[str, Any]:
        """Return seconds for making `count` batches with nobody training."""
        with open_batches(self._network, self._experiment, self._source, start=1) as batches:
            for _ in range(WARM_UP):
                next(batches)
            started = time.perf_counter()
            for _ in range(count):
                next(batches)
            return {"seconds": time.perf_counter() - started, "busy": None}


if __name__ == "__main__":
    run_worker(SpeedWorker().answer)
