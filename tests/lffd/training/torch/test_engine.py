"""Steps, state and workers of the PyTorch training engine; against MXNet's where that is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from lffd.errors import EngineError, ModelError
from lffd.graphs import batch_norm
from lffd.training.engine import TrainingEngine
from lffd.training.initialization import initial_arrays
from lffd.training.mxnet.engine import MXNetTrainingEngine
from lffd.training.mxnet.losses import training_symbol
from lffd.training.options import LossOptions, OptimizerOptions
from tests.conftest import PROJECT
from tests.training_batches import NETWORK, make_batch

torch = pytest.importorskip("torch", reason="the torch engine's tests need PyTorch: pip install torch")

from lffd.engines.torch_devices import parse_device  # noqa: E402 - imports torch
from lffd.training.torch.engine import TorchTrainingEngine  # noqa: E402

WORKER = Path(__file__).parent / "torch_worker.py"
SGD = OptimizerOptions(name="sgd", weight_decay=0.01, clip_norm=1.0, ema=0.9)
ADAMW = OptimizerOptions(name="adamw", clip_norm=1.0, ema=0.9)
needs_mxnet = pytest.mark.skipif(find_spec("mxnet") is None, reason="compares with MXNet, which is not installed")


def _torch(optimizer: OptimizerOptions, norm: bool = True, **more: str) -> TorchTrainingEngine:
    initial = initial_arrays(NETWORK, norm, seed=3, style="xavier")
    return TorchTrainingEngine(NETWORK, initial, loss=LossOptions(), optimizer=optimizer, **more)  # type: ignore[arg-type]


def _mxnet(optimizer: OptimizerOptions, norm: bool = True) -> MXNetTrainingEngine:
    initial = initial_arrays(NETWORK, norm, seed=3, style="xavier")
    text = training_symbol(NETWORK, LossOptions(), norm).tojson()
    return MXNetTrainingEngine(text, initial, optimizer=optimizer, normalizer=LossOptions().normalizer)


def _train(engine: TrainingEngine, start: int, stop: int, rate: float = 0.02) -> None:
    """Steps on two made-up batches each."""
    for index in range(start, stop):
        engine.step([make_batch(3, 2 * index), make_batch(3, 2 * index + 1)], rate).wait()


def _distance(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> float:
    """Largest difference of any array, relative to the largest value of the array."""
    assert set(first) == set(second)
    return max(float(np.abs(first[n] - second[n]).max() / max(np.abs(first[n]).max(), 1e-3)) for n in first)


@needs_mxnet
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_twenty_steps_end_where_mxnet_ends(optimizer: OptimizerOptions, norm: bool) -> None:
    ours, theirs = _torch(optimizer, norm), _mxnet(optimizer, norm)
    rate = 0.02 if optimizer.name == "sgd" else 0.001
    before = ours.state()
    for engine in (ours, theirs):
        _train(engine, 0, 20, rate)
    found, expected = ours.state(), theirs.state()
    assert _distance(before, found) > 0.02, "too little was learnt to prove anything"
    values = {name for name in expected if "optimizer" not in name}
    assert _distance({n: expected[n] for n in values}, {n: found[n] for n in values}) < 1e-3


@needs_mxnet
@pytest.mark.parametrize("first", ["mxnet", "torch"])
@pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_a_run_goes_on_with_the_other_engine(optimizer: OptimizerOptions, first: str) -> None:
    here: TrainingEngine = _mxnet(optimizer) if first == "mxnet" else _torch(optimizer)
    beginning: TrainingEngine = _mxnet(optimizer) if first == "mxnet" else _torch(optimizer)
    other: TrainingEngine = _torch(optimizer) if first == "mxnet" else _mxnet(optimizer)
    _train(here, 0, 10, 0.001)
    _train(beginning, 0, 5, 0.001)
    other.load_state(beginning.state())
    assert _distance(beginning.state(), other.state()) == 0
    _train(other, 5, 10, 0.001)
    ours, theirs = other.deployable(), here.deployable()
    assert _distance(batch_norm.fold(*ours), batch_norm.fold(*theirs)) < 1e-3


@pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(optimizer: OptimizerOptions) -> None:
    unbroken, beginning, resumed = _torch(optimizer), _torch(optimizer), _torch(optimizer)
    _train(unbroken, 0, 8)
    _train(beginning, 0, 4)
    resumed.load_state(beginning.state())
    _train(resumed, 4, 8)
    expected, found = unbroken.state(), resumed.state()
    assert all(np.array_equal(expected[name], found[name]) for name in expected)


def test_a_state_is_a_copy() -> None:
    engine = _torch(ADAMW)
    kept = engine.state()
    before = {name: value.copy() for name, value in kept.items()}
    _train(engine, 0, 1)
    assert all(np.array_equal(before[name], kept[name]) for name in kept)
    assert not np.array_equal(kept["arg:conv1_weight"], engine.state()["arg:conv1_weight"])


def test_accumulating_equals_one_larger_batch() -> None:
    whole, parts = _torch(SGD, norm=False), _torch(SGD, norm=False)
    batch = make_batch(4, seed=7)
    expected = whole.step([batch], 0.1).wait()
    found = parts.step([batch.part(0, 1), batch.part(1, 4)], 0.1).wait()
    assert found.loss == pytest.approx(expected.loss, rel=1e-6)
    assert list(found.statistics) == list(expected.statistics)
    for name, values in expected.statistics.items():
        np.testing.assert_allclose(found.statistics[name], values, rtol=1e-5, err_msg=name)
    assert _distance(whole.state(), parts.state()) < 1e-5


def test_biases_that_normalisation_cancels_stay() -> None:
    engine = _torch(ADAMW)
    before = engine.state()
    _train(engine, 0, 3)
    after = engine.state()
    stayed = {name for name in after if name.startswith("arg:") and np.array_equal(before[name], after[name])}
    assert stayed == {f"arg:{layer.name}_bias" for layer in NETWORK.layers if layer.kind != "output"}


def test_bf16_learns_the_same_with_float32_parameters() -> None:
    half, full = _torch(SGD, precision="bf16"), _torch(SGD)
    batch = make_batch()
    losses = [[engine.step([batch], 0.05).wait().loss for _ in range(15)] for engine in (half, full)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert losses[0] != losses[1]
    assert losses[0][-1] < 0.9 * losses[0][0]
    assert {value.dtype for name, value in half.state().items() if name != "optimizer:updates"} == {np.dtype("f4")}


def test_parameters_that_are_not_finite_are_named() -> None:
    engine = _torch(replace(SGD, clip_norm=1.0), norm=False)
    arrays = engine.state()
    arrays["arg:conv7_3_score_weight"][0] = np.inf
    engine.load_state(arrays)
    report = engine.step([make_batch()], 0.01).wait()
    assert not np.isfinite(report.loss)
    names = engine.nonfinite()
    assert "conv7_3_score_weight" in names
    assert "conv4_3_bbox_weight" not in names


def test_a_state_of_another_network_is_refused() -> None:
    engine = _torch(ADAMW)
    arrays = engine.state()
    arrays["arg:more"] = arrays.pop("arg:conv1_weight")
    arrays["aux:conv2_bn_moving_var"] = np.zeros(3, np.float32)
    with pytest.raises(ModelError, match="missing arg:conv1_weight; extra arg:more; aux:conv2_bn_moving_var has shape"):
        engine.load_state(arrays)


def test_two_workers_do_what_one_does_with_the_double_batch(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(WORKER), str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env=_environment(),
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = (dict(np.load(tmp_path / f"rank{rank}.npz")) for rank in (0, 1))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    alone = _torch(OptimizerOptions(name="sgd", weight_decay=0.01, ema=0.9), norm=False)
    expected = []
    for seed in range(3):
        report = alone.step([make_batch(4, seed)], 0.05).wait()
        expected.append([report.loss, report.gradient_norm, *np.ravel([*report.statistics.values()])])
    np.testing.assert_allclose(first.pop("reports"), expected, rtol=1e-4)
    assert _distance(alone.state(), first) < 1e-5


def _environment() -> dict[str, str]:

    return {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}


def test_devices_by_name() -> None:
    assert str(parse_device("cpu")) == "cpu"
    with pytest.raises(EngineError, match="unknown device 'tpu'"):
        parse_device("tpu")
    with pytest.raises(EngineError, match=r"device cuda:63 cannot be used: PyTorch .* sees"):
        parse_device("cuda:63")
