"""Puts a run together: packs, batches, training graph, engine, validation, loop; and a model directory at its end."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shlex
import sys
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from config_farm.run.data import data_sample, open_batches, open_records, training_records
from config_farm.run.engines import create_training_engine, engine_choice
from config_farm.run.experiment import FREE_ON_RESUME, Experiment
from config_farm.run.start_points import initial_state
from config_farm.run.validation import UNSEEN_SEED, PackValidator
from detection.dense_teacher import DenseTeacher
from inference_speed_evaluation.machine import package_version
from lffd.errors import ModelError, UsageError
from lffd.files import OutputFolder, write_atomic
from lffd.graphs.model import Model, load_model, make_model, save_model
from lffd.graphs.network import Network
from lffd.records import RecordSource
from lffd.training.checkpoint import Checkpoint, newest_checkpoint
from lffd.training.engine import TrainingEngine
from lffd.training.loop import LoopOptions, Trainer
from lffd.training.options import as_plain, differences
from lffd.training.progress import Progress, restore_progress
from lffd.training.run_log import METRICS_FILE, Curve, RunLog
from metric_farm.branch_metrics import METRICS, summarise

MODEL, BEST, PICTURES = "model", "best", "pictures"
"""Names below the output directory: the finished model, the best one so far, what it finds in validation images."""

_MANY = 2**24
"""More iterations than any run has; single precision still counts them."""


def train(network: Network, experiment: Experiment) -> int:
    """Run an experiment to its end, or until a signal.

    Returns 0 when finished, 128 + the signal's number when stopped (after a checkpoint); raises an `LffdError` for
    anything that keeps the run from starting or going on.
    """
    _check(network, experiment)
    output = experiment.output_dir
    checkpoint = _starting_point(experiment)
    with ExitStack() as stack:
        source = stack.enter_context(training_records(experiment))
        sample = data_sample(source, network)
        facts = {"experiment": as_plain(experiment), "records": len(source), "data_sample": sample}
        if checkpoint is not None:
            _check_same_data(checkpoint, facts, experiment)
        teacher = _teacher(experiment, network, source)
        engine, origin = create_run_engine(network, experiment, source, checkpoint)
        validator = None
        if experiment.val_data:
            drawn = (network.train_input, experiment.seed + UNSEEN_SEED)
            held_out = stack.enter_context(open_records(experiment.val_data, *drawn))
            validator = PackValidator(held_out, experiment.val_data, experiment.val_images)
        progress, remarks = _progress(experiment, checkpoint)
        progress.facts = {**facts, "workers": engine.workers, "origin": [*origin, *remarks]}
        _agree_on_start(engine, progress, checkpoint)
        leader = engine.rank == 0
        output.mkdir(parents=True, exist_ok=True)
        if leader:
            stack.enter_context(OutputFolder(output))
        curves = [Curve(m.name, m.title, log=m.name.endswith("_loss")) for m in METRICS if m.title]
        length, boards = experiment.iterations, experiment.tensorboard
        log = RunLog(output, progress.iteration, length, curves, tensorboard=boards, quiet=not leader)
        stack.enter_context(log)
        run = _Run(network, experiment, engine, validator, log)
        run.introduce(source, progress)
        trainer = Trainer(
            engine,
            partial(open_batches, network, experiment, source, worker=(engine.rank, engine.workers), teacher=teacher),
            LoopOptions(**{f.name: getattr(experiment, f.name) for f in dataclasses.fields(LoopOptions)}),
            experiment.schedule,
            folder=output,
            log=log,
            progress=progress,
            summarise=summarise,
            validate=run.validate if validator is not None and leader else None,
            keep_best=run.keep_best,
            leader=leader,
        )
        stopped_by = trainer.run()
        if stopped_by is not None:
            log.say(f"stopped by signal {stopped_by} at iteration {progress.iteration}; go on with --resume")
            return 128 + stopped_by
        if leader:
            run.finish(progress)
    return 0


def _teacher(experiment: Experiment, network: Network, source: RecordSource) -> DenseTeacher | None:
    """Return whom the run learns from beside its annotations, if anybody."""
    if experiment.distill is None:
        return None
    teacher = DenseTeacher(experiment.distill, network)
    teacher.check_knows((source[index].name for index in range(len(source))), str(experiment.train_data))
    return teacher


def _check(network: Network, experiment: Experiment) -> None:
    """Refuse, before anything is made, a parameter server without its launcher or the reverse, and useless crops."""
    launched = os.environ.get("DMLC_ROLE") == "worker"
    if launched and experiment.kvstore is None:
        raise UsageError("lffd launch started this worker, but the command has no --kvstore dist_sync")
    if experiment.kvstore is not None and not launched:
        raise UsageError(f"--kvstore {experiment.kvstore} needs: lffd launch -- COMMAND")
    size, least = experiment.input_size, network.minimum_input + network.branch_geometry[-1].stride
    network.map_sizes(size, size)
    if engine_choice(experiment).engine == "mxnet" and size < least:
        raise UsageError(
            f"--input-size {size} leaves the deepest branch of {network.name} a single row of cells, which MXNet "
            f"cannot train on: give at least {least}, or --engine torch"
        )


def _check_same_data(checkpoint: Checkpoint, facts: dict[str, Any], experiment: Experiment) -> None:
    """Refuse to go on with other records."""
    before, now, data = checkpoint.facts, facts["records"], experiment.train_data
    if before["records"] != now:
        raise UsageError(f"--resume: the run learnt from {before['records']} records, but {data} holds {now}")
    if before["data_sample"] != facts["data_sample"]:
        raise UsageError(f"--resume: the run learnt from other records than those of {data}")


def _progress(experiment: Experiment, checkpoint: Checkpoint | None) -> tuple[Progress, list[str]]:
    """Return where the run stands, and what to say about it."""
    if checkpoint is None:
        return Progress(), []
    progress, before = restore_progress(checkpoint.facts), checkpoint.facts["experiment"]
    remarks = []
    if experiment.iterations != before["iterations"]:
        progress.without_gain = 0
        remarks.append(
            f"length changed from {before['iterations']} to {experiment.iterations} iterations: from here on the "
            f"learning rate is what its schedule ({experiment.schedule.shape}) says for a run of the new length"
        )
    best, forgotten = experiment.output_dir / BEST, ""
    if (before["val_data"], before["val_images"]) != (experiment.val_data, experiment.val_images):
        forgotten = "validation changed: its best score is forgotten"
    elif not best.exists():
        forgotten = f"{best} is gone: its score is forgotten"
    if progress.best_score is not None and forgotten:
        progress.best_score, progress.best_iteration, progress.without_gain = None, 0, 0
        remarks.append(forgotten)
    return progress, remarks


def _agree_on_start(engine: TrainingEngine, progress: Progress, checkpoint: Checkpoint | None) -> None:
    """Refuse workers whose number changed, or that found different checkpoints."""
    if checkpoint is not None and checkpoint.facts["workers"] != engine.workers:
        raise UsageError(f"--resume: the run had {checkpoint.facts['workers']} workers, now there are {engine.workers}")
    last = engine.agree(progress.iteration)
    first = _MANY - engine.agree(_MANY - progress.iteration)
    if first != last:
        raise UsageError(
            f"--resume: the workers found checkpoints of different iterations, {first} to {last}: all of them need the "
            "same output directory"
        )


def _starting_point(experiment: Experiment) -> Checkpoint | None:
    """Return the checkpoint to go on from, if the run is to be resumed and has one.

    A directory that holds a run is refused when `resume` is off, or the run was another one.
    """
    output = experiment.output_dir
    checkpoint, skipped = newest_checkpoint(output / "checkpoints")
    for line in skipped:
        print(f"warning: passed over {line}", file=sys.stderr)
    if checkpoint is None:
        if skipped and experiment.resume:
            raise UsageError(f"--resume: none of the checkpoints in {output} is whole")
        left = [name for name in (MODEL, BEST, METRICS_FILE) if (output / name).exists()]
        if skipped or (left and not experiment.resume):
            found = ", ".join(left) or "damaged checkpoints"
            raise UsageError(
                f"{output} holds what another run left ({found}): choose another --output-dir, or remove it"
            )
        return None
    _check_facts(checkpoint)
    done = checkpoint.facts["iteration"]
    if not experiment.resume:
        raise UsageError(
            f"{output} holds a run at iteration {done}: add --resume to go on with it, or choose another --output-dir"
        )
    if experiment.iterations < done:
        raise UsageError(f"--resume: --iterations {experiment.iterations}, but the run has already made {done}")
    # A run of an earlier release knew nothing of some fields; it did what their defaults say.
    known = [item for item in dataclasses.fields(experiment) if item.default is not dataclasses.MISSING]
    defaults = {item.name: as_plain(item.default) for item in known}
    before, now = (
        {name: value for name, value in fields.items() if name not in FREE_ON_RESUME}
        for fields in ({**defaults, **checkpoint.facts["experiment"]}, as_plain(experiment))
    )
    if changed := differences(before, now):
        raise UsageError(
            f"--resume: this is not the run in {output}; it differs in {'; '.join(changed)}. Give the "
            f"same options, or start a new run with --init-from {checkpoint.path.parent}"
        )
    return checkpoint


def _check_facts(checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint whose facts are not those of a run."""
    facts = checkpoint.facts
    wrong = [name for name, kind in _FACTS.items() if not isinstance(facts.get(name), kind)]
    if not wrong:
        wrong = [f"experiment.{name}" for name in _COMPARED if name not in facts["experiment"]]
        wrong += [] if all(isinstance(line, str) for line in facts["origin"]) else ["origin"]
    if wrong:
        raise ModelError(f"{checkpoint.path}: its facts are not those of a run: {', '.join(wrong)}")


_FACTS = {"experiment": dict, "records": int, "data_sample": str, "workers": int, "origin": list}
_COMPARED = ("iterations", "val_data", "val_images")


def create_run_engine(
    network: Network, experiment: Experiment, source: RecordSource, checkpoint: Checkpoint | None
) -> tuple[TrainingEngine, list[str]]:
    """Return an engine that holds the starting state, and lines that say where it came from."""
    if checkpoint is not None:
        initial = {name: value for name, value in checkpoint.arrays.items() if name.startswith(("arg:", "aux:"))}
        engine = create_training_engine(network, experiment, initial)
        engine.load_state(checkpoint.arrays)
        return engine, list(checkpoint.facts["origin"])

    def sample() -> NDArray[np.uint8]:
        with open_batches(network, experiment, source, start=0) as batches:
            return next(batches).images[:8]

    initial, origin = initial_state(network, experiment, sample)
    return create_training_engine(network, experiment, initial), origin


@dataclasses.dataclass
class _Run:
    """What one run says and saves."""

    network: Network
    experiment: Experiment
    engine: TrainingEngine
    validator: PackValidator | None
    log: RunLog
    scores: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def effective_batch(self) -> int:
        """Crops per update, all workers together."""
        return self.experiment.batch_size * self.experiment.accumulate * self.engine.workers

    def introduce(self, source: RecordSource, progress: Progress) -> None:
        """Say everything that is needed to repeat the run, and keep it beside the run."""
        experiment, engine, origin = self.experiment, self.engine, progress.facts["origin"]
        lines = (
            f"command: {shlex.join(sys.argv)}",
            f"network: {self.network.name}, {self.network.parameter_count:,} parameters, preset {experiment.preset}",
            f"engine: {engine.name} on {engine.device}, {engine.workers} worker(s)",
            f"data: {experiment.train_data} ({len(source)} records), validation: {experiment.val_data}",
            f"effective batch: {self.effective_batch} ({experiment.batch_size} × {experiment.accumulate} steps × "
            f"{engine.workers} worker(s)) crops of {experiment.input_size} px, seed {experiment.seed}",
            f"start: iteration {progress.iteration} of {experiment.iterations}; {origin[0]}",
            *origin[1:],
        )
        self.log.say("\n".join(lines))
        described = json.dumps(progress.facts["experiment"], indent=2) + "\n"
        write_atomic(experiment.output_dir / "experiment.json", described.encode())

    def model(self, progress: Progress) -> Model:
        """Return the deployable model with its facts so far."""
        libraries = ("numpy", "opencv-python-headless", "simplejpeg", self.engine.name)
        versions = {name: package_version(name) or "not installed as a package" for name in libraries}
        training = {
            "preset": self.experiment.preset,
            "engine": f"{self.engine.name} on {self.engine.device}",
            "versions": {"python": platform.python_version(), **versions},
            "iterations": progress.iteration,
            "images_seen": progress.iteration * self.effective_batch,
            "minutes": round(progress.seconds / 60, 1),
            **progress.facts,
        }
        card: dict[str, Any] = {"training": training}
        if self.scores and self.validator is not None:
            card["accuracy"] = [{**self.validator.protocol(), **self.scores, "iteration": progress.iteration}]
        return make_model(self.network, *self.engine.deployable(), card)

    def validate(self) -> dict[str, float]:
        """Return the scores of the current deployable model."""
        assert self.validator is not None
        self.scores = {}
        self.scores = self.validator.scores(self.model(Progress(facts={"origin": [""]})))
        return self.scores

    def keep_best(self, progress: Progress) -> None:
        """Save the model that validation liked best so far."""
        save_model(self.model(progress), self.experiment.output_dir / BEST)

    def finish(self, progress: Progress) -> None:
        """Write the finished model: the best one where there was validation, the last one otherwise."""
        output = self.experiment.output_dir
        target, best = output / MODEL, output / BEST
        model = load_model(best) if progress.best_score is not None and best.exists() else self.model(progress)
        save_model(model, target)
        self.log.draw_curves()
        if self.experiment.val_pictures and self.validator is not None:
            count = self.validator.draw(model, output / PICTURES, self.experiment.val_pictures)
            self.log.say(f"{count} pictures with the model's detections in {output / PICTURES}")
        scores = model.card.get("accuracy", [{}])[0]
        measured = ", ".join(f"{name} {scores[name]:.4f}" for name in ("AP50", "AP") if name in scores)
        self.log.say(f"finished at iteration {progress.iteration}: model in {target} ({measured or 'not validated'})")
