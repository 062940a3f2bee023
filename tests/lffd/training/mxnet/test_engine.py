"""Steps of the MXNet training engine against references, and its state."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lffd.errors import ModelError
from lffd.graphs import batch_norm
from lffd.training.engine import count_positives, loss_divisors
from lffd.training.initialization import initial_arrays
from lffd.training.mxnet.engine import MXNetTrainingEngine
from lffd.training.mxnet.losses import training_symbol
from lffd.training.options import LossOptions, OptimizerOptions
from tests.training_batches import NETWORK, FakeBatch, make_batch

PLAIN_SGD = OptimizerOptions(name="sgd", momentum=0.9, weight_decay=0.1, clip_norm=0.0, ema=0.0)


def make_engine(
    optimizer: OptimizerOptions = PLAIN_SGD, loss: LossOptions | None = None, norm: bool = False, **more: Any
) -> MXNetTrainingEngine:
    loss = loss or LossOptions(score="cross-entropy", box="l2")
    initial = initial_arrays(NETWORK, norm, seed=3, style="prior")
    symbol = training_symbol(NETWORK, loss, norm).tojson()
    return MXNetTrainingEngine(symbol, initial, optimizer=optimizer, normalizer=loss.normalizer, **more)


def _step_of(
    engine: MXNetTrainingEngine, batches: list[FakeBatch], rate: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    before = engine.state()
    engine.step(batches, rate).wait()
    return before, engine.state()


def _gradient(batches: list[FakeBatch], norm: bool = False) -> dict[str, np.ndarray]:
    """The gradient, read off one plain step of size 1 without momentum or decay."""
    plain = replace(PLAIN_SGD, momentum=0.0, weight_decay=0.0)
    before, after = _step_of(make_engine(plain, norm=norm), batches, 1.0)
    return {name: before[name] - after[name] for name in before if name.startswith("arg:")}


def test_sgd_by_hand() -> None:
    batch, gradient = make_batch(), _gradient([make_batch()])
    engine = make_engine()
    before, after = _step_of(engine, [batch], 0.01)
    for name, value in gradient.items():
        decay = 0.1 * before[name] if name.endswith("_weight") else 0.0
        momentum = value + decay
        np.testing.assert_allclose(after[name], before[name] - 0.01 * momentum, atol=2e-6)
        np.testing.assert_allclose(after[name.replace("arg:", "optimizer:momentum:")], momentum, atol=3e-5)


def test_adamw_by_hand_over_two_steps() -> None:
    options = OptimizerOptions(momentum=0.8, beta2=0.9, weight_decay=0.1, clip_norm=0.0, ema=0.0, epsilon=1e-3)
    engine, batch, name = make_engine(options), make_batch(), "arg:conv3_weight"
    first = _gradient([batch])[name].astype(np.float64)
    start = engine.state()[name].astype(np.float64)
    engine.step([batch], 0.01).wait()
    after = start - 0.01 * (first / (np.abs(first) + 1e-3) + 0.1 * start)  # both corrections cancel in step 1
    np.testing.assert_allclose(engine.state()[name], after, atol=1e-5)
    state = engine.state()
    np.testing.assert_allclose(state["optimizer:mean:conv3_weight"], 0.2 * first, atol=1e-5)
    np.testing.assert_allclose(state["optimizer:variance:conv3_weight"], 0.1 * first**2, atol=1e-5)
    engine.step([batch], 0.0).wait()
    second = engine.state()
    assert np.array_equal(second[name], state[name])
    mean = second["optimizer:mean:conv3_weight"]
    np.testing.assert_allclose((mean - 0.8 * 0.2 * first) / 0.2, _last_gradient(engine, "conv3_weight"), atol=1e-4)


def _last_gradient(engine: MXNetTrainingEngine, name: str) -> np.ndarray:
    return engine._gradient.read()[name]


def test_clipping_scales_the_whole_gradient_to_its_norm() -> None:
    gradient = _gradient([make_batch()])
    norm = np.sqrt(sum(float((value.astype(np.float64) ** 2).sum()) for value in gradient.values()))
    plain = replace(PLAIN_SGD, momentum=0.0, weight_decay=0.0, clip_norm=norm / 4)
    engine = make_engine(plain)
    before = engine.state()
    report = engine.step([make_batch()], 1.0).wait()
    after = engine.state()
    assert report.gradient_norm == pytest.approx(norm, rel=1e-4)
    for name, value in gradient.items():
        np.testing.assert_allclose(before[name] - after[name], value / 4, atol=1e-5)


def test_report_matches_the_batch() -> None:
    batch = make_batch()
    report = make_engine().step([batch], 0.1).wait()
    columns = report.statistics
    np.testing.assert_array_equal(columns["positives"], [(t["score"] == 1).sum() for t in batch.targets])
    np.testing.assert_array_equal(columns["cells"], [(t["score"] >= 0).sum() for t in batch.targets])
    sums = 2 * columns["score_loss"] + 2 * columns["box_loss"]
    assert report.loss == pytest.approx(sums.sum() / columns["positives"].sum(), rel=1e-5)


@pytest.mark.parametrize("normalizer", ["all", "branch"])
def test_accumulation_equals_one_larger_batch(normalizer: str) -> None:
    loss = LossOptions(score="cross-entropy", box="l2", normalizer=normalizer)  # type: ignore[arg-type]
    whole, parts = make_engine(loss=loss), make_engine(loss=loss)
    batch = make_batch(4)
    together = whole.step([batch], 0.1).wait()
    apart = parts.step([batch.part(0, 2), batch.part(2, 4)], 0.1).wait()
    assert apart.loss == pytest.approx(together.loss, rel=1e-5)
    assert set(apart.statistics) == set(together.statistics)
    for name, values in together.statistics.items():
        np.testing.assert_allclose(apart.statistics[name], values, rtol=1e-4, err_msg=name)
    for name, value in whole.state().items():
        np.testing.assert_allclose(parts.state()[name], value, atol=2e-5)


def test_several_devices_equal_one() -> None:
    """Two replicas on the CPU stand for two GPUs: the same split, sums and copies."""
    one, two = make_engine(), make_engine(device="cpu,cpu")
    batch = make_batch(4)
    for _ in range(2):
        first, second = one.step([batch], 0.05).wait(), two.step([batch], 0.05).wait()
        assert second.loss == pytest.approx(first.loss, rel=1e-5)
    for name, value in one.state().items():
        np.testing.assert_allclose(two.state()[name], value, atol=5e-6)


def test_running_statistics_follow_the_batch() -> None:
    batch, engine = make_batch(), make_engine(norm=True)
    before, after = _step_of(engine, [batch], 0.0)
    weight, bias = before["arg:conv1_weight"].astype(np.float64), before["arg:conv1_bias"]
    pixels = (batch.images.transpose(0, 3, 1, 2).astype(np.float64) - 127.5) / 127.5
    view: Any = np.lib.stride_tricks.sliding_window_view
    windows = view(pixels, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    output = np.einsum("bcyxij,ocij->boyx", windows, weight) + bias[:, None, None]
    keep = batch_norm.MOMENTUM
    np.testing.assert_allclose(after["aux:conv1_bn_moving_mean"], (1 - keep) * output.mean(axis=(0, 2, 3)), atol=1e-5)
    variance = keep + (1 - keep) * output.var(axis=(0, 2, 3))
    np.testing.assert_allclose(after["aux:conv1_bn_moving_var"], variance, rtol=2e-3)


def test_moving_average_covers_parameters_and_running_statistics() -> None:
    engine = make_engine(replace(PLAIN_SGD, ema=0.9), norm=True)
    start = engine.state()
    expected = {name: value.astype(np.float64) for name, value in start.items() if name.startswith(("arg:", "aux:"))}
    for step in range(1, 4):
        engine.step([make_batch(seed=step)], 0.05).wait()
        decay, now = min(0.9, (1 + step) / (10 + step)), engine.state()
        expected = {name: decay * value + (1 - decay) * now[name] for name, value in expected.items()}
    for name, value in expected.items():
        np.testing.assert_allclose(engine.state()[f"ema:{name}"], value, atol=1e-5)
    params, states = engine.deployable()
    np.testing.assert_array_equal(params["conv1_weight"], engine.state()["ema:arg:conv1_weight"])
    np.testing.assert_array_equal(states["conv1_bn_moving_var"], engine.state()["ema:aux:conv1_bn_moving_var"])


@pytest.mark.parametrize("optimizer", [PLAIN_SGD, OptimizerOptions()], ids=["sgd", "adamw"])
def test_a_restored_engine_goes_on_bit_for_bit(optimizer: OptimizerOptions) -> None:
    first, second = make_engine(optimizer, norm=True), make_engine(optimizer, norm=True)
    first.step([make_batch(seed=1)], 0.01).wait()
    second.load_state(first.state())
    for seed in (2, 3):
        first.step([make_batch(seed=seed)], 0.01).wait()
        second.step([make_batch(seed=seed)], 0.01).wait()
    expected, found = first.state(), second.state()
    assert expected.keys() == found.keys()
    assert [name for name in expected if not np.array_equal(expected[name], found[name])] == []


def test_a_state_that_does_not_fit_is_listed() -> None:
    engine = make_engine()
    state = engine.state()
    del state["arg:conv1_bias"]
    state["arg:conv3_bias"] = np.zeros(99, np.float32)
    state["alien"] = np.zeros(1, np.float32)
    with pytest.raises(ModelError, match=r"missing arg:conv1_bias; extra alien; arg:conv3_bias has shape \(99,\)"):
        engine.load_state(state)


def test_nonfinite_parameters_are_named() -> None:
    engine = make_engine()
    state = engine.state()
    state["arg:conv4_3_score_bias"] = np.full(2, np.nan, np.float32)
    engine.load_state(state)
    report = engine.step([make_batch()], 0.0).wait()
    assert not np.isfinite(report.loss)
    assert np.isnan(report.statistics["score_loss"][0])
    assert all(np.isfinite(values[1]) for values in report.statistics.values())
    assert "conv4_3_score_bias" in engine.nonfinite()


def test_divisors() -> None:
    batch = make_batch()
    positives = count_positives([batch, batch])
    np.testing.assert_array_equal(positives, [2 * (t["score"] == 1).sum() for t in batch.targets])
    one, none = np.array([0.0, 4.0]), np.array([0.0, 0.0])
    np.testing.assert_array_equal(loss_divisors(one, "branch", [batch]), [[1, 4], [1, 4]])
    np.testing.assert_array_equal(loss_divisors(one, "all", [batch]), [[4, 4], [4, 4]])
    np.testing.assert_array_equal(loss_divisors(none, "all", [batch]), [[1, 1], [1, 1]])


def test_published_divisors_by_hand() -> None:
    """3 workers, 2 batches of 4 images; box maps of 4 channels, 15 × 15 and 7 × 7 cells."""
    batches = [make_batch(4), make_batch(4, seed=1)]
    assert [targets["box"].shape[1:] for targets in batches[0].targets] == [(4, 15, 15), (4, 7, 7)]
    found = loss_divisors(np.array([0.0, 4.0]), "published", batches, workers=3)
    images = 3 * 2 * 4
    np.testing.assert_array_equal(found, [[6 * images] * 2, [4 * 15 * 15 * images, 4 * 7 * 7 * images]])
