"""Other projects' detectors learn here: the same step on both engines, and a loss that falls."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config_farm.run.assembly import train
from config_farm.run.script import Script, changed
from lffd.graphs.model import load_model
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


@pytest.mark.parametrize(("name", "rate"), [("slim_320", 0.03), ("retinaface_mnet025", 0.004)])
def test_the_loss_falls_and_the_model_is_written(name: str, rate: float, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    more = {"engine": "torch", "iterations": 40, "batch_size": 4, "train_data": "synthetic:2"}
    losses = _losses(name, tmp_path / "run", **more, **{"schedule.learning_rate": rate})
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8])
    model = load_model(tmp_path / "run/model")
    assert model.network.branch_geometry == _script(name).network.branch_geometry
    assert model.parameter_count == version_network(name).parameter_count


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
