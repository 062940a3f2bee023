"""Every preset of every version takes real steps, also with a teacher: what looks right may diverge at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config_farm.run.assembly import train
from config_farm.run.experiment import recipe
from config_farm.run.script import changed
from data_iterator_farm.policies import PresetName
from lffd.errors import UsageError
from lffd.graphs.model import save_model
from lffd.graphs.network import Network
from symbol_farm.versions import VERSIONS, version_network
from tests.factories import random_model

STEPS = 5


def _losses(network: Network, preset: PresetName, folder: Path, **more: Any) -> list[dict[str, Any]]:
    """Train some steps on small crops; return the lines of the log."""
    run = {
        "train_data": "synthetic:8",
        "output_dir": folder,
        "iterations": STEPS,
        "batch_size": 2,
        "input_size": network.fitting(200),
        "engine": "mxnet",
        "threads": 1,
        "log_every": 1,
        "checkpoint_every": 0,
        "validate_every": 0,
    }
    assert train(network, changed(recipe(network, preset), run | more)) == 0
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == STEPS
    return lines


@pytest.mark.parametrize("preset", ["ours", "published"])
@pytest.mark.parametrize("version", VERSIONS)
def test_steps_stay_finite_and_the_loss_does_not_explode(version: str, preset: PresetName, tmp_path: Path) -> None:
    losses = [line["loss"] for line in _losses(version_network(version), preset, tmp_path / "run")]
    assert np.isfinite(losses).all()
    assert max(losses[1:]) < 5 * losses[0] + 1


def test_a_teacher_is_learnt_from(tmp_path: Path) -> None:
    save_model(random_model("nano"), tmp_path / "teacher")
    lines = _losses(version_network("nano"), "ours", tmp_path / "run", distill=str(tmp_path / "teacher"))
    for name in ("teacher_score_loss", "teacher_box_loss"):
        sums = np.array([[branch[name] for branch in line["branches"]] for line in lines], float)
        assert np.nanmin(sums[:, 0]) > 0  # not a number where this teacher hides every cell
    assert np.isfinite([line["loss"] for line in lines]).all()


def test_a_teacher_with_other_cells_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it cannot teach them"):
        _losses(version_network("nano"), "ours", tmp_path / "run", distill="face_light")
    assert not (tmp_path / "run").exists()
