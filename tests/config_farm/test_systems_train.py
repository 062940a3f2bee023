"""Other projects' detectors learn here: the same step on both engines, and a loss that falls."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config_farm.run.assembly import train
from config_farm.run.data import open_batches, training_records
from config_farm.run.script import Script, changed
from lffd.graphs.model import load_model
from lffd.training.initialization import initial_arrays
from lffd.training.options import ScheduleOptions
from symbol_farm.versions import version_network

TRAINED = ("slim_320", "rfb_320", "retinaface_mnet025", "retinaface_r18", "retinaface_r50")


def _script(name: str) -> Script:
    module: Any = importlib.import_module(f"config_farm.configuration_{name}")
    script: Script = module.SCRIPT
    return script


def _losses(name: str, folder: Path, **more: Any) -> list[float]:
    script = _script(name)
    run = {
        "train_data": "synthetic:4",
        "output_dir": folder,
        "iterations": 2,
        "batch_size": 2,
        "input_size": script.network.fitting(128),
        "precision": "fp32",
        "threads": 1,
        "log_every": 1,
        "checkpoint_every": 0,
        "validate_every": 0,
        "schedule.warm_up": 0,
    }
    assert train(script.network, changed(script.declare("ours"), run | more)) == 0
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ["slim_320", "retinaface_mnet025", "retinaface_r18"])
def test_steps_are_the_same_on_both_engines(name: str, tmp_path: Path) -> None:
    """The second loss is after one update with the gradients of everything that the first one holds."""
    pytest.importorskip("torch")
    theirs, ours = (_losses(name, tmp_path / engine, engine=engine) for engine in ("mxnet", "torch"))
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-4)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-2)
    assert ours[0] != ours[1]


@pytest.mark.parametrize(("name", "share"), [("slim_320", 0.6), ("retinaface_mnet025", 0.8)])
def test_the_loss_of_a_batch_falls(name: str, share: float) -> None:
    pytest.importorskip("torch")
    from lffd.training.torch.engine import TorchTrainingEngine

    script = _script(name)
    network = script.network
    more = {"train_data": "synthetic:4", "batch_size": 4, "input_size": 128, "threads": 1}
    experiment = changed(script.declare("ours"), more)
    with training_records(experiment) as source, open_batches(network, experiment, source, start=0) as batches:
        batch = next(batches)
    initial = initial_arrays(network, batch_norm=True, seed=0, style="prior")
    engine = TorchTrainingEngine(network, initial, loss=experiment.loss, optimizer=experiment.optimizer)
    losses = [engine.step([batch], 2 * experiment.schedule.learning_rate).wait().loss for _ in range(40)]
    assert np.isfinite(losses).all()
    assert losses[-1] < share * losses[0]


def test_a_run_writes_a_model_of_its_own_anchors(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    _losses("slim_320", tmp_path / "run", engine="torch")
    model = load_model(tmp_path / "run/model")
    assert model.network.branch_geometry == _script("slim_320").network.branch_geometry
    assert model.network.branches[3].anchors[2] == (256, 256)  # 240 high in the version for 320×240
    assert model.parameter_count == version_network("slim_320").parameter_count


@pytest.mark.parametrize("name", TRAINED)
def test_scripts_declare_what_their_documents_say(name: str) -> None:
    experiment = _script(name).declare("ours")
    ultra_light = name in ("slim_320", "rfb_320")
    assert experiment.loss.negatives_per_positive == (3 if ultra_light else 7)
    assert (experiment.loss.score, experiment.loss.box, experiment.loss.mining) == ("cross-entropy", "smooth-l1", "all")
    assert (experiment.optimizer.name, experiment.optimizer.momentum) == ("sgd", 0.9)
    assert experiment.optimizer.weight_decay == 5e-4
    assert version_network(name).assignment == "anchors"


def test_the_schedule_of_r18_is_that_of_its_table() -> None:
    experiment = _script("retinaface_r18").declare("ours")
    assert (experiment.batch_size, experiment.input_size) == (8, 480)
    schedule: ScheduleOptions = changed(experiment, {"schedule.warm_up": 0}).schedule
    epochs = [schedule.rate(round((epoch + 0.5) / 30 * 48_300), 48_300) for epoch in range(30)]
    np.testing.assert_allclose(epochs, [1e-3 * 0.7 ** (epoch // 5) for epoch in range(30)])
