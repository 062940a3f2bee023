"""The training loop: it knows neither the engine nor the task.

Batches come in, steps go out, and everything that the run depends on is in a checkpoint: a run that is killed at any
moment and resumed ends with the same parameters as one that never stopped.
"""

from __future__ import annotations

import io
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lffd.errors import LffdError
from lffd.files import write_atomic
from lffd.training.checkpoint import write_checkpoint
from lffd.training.engine import PendingReport, StepReport, TrainingBatch, TrainingEngine
from lffd.training.options import ScheduleOptions
from lffd.training.progress import Progress, StopRequest
from lffd.training.run_log import RunLog

BatchT = TypeVar("BatchT", bound=TrainingBatch)
Validate = Callable[[], Mapping[str, float]]
Summarise = Callable[[Mapping[str, NDArray[np.float64]], int], list[dict[str, float | None]]]

_EXHAUSTED = 1
"""Reason to stop that is no signal; workers agree on the largest reason of any of them."""

FAILED_BATCH_FILE = "failed_batch_{rank}.npz"


class NonFiniteError(LffdError, ArithmeticError):
    """A loss or gradient became NaN or Inf; the message names batch, branch and records."""


@dataclass(frozen=True)
class LoopOptions:
    """How long a run goes on and how often it looks up."""

    iterations: int
    accumulate: int = 1
    checkpoint_every: int = 500
    validate_every: int = 1000
    log_every: int = 20
    patience: int = 0
    """Stop after so many validations without a better score; 0 never stops early."""


class Trainer:
    """One run of the loop.

    Args:
        engine: holds what learns, in the state that `progress` tells of.
        open_batches: opens the endless stream of batches at a given index.
        options: lengths and intervals.
        schedule: learning rate by iteration.
        folder: the run's output directory; checkpoints go below it.
        log: where to report.
        progress: where to start from.
        summarise: turns summed statistics and a number of images into metrics per branch.
        validate: returns scores of the engine's deployable model by name, the deciding one first.
        keep_best: called when validation found a better model than ever before.
        leader: false for workers that must not write.
    """

    def __init__(
        self,
        engine: TrainingEngine,
        open_batches: Callable[[int], AbstractContextManager[Iterator[BatchT]]],
        options: LoopOptions,
        schedule: ScheduleOptions,
        *,
        folder: Path,
        log: RunLog,
        progress: Progress,
        summarise: Summarise,
        validate: Validate | None = None,
        keep_best: Callable[[Progress], None] | None = None,
        leader: bool = True,
    ) -> None:
        self.engine, self.options, self.schedule = engine, options, schedule
        self.folder, self.log, self.progress = folder, log, progress
        self._open_batches, self._summarise = open_batches, summarise
        self._validate, self._keep_best, self._leader = validate, keep_best, leader
        self._pending: deque[tuple[int, Sequence[TrainingBatch], PendingReport]] = deque()
        self._window = _Window()

    def run(self) -> int | None:
        """Train until the end, an early stop, or a signal.

        Returns:
            The signal that stopped the run, or None when it is finished.

        Raises:
            NonFiniteError: when a loss or gradient is NaN or Inf; the offending batch is saved first.
        """
        options, progress = self.options, self.progress
        with StopRequest() as stop, self._open_batches(progress.iteration * options.accumulate) as batches:
            if progress.validation_owed:
                self._check()
            while progress.iteration < options.iterations:
                self._step(batches)
                last = progress.iteration == options.iterations
                if self._validate is not None and self._due(options.validate_every, last):
                    progress.validation_owed = True  # saved first: a validation may outlast a patient killer
                    self._save()
                    self._check()
                halt = self.engine.agree(self._reason_to_stop(stop))
                if halt or self._due(options.checkpoint_every, last):
                    self._save()
                if halt > _EXHAUSTED and not last:
                    return halt - _EXHAUSTED
                if halt == _EXHAUSTED:
                    break
        return None

    def _reason_to_stop(self, stop: StopRequest) -> int:
        """Return 0 to go on, `_EXHAUSTED` when validation gains nothing any more, beyond that the signal that came."""
        if stop.signal is not None:
            return _EXHAUSTED + stop.signal
        return _EXHAUSTED if 0 < self.options.patience <= self.progress.without_gain else 0

    def _due(self, every: int, last: bool) -> bool:
        return last or (every > 0 and self.progress.iteration % every == 0)

    def _step(self, batches: Iterator[TrainingBatch]) -> None:
        """Make one step, and look at the report of the one before, so that the device never waits for the host."""
        started, iteration, window = time.perf_counter(), self.progress.iteration, self._window
        group = [next(batches) for _ in range(self.options.accumulate)]
        window.waited += time.perf_counter() - started
        rate = self.schedule.rate(iteration, self.options.iterations)
        self._pending.append((iteration, group, self.engine.step(group, rate)))
        if len(self._pending) > 1:
            self._look(*self._pending.popleft())
        self.progress.iteration += 1
        self._count_time(started)
        reporting = self._due(self.options.log_every, self.progress.iteration == self.options.iterations)
        if reporting:
            self._settle()
        window.steps += 1
        window.images += sum(len(batch.images) for batch in group) * self.engine.workers
        loss = f"loss {window.losses / window.reported:.4g}, " if window.reported else ""
        self.log.advance(f"{loss}{window.images / window.seconds:.1f} img/s, data wait {100 * window.wait:.0f} %")
        if reporting and window.statistics:
            self._report(rate)

    def _settle(self) -> None:
        """Wait for every step under way; this time belongs to the steps too."""
        started = time.perf_counter()
        while self._pending:
            self._look(*self._pending.popleft())
        self._count_time(started)

    def _count_time(self, started: float) -> None:
        elapsed = time.perf_counter() - started
        self.progress.seconds += elapsed
        self._window.seconds += elapsed

    def _look(self, iteration: int, group: Sequence[TrainingBatch], pending: PendingReport) -> None:
        """Take in a finished step's report; refuse one that is not finite."""
        report = pending.wait()
        figures = [*report.statistics.values(), np.array([report.loss, report.gradient_norm])]
        if not all(np.isfinite(values).all() for values in figures):
            raise self._failure(iteration, group, report)
        self._window.add(report)

    def _failure(self, iteration: int, group: Sequence[TrainingBatch], report: StepReport) -> NonFiniteError:
        """Save the offending batches and return an error that names them."""
        path = self.folder / FAILED_BATCH_FILE.format(rank=self.engine.rank)
        arrays: dict[str, Any] = {}
        for number, batch in enumerate(group):
            arrays |= {f"{number}/images": batch.images, f"{number}/names": np.array(batch.names)}
            for branch, targets in enumerate(batch.targets):
                arrays |= {f"{number}/{name}_{branch}": values for name, values in targets.items()}
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        write_atomic(path, content.getvalue())
        sums = np.stack([values for name, values in report.statistics.items() if name.endswith("_loss")])
        broken = np.flatnonzero(~np.isfinite(sums).all(axis=0)).tolist()
        where = f"the loss of branch {', '.join(map(str, broken))}" if broken else "the gradient"
        names = [name for batch in group for name in batch.names]
        self.engine.step(group, 0.0).wait()  # the step after it has run since: bring its gradient back
        parameters = self.engine.nonfinite()
        return NonFiniteError(
            f"iteration {iteration}: {where} is NaN or Inf (loss {report.loss}, gradient norm {report.gradient_norm}; "
            f"parameters: {', '.join(parameters[:6]) or 'none'}{' …' if len(parameters) > 6 else ''}). "
            f"Batch {', '.join(str(batch.index) for batch in group)} is saved in {path}; its records: "
            f"{', '.join(names[:8])}{' …' if len(names) > 8 else ''}. The same run would meet it again: start another "
            f"one from the last checkpoint with --init-from {self.folder / 'checkpoints'} and a lower "
            "--schedule.learning-rate or --optimizer.clip-norm"
        )

    def _report(self, rate: float) -> None:
        """Write what the steps since the last report found."""
        window, self._window = self._window, _Window()
        self.log.record(
            {
                "iteration": self.progress.iteration,
                "loss": window.losses / window.reported,
                "learning_rate": rate,
                "gradient_norm": window.norm / window.reported,
                "images_per_second": window.images / window.seconds,
                "data_wait": window.wait,
                "seconds": self.progress.seconds,
                "branches": self._summarise(window.statistics, window.reported * window.images // window.steps),
            }
        )

    def _check(self) -> None:
        """Validate, remember the best model, and save that this is done."""
        if self._validate is None:
            return
        self._settle()
        started, progress = time.perf_counter(), self.progress
        scores = dict(self._validate())
        name, score = next(iter(scores.items()))
        better = progress.best_score is None or score > progress.best_score
        progress.without_gain = 0 if better else progress.without_gain + 1
        if better:
            progress.best_score, progress.best_iteration = score, progress.iteration
            if self._keep_best is not None and self._leader:
                self._keep_best(progress)
        self.log.record({"iteration": progress.iteration, "validation": scores})
        self.log.draw_curves()
        listed = ", ".join(f"{key} {value:.4f}" for key, value in scores.items())
        seconds = time.perf_counter() - started
        best = f"best {name} {progress.best_score:.4f} at {progress.best_iteration}"
        self.log.say(f"iteration {progress.iteration}: {listed} ({best}; {seconds:.0f} s)")
        progress.validation_owed = False
        self._save()

    def _save(self) -> None:
        """Write a checkpoint of the steps so far, none of which is under way any more."""
        self._settle()
        if self._leader:
            facts = self.progress.to_facts()
            write_checkpoint(self.folder / "checkpoints", self.progress.iteration, self.engine.state(), facts)


@dataclass
class _Window:
    """Sums over the steps since the last report; images are those of all workers."""

    statistics: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    losses: float = 0.0
    norm: float = 0.0
    waited: float = 0.0
    seconds: float = 0.0
    reported: int = 0
    steps: int = 0
    images: int = 0

    @property
    def wait(self) -> float:
        return self.waited / self.seconds

    def add(self, report: StepReport) -> None:
        self.reported += 1
        self.losses += report.loss
        self.norm += report.gradient_norm
        for name, values in report.statistics.items():
            self.statistics[name] = self.statistics.get(name, 0.0) + values
