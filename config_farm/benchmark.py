"""How close the training loop comes to forward + backward + update alone."""

from __future__ import annotations

import dataclasses
import json
import statistics
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config_farm.run.assembly import create_run_engine
from config_farm.run.batches import open_batches
from config_farm.run.data_sources import open_records
from config_farm.run.experiment import Experiment, recipe
from lffd import cli
from lffd.graphs.network import Network
from lffd.records import RecordSource
from lffd.training.choice import TrainingEngineName
from lffd.training.engine import TrainingEngine
from lffd.training.loop import LoopOptions, Trainer
from lffd.training.progress import Progress
from lffd.training.run_log import RunLog
from metric_farm.branch_metrics import summarise
from symbol_farm.versions import version_network


@dataclass(frozen=True)
class Options:
    """What to measure."""

    train_data: str
    """Pack, or synthetic:COUNT."""
    version: str = "v2"
    """Short or full version name."""
    input_size: int = 320
    """Side of the crops in pixels."""
    batch_size: int = 16
    """Crops per step."""
    threads: int = 2
    """Threads that make batches."""
    engine: TrainingEngineName = "auto"
    """auto, mxnet or torch."""
    device: str = "cpu"
    """cpu or gpu:0."""
    rounds: int = 5
    """How often the two are measured, in turn."""
    steps: int = 10
    """Steps per measurement."""
    json: Path | None = None
    """Write the figures to this file."""


def measure(network: Network, experiment: Experiment, source: RecordSource, options: Options) -> dict[str, Any]:
    """Return images per second of bare steps on one batch and of the whole loop, taken in turn, and their ratios."""
    engine, _ = create_run_engine(network, experiment, source, None)
    with open_batches(network, experiment, source, start=0) as batches:
        fixed = next(batches)
    rate = experiment.schedule.learning_rate
    for _ in range(3):
        engine.step([fixed], rate).wait()
    bare, whole = [], []
    for number in range(options.rounds):
        started = time.perf_counter()
        for _ in range(options.steps):
            report = engine.step([fixed], rate)
        report.wait()
        bare.append(options.steps * options.batch_size / (time.perf_counter() - started))
        whole.append(_loop_rate(network, experiment, source, engine, number))
    ratios = [loop / step for loop, step in zip(whole, bare, strict=True)]
    return {
        "engine": engine.name,
        "steps_images_per_second": statistics.median(bare),
        "loop_images_per_second": statistics.median(whole),
        "ratio": statistics.median(ratios),
        "ratio_lowest": min(ratios),
        "ratio_highest": max(ratios),
    }


def _loop_rate(
    network: Network, experiment: Experiment, source: RecordSource, engine: TrainingEngine, number: int
) -> float:
    """Return images per second of the loop with its data, reports and log, from a warm data pipeline."""
    steps = experiment.iterations
    with tempfile.TemporaryDirectory() as folder, open_batches(network, experiment, source, number * steps) as batches:
        first = next(batches)  # the threads have begun to work ahead
        engine.step([first], experiment.schedule.learning_rate).wait()
        with RunLog(Path(folder), 0, steps, quiet=True) as log:
            trainer = Trainer(
                engine,
                lambda start: nullcontext(batches),
                LoopOptions(iterations=steps, checkpoint_every=0, validate_every=0, log_every=steps),
                experiment.schedule,
                folder=Path(folder),
                log=log,
                progress=Progress(),
                summarise=summarise,
                leader=False,
            )
            started = time.perf_counter()
            trainer.run()
            return steps * experiment.batch_size / (time.perf_counter() - started)


def main(options: Options) -> None:
    """Measure the training loop against bare steps on a fixed batch, in turn, and print both and their ratio.

    Example: python -m config_farm.benchmark --train-data train.rec --version v2 --input-size 320 --batch-size 16
    """
    network = version_network(options.version)
    shared = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    names = ("input_size", "batch_size", "threads", "engine", "device")
    experiment = dataclasses.replace(
        recipe(network, "ours"), iterations=options.steps, **{name: shared[name] for name in names}
    )
    with open_records(options.train_data, options.input_size, seed=0) as source:
        found = measure(network, experiment, source, options)
    print(
        f"{found['engine']}: bare steps {found['steps_images_per_second']:.2f} images/s, loop "
        f"{found['loop_images_per_second']:.2f} images/s, ratio {found['ratio']:.3f} "
        f"({found['ratio_lowest']:.3f}–{found['ratio_highest']:.3f} over {options.rounds} rounds)"
    )
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
