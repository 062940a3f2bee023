"""Points from drawn faces to detections: they are learnt, with either engine, and a run is told to by a flag."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from accuracy_evaluation.evaluation_on_pack import load_record
from config_farm.run.engines import create_training_engine
from config_farm.run.experiment import recipe
from config_farm.run.script import changed
from data_iterator_farm.batch import Batch, BatchPlan
from data_iterator_farm.batch_builder import BatchBuilder
from data_iterator_farm.policies import Policies
from data_iterator_farm.record_order import sort_records
from data_provider_farm.drawn_faces.pictures import synthetic_records
from detection.detector import Detector
from lffd.engines.factory import create_engine
from lffd.engines.runtime import Runtime
from lffd.graphs.landmarks import with_landmarks
from lffd.graphs.model import Model, load_model, make_model
from lffd.training.checkpoint import newest_checkpoint, write_checkpoint
from lffd.training.initialization import initial_arrays
from tests.config_farm import tiny_config
from tests.config_farm.test_configurations import run_config

NETWORK = with_landmarks(tiny_config.NETWORK)


def _batch() -> Batch:
    experiment = recipe(NETWORK, "ours")
    source = synthetic_records(12, size=64, seed=0)
    plan = BatchPlan(NETWORK, Policies(experiment.sampling, experiment.jitter, experiment.labels), 8, 64, 0)
    return BatchBuilder(source, sort_records(source), plan).build(0)


def _error(model: Model, batch: Batch) -> float:
    """Mean distance of the points that positive cells say from those that they are taught, in units of their branch."""
    distances = []
    for said, taught in zip(create_engine(model, Runtime("mxnet")).run(batch.images), batch.targets, strict=True):
        known = taught["landmarks"][:, 10] > 0
        off = (said["landmarks"] - taught["landmarks"][:, :10]).transpose(0, 2, 3, 1)[known].reshape(-1, 5, 2)
        distances.append(np.linalg.norm(off, axis=2).mean(axis=1))
    return float(np.concatenate(distances).mean())


@pytest.mark.parametrize(("engine", "loss"), [("mxnet", "wing"), ("torch", "smooth-l1")])
def test_a_network_learns_points(engine: str, loss: str) -> None:
    if engine == "torch" and find_spec("torch") is None:
        pytest.skip("needs PyTorch: pip install torch")
    changes = {"engine": engine, "precision": "fp32", "loss.landmarks": loss, "optimizer.ema": 0.0}
    experiment = changed(recipe(NETWORK, "ours"), changes)
    batch, errors = _batch(), []
    trainer = create_training_engine(NETWORK, experiment, initial_arrays(NETWORK, True, seed=1, style="prior"))
    for steps in (10, 120):
        for _ in range(steps):
            trainer.step([batch], 0.01).wait()
        errors.append(_error(make_model(NETWORK, *trainer.deployable()), batch))
    assert errors[1] < 0.5 * errors[0]


def test_a_flag_adds_points_to_a_run(tmp_path: Path) -> None:
    """Its model finds them, its log reports their loss, and it is resumed only as what it was."""
    flags = ["--output-dir", str(tmp_path / "run"), "--log-every", "1"]
    assert run_config("tiny", "--landmarks", "--iterations", "6", *flags) == 0
    model = load_model(tmp_path / "run" / "model")
    assert model.network.outputs == ("score", "box", "landmarks")
    pixels, _ = load_record(synthetic_records(12, size=64, seed=0), 0)
    found = Detector(model)(pixels)
    assert found.landmarks is not None
    assert found.landmarks.shape == (len(found), 5, 2)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["branches"][0].keys() >= {"box_loss", "landmarks_loss"}
    assert run_config("tiny", "--resume", "--iterations", "8", *flags) == 2
    assert run_config("tiny", "--landmarks", "--resume", "--iterations", "8", *flags) == 0


def test_a_model_without_points_is_a_start_for_one_with_them(tmp_path: Path) -> None:
    """What both have starts alike, also at random: the points' own weights come last."""
    arrays = [initial_arrays(network, True, seed=3, style="prior") for network in (tiny_config.NETWORK, NETWORK)]
    for name, value in arrays[0].items():
        np.testing.assert_array_equal(arrays[1][name], value)
    assert len(arrays[1]) == len(arrays[0]) + 4
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    assert run_config("tiny", "--output-dir", first) == 0
    assert run_config("tiny", "--landmarks", "--init-from", f"{first}/model", "--output-dir", second) == 0
    assert "not in the model, start random: conv4_3_landmarks_weight" in (tmp_path / "second/log.txt").read_text()


def test_runs_of_an_earlier_release_go_on(tmp_path: Path) -> None:
    """Their checkpoints know nothing of fields that came later."""
    folder = tmp_path / "checkpoints"
    assert run_config("tiny", "--output-dir", str(tmp_path), "--iterations", "4") == 0
    checkpoint, _ = newest_checkpoint(folder)
    assert checkpoint is not None
    del checkpoint.facts["experiment"]["landmarks"]
    write_checkpoint(folder, 4, checkpoint.arrays, checkpoint.facts)
    assert run_config("tiny", "--output-dir", str(tmp_path), "--iterations", "6", "--landmarks", "--resume") == 2
    assert run_config("tiny", "--output-dir", str(tmp_path), "--iterations", "6", "--resume") == 0
