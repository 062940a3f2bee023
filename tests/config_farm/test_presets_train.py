"""Every preset of every version takes real steps: a recipe that only looks right may diverge at once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from config_farm.run.assembly import train
from config_farm.run.experiment import recipe
from config_farm.run.script import changed
from data_iterator_farm.policies import PresetName
from symbol_farm.versions import VERSIONS, version_network

STEPS = 8


@pytest.mark.parametrize("preset", ["ours", "published"])
@pytest.mark.parametrize("version", VERSIONS)
def test_steps_stay_finite_and_the_loss_does_not_explode(version: str, preset: PresetName, tmp_path: Path) -> None:
    network = version_network(version)
    run = {
        "train_data": "synthetic:8",
        "output_dir": tmp_path / "run",
        "iterations": STEPS,
        "batch_size": 2,
        "input_size": network.fitting(200),
        "engine": "mxnet",
        "threads": 1,
        "log_every": 1,
        "checkpoint_every": 0,
        "validate_every": 0,
    }
    assert train(network, changed(recipe(network, preset), run)) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines]
    assert len(losses) == STEPS
    assert np.isfinite(losses).all()
    assert max(losses[1:]) < 5 * losses[0] + 1
