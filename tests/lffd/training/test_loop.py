"""The loop with an engine made of NumPy: when it looks, what it saves, how it stops."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lffd.errors import ModelError, UsageError
from lffd.training.checkpoint import checkpoint_files, newest_checkpoint
from lffd.training.engine import StepReport, TrainingBatch
from lffd.training.loop import LoopOptions, NonFiniteError, Trainer
from lffd.training.losses import statistic_names
from lffd.training.options import ScheduleOptions
from lffd.training.progress import Progress, restore_progress
from lffd.training.run_log import Curve, RunLog, read_metrics
from metric_farm.branch_metrics import summarise
from tests.training_batches import FakeBatch, make_batch


class Report:
    def __init__(self, report: StepReport) -> None:
        self.report = report

    def wait(self) -> StepReport:
        return self.report


class NumpyEngine:
    """Adds up what it is shown, so that any batch left out, repeated or reordered changes its state."""

    name, device, rank, workers = "numpy", "cpu", 0, 1

    def __init__(self, spoil: int | None = None) -> None:
        self.value = np.zeros(1)
        self.seen: list[int] = []
        self.spoil = spoil

    def step(self, batches: Sequence[TrainingBatch], learning_rate: float) -> Report:
        for batch in batches:
            self.seen.append(batch.index)
            self.value = self.value * 0.9 + learning_rate * (batch.index + 1)
        statistics = {name: np.ones(2) for name in statistic_names(("score", "box"))}
        if batches[0].index == self.spoil:
            statistics["score_loss"][1] = np.nan
        return Report(StepReport(statistics, float(statistics["score_loss"].sum()), 1.0))

    def agree(self, code: int) -> int:
        return code

    def state(self) -> dict[str, np.ndarray]:
        return {"arg:value": self.value}

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.value = arrays["arg:value"]

    def deployable(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"value": self.value}, {}

    def nonfinite(self) -> list[str]:
        return ["conv7_weight"]


BATCH = make_batch(2)


@contextmanager
def stream(start: int) -> Iterator[Iterator[FakeBatch]]:
    def batches() -> Iterator[FakeBatch]:
        index = start
        while True:
            yield FakeBatch(index, ("a", "b"), BATCH.images, BATCH.targets)
            index += 1

    yield batches()


def run(
    folder: Path, options: LoopOptions, engine: NumpyEngine | None = None, progress: Progress | None = None, **more: Any
) -> tuple[NumpyEngine, Progress, int | None]:
    engine, progress = engine or NumpyEngine(), progress or Progress()
    with RunLog(folder, progress.iteration, options.iterations) as log:
        trainer = Trainer(
            engine, stream, options, ScheduleOptions(learning_rate=0.1, warm_up=2), folder=folder, log=log,
            progress=progress, summarise=summarise, **more,
        )  # fmt: skip
        return engine, progress, trainer.run()


def test_every_batch_once_and_in_order(tmp_path: Path) -> None:
    engine, progress, stopped = run(tmp_path, LoopOptions(iterations=5, accumulate=2))
    assert engine.seen == list(range(10))
    assert (progress.iteration, stopped) == (5, None)


@pytest.mark.parametrize("first", [1, 3, 5])
def test_stopped_and_resumed_is_the_run_that_never_stopped(tmp_path: Path, first: int) -> None:
    whole, _, _ = run(tmp_path, LoopOptions(iterations=7, accumulate=2))
    options = LoopOptions(iterations=7, accumulate=2, checkpoint_every=first, log_every=1)
    folder = tmp_path / "again"
    folder.mkdir()

    class Stopping(NumpyEngine):
        def step(self, batches: Sequence[TrainingBatch], learning_rate: float) -> Report:
            if len(self.seen) == 2 * first:
                os.kill(os.getpid(), signal.SIGTERM)  # noticed after this step
            return super().step(batches, learning_rate)

    _, _, stopped = run(folder, options, Stopping())
    assert stopped == signal.SIGTERM
    checkpoint, _ = newest_checkpoint(folder / "checkpoints")
    assert checkpoint is not None
    progress = restore_progress(checkpoint.facts)
    assert progress.iteration == first + 1
    resumed = NumpyEngine()
    resumed.load_state(checkpoint.arrays)
    run(folder, options, resumed, progress)
    np.testing.assert_array_equal(resumed.value, whole.value)
    lines = [entry["iteration"] for entry in read_metrics(folder / "metrics.jsonl")]
    assert lines == list(range(1, 8))


def test_a_signal_at_the_very_end_still_finishes(tmp_path: Path) -> None:
    class Stopping(NumpyEngine):
        def step(self, batches: Sequence[TrainingBatch], learning_rate: float) -> Report:
            if len(self.seen) == 2:
                os.kill(os.getpid(), signal.SIGINT)
            return super().step(batches, learning_rate)

    before = signal.getsignal(signal.SIGINT)
    _, progress, stopped = run(tmp_path, LoopOptions(iterations=3), Stopping())
    assert (progress.iteration, stopped) == (3, None)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_loss_that_is_not_finite_stops_with_names_and_the_batch(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError) as caught:
        run(tmp_path, LoopOptions(iterations=9, checkpoint_every=2), NumpyEngine(spoil=5))
    text = str(caught.value)
    assert "iteration 5: the loss of branch 1 is NaN or Inf" in text
    assert "its records: a, b" in text
    assert "conv7_weight" in text
    with np.load(tmp_path / "failed_batch_0.npz") as saved:
        np.testing.assert_array_equal(saved["0/images"], BATCH.images)
        np.testing.assert_array_equal(saved["0/score_1"], BATCH.targets[1]["score"])
        np.testing.assert_array_equal(saved["0/box_0"], BATCH.targets[0]["box"])
        assert saved["0/names"].tolist() == ["a", "b"]
    checkpoint, _ = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.facts["iteration"] == 4  # nothing broken was saved


def test_validation_keeps_the_best_and_stops_early(tmp_path: Path) -> None:
    scores, kept = iter([0.1, 0.5, 0.4, 0.5, 0.9]), []
    _, progress, _ = run(
        tmp_path,
        LoopOptions(iterations=50, validate_every=2, patience=2),
        validate=lambda: {"AP50": next(scores)},
        keep_best=lambda p: kept.append(p.iteration),
    )
    assert kept == [2, 4]
    assert (progress.best_score, progress.best_iteration, progress.iteration) == (0.5, 4, 8)
    checked = [
        entry["validation"]["AP50"] for entry in read_metrics(tmp_path / "metrics.jsonl") if "validation" in entry
    ]
    assert checked == [0.1, 0.5, 0.4, 0.5]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_remembered_travels_in_the_checkpoint(tmp_path: Path) -> None:
    progress = Progress(facts={"records": 3})
    run(tmp_path, LoopOptions(iterations=4, validate_every=2), progress=progress, validate=lambda: {"AP50": 0.25})
    checkpoint, _ = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    restored = restore_progress(checkpoint.facts)
    assert restored == progress
    assert (restored.best_score, restored.without_gain, restored.facts) == (0.25, 1, {"records": 3})


def test_the_last_line_reports_and_few_checkpoints_stay(tmp_path: Path) -> None:
    run(tmp_path, LoopOptions(iterations=11, checkpoint_every=1, log_every=4))
    assert [path.name for path in checkpoint_files(tmp_path / "checkpoints")] == [
        "iteration_00000011.npz",
        "iteration_00000010.npz",
        "iteration_00000009.npz",
    ]
    entries = read_metrics(tmp_path / "metrics.jsonl")
    assert [entry["iteration"] for entry in entries] == [4, 8, 11]
    assert {"loss", "learning_rate", "images_per_second", "data_wait", "branches"} <= entries[0].keys()
    assert entries[0]["branches"][0]["positives"] == pytest.approx(4 / 8)


@pytest.mark.parametrize("log_every", [1, 3])
def test_the_time_that_a_device_takes_counts(tmp_path: Path, log_every: int) -> None:
    """An engine that comes back at once and works on, as MXNet does: the waiting is part of the steps."""

    class Slow(NumpyEngine):
        def step(self, batches: Sequence[TrainingBatch], learning_rate: float) -> Report:
            report, done = super().step(batches, learning_rate), time.monotonic() + 0.05

            class Later(Report):
                def wait(self) -> StepReport:
                    time.sleep(max(0.0, done - time.monotonic()))
                    return self.report

            return Later(report.report)

    _, progress, _ = run(tmp_path, LoopOptions(iterations=6, log_every=log_every, checkpoint_every=2), Slow())
    entries = read_metrics(tmp_path / "metrics.jsonl")
    assert progress.seconds >= 3 * 0.05
    assert all(entry["images_per_second"] <= 2 * 2 / 0.05 for entry in entries)
    if log_every == 1:
        assert all(entry["images_per_second"] <= 2 / 0.05 for entry in entries)


def test_curves_are_those_that_are_handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    monkeypatch.setattr("matplotlib.axes.Axes.set_title", lambda self, label, **more: titles.append(label))
    with RunLog(tmp_path, 0, 1, [Curve("iou", "mean IoU"), Curve("points_loss", "of another task")]) as log:
        log.record({"iteration": 1, "loss": 0.5, "learning_rate": 0.1, "branches": [{"iou": None}, {"iou": 0.5}]})
        log.record({"iteration": 1, "validation": {"AP50": 0.5}})
        log.draw_curves()
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert titles == ["loss (all branches, weighted)", "validation", "mean IoU"]


def test_a_half_written_metrics_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"iteration": 1}\n{"iteration": 2}\n{"itera')
    with RunLog(tmp_path, 1, 5):
        pass
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"iteration": 1}]


@pytest.mark.parametrize(
    ("options", "iteration", "rate"),
    [
        (ScheduleOptions(learning_rate=1.0, shape="constant", warm_up=0), 7, 1.0),
        (ScheduleOptions(learning_rate=1.0, shape="constant", warm_up=10), 0, 0.1),
        (ScheduleOptions(learning_rate=1.0, shape="constant", warm_up=10), 9, 1.0),
        (ScheduleOptions(learning_rate=0.1, shape="steps", warm_up=0), 499, 0.1),
        (ScheduleOptions(learning_rate=0.1, shape="steps", warm_up=0), 500, 0.01),
        (ScheduleOptions(learning_rate=0.1, shape="steps", warm_up=0), 1999, 0.0001),
        (ScheduleOptions(learning_rate=1.0, warm_up=0, final=0.01), 0, 1.0),
        (ScheduleOptions(learning_rate=1.0, warm_up=100, final=0.01), 100, 1.0),
        (ScheduleOptions(learning_rate=1.0, warm_up=0, final=0.01), 1999, 0.01),
    ],
)
def test_schedules(options: ScheduleOptions, iteration: int, rate: float) -> None:
    assert options.rate(iteration, 2000) == pytest.approx(rate)


def test_tensorboard_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UsageError, match=r"need the extra: .*tensorboard"):
        RunLog(tmp_path, 0, 1, tensorboard=True)


def test_tensorboard_gets_every_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, float] = {}

    class Writer:
        def __init__(self, folder: str) -> None:
            assert folder == str(tmp_path / "tensorboard")

        def add_scalar(self, name: str, value: float, iteration: int) -> None:
            written[f"{name}@{iteration}"] = value

        def close(self) -> None:
            written["closed"] = 1

    monkeypatch.setitem(sys.modules, "tensorboardX", SimpleNamespace(SummaryWriter=Writer))
    with RunLog(tmp_path, 0, 1, tensorboard=True) as log:
        log.record({"iteration": 3, "loss": 0.5, "branches": [{"iou": 0.25, "recall": None}]})
    assert written == {"iteration@3": 3, "loss@3": 0.5, "branches/0/iou@3": 0.25, "closed": 1}


@pytest.mark.parametrize(
    ("name", "value"),
    [("iteration", -1), ("iteration", 1.5), ("best_score", "high"), ("validation_owed", 1), ("seconds", None)],
)
def test_facts_that_no_run_writes_are_refused(name: str, value: object) -> None:
    facts = {**Progress(iteration=3).to_facts(), "more": 1}
    assert restore_progress(facts).facts == {"more": 1}
    with pytest.raises(ModelError, match=f"not those of a run: {name}"):
        restore_progress({**facts, name: value})
