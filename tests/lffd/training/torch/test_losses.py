"""The PyTorch losses against MXNet's: every option, every parameter's gradient, and the awkward batches."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from lffd.engines.mxnet_engine import import_mxnet
from lffd.training.initialization import initial_arrays
from lffd.training.losses import BOX_ALONE, BOX_LOSSES, SCORE_LOSSES
from lffd.training.mxnet.engine import MXNetTrainingEngine
from lffd.training.mxnet.losses import branch_statistics, training_symbol
from lffd.training.options import LossOptions, OptimizerOptions
from tests.training_batches import NETWORK, FakeBatch, make_batch

torch = pytest.importorskip("torch", reason="the torch engine's tests need PyTorch: pip install torch")
if find_spec("mxnet") is None:
    pytest.skip("compares with MXNet, which is not installed", allow_module_level=True)

from lffd.training.torch.engine import TorchTrainingEngine  # noqa: E402
from lffd.training.torch.losses import Targets, collect_labels, training_loss  # noqa: E402 - imports torch

STILL = OptimizerOptions(name="sgd", momentum=0.0, weight_decay=0.0, clip_norm=0.0, ema=0.0)
SCORES, BOXES = list(SCORE_LOSSES), list(BOX_LOSSES)


def _gradients(loss: LossOptions, batch_norm: bool, batch: FakeBatch) -> tuple[Any, ...]:
    """Report and gradients by name of both engines for one batch and the same parameters."""
    initial = initial_arrays(NETWORK, batch_norm, seed=3, style="xavier")
    symbol = training_symbol(NETWORK, loss, batch_norm).tojson()
    theirs = MXNetTrainingEngine(symbol, initial, optimizer=STILL, normalizer=loss.normalizer)
    ours = TorchTrainingEngine(NETWORK, initial, loss=loss, optimizer=STILL)
    reports = [engine.step([batch], 0.0).wait() for engine in (theirs, ours)]
    return (*reports, theirs._gradient.read(), ours._gradient.read())


def _assert_statistics(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], atol: float = 0.0) -> None:
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=atol, err_msg=name)


def test_every_loss_is_compared() -> None:
    assert {"cross-entropy", "focal", "quality-focal"} <= set(SCORES)
    assert {"l2", "smooth-l1", "iou", "diou"} <= set(BOXES)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(("score", "box"), itertools.product(SCORES, BOXES))
@pytest.mark.parametrize(("mining", "normalizer"), [(0.0, "all"), (2.0, "branch"), (2.0, "published")])
def test_loss_and_every_gradient_equal_mxnet(
    score: str, box: str, mining: float, normalizer: str, batch_norm: bool
) -> None:
    loss = LossOptions(
        score=score,
        box=box,
        negatives_per_positive=mining,
        normalizer=normalizer,  # type: ignore[arg-type]
        branch_weights=(0.7, 1.9),
    )
    expected, found, theirs, ours = _gradients(loss, batch_norm, make_batch())
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert found.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-5)
    _assert_statistics(found.statistics, expected.statistics)
    moved = 0
    for name, gradient in theirs.items():
        scale = float(np.abs(gradient).max())
        moved += scale > 1e-4
        np.testing.assert_allclose(ours[name], gradient, atol=max(1e-4 * scale, 1e-8), err_msg=name)
    assert moved > len(theirs) // 2, "gradients of zero would prove nothing"


def _relabel(batch: FakeBatch, kind: str) -> FakeBatch:
    classes = [targets["score"].copy() for targets in batch.targets]
    if kind == "no positive in one branch":
        classes[0][classes[0] == 1] = 0
    elif kind == "no positive at all":
        for value in classes:
            value[value == 1] = 0
    elif kind == "all ignored":
        for value in classes:
            value[:] = -1
    elif kind == "fewer negatives than mining asks for":
        for value in classes:
            value[:] = 1
            value[0, 0, 0, :3] = 0
    targets = tuple({**said, "score": value} for said, value in zip(batch.targets, classes, strict=True))
    return replace(batch, targets=targets)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(
    "kind",
    ["no positive in one branch", "no positive at all", "all ignored", "fewer negatives than mining asks for"],
)
def test_awkward_batches_equal_mxnet(kind: str, score: str) -> None:
    loss = LossOptions(score=score, negatives_per_positive=3.0, normalizer="branch")
    expected, found, theirs, ours = _gradients(loss, False, _relabel(make_batch(), kind))
    assert found.loss == pytest.approx(expected.loss, rel=1e-5, abs=1e-9)
    _assert_statistics(found.statistics, expected.statistics, atol=1e-6)
    for name, gradient in theirs.items():
        np.testing.assert_allclose(ours[name], gradient, atol=max(1e-4 * float(np.abs(gradient).max()), 1e-8))


@pytest.mark.parametrize("positives", [0, 3])
@pytest.mark.parametrize("candidates", [30, 31])
def test_ties_in_mining_keep_as_many_cells_as_mxnet_and_the_first_ones(positives: int, candidates: int) -> None:
    """All logits equal; gradients show which cells are kept. MXNet's sort is not stable, so it keeps others."""
    target = np.full((1, 1, 5, 8), -1, np.int8)
    target.reshape(-1)[:candidates] = 0
    target.reshape(-1)[candidates : candidates + positives] = 1
    options = LossOptions(score="cross-entropy", box="l2", negatives_per_positive=2.5)
    score, box = np.full((1, 2, 5, 8), 0.5, np.float32), np.zeros((1, 4, 5, 8), np.float32)
    mx = import_mxnet()
    inputs = [mx.nd.array(value) for value in (score, box, target.astype(np.float32), box)]
    inputs[0].attach_grad()
    names = ("score", "box", "target", "code")
    score_in, box_in, target_in, code_in = (mx.sym.Variable(name) for name in names)
    columns = branch_statistics(
        NETWORK, 0, {"score": score_in, "box": box_in}, {"score": target_in, "box": code_in}, options
    )
    gradient = mx.nd.zeros(score.shape)
    executor = columns["score_loss"].bind(
        mx.cpu(),
        dict(zip(names, inputs, strict=True)),
        args_grad={"score": gradient},
        grad_req={"score": "write", "box": "null", "target": "null", "code": "null"},
    )
    executor.forward(is_train=True)
    executor.backward([mx.nd.array([1.0])])
    leaf = torch.tensor(score, requires_grad=True)
    labels = collect_labels(FakeBatch(0, (), np.empty(0), ({"score": target, "box": box},)))
    positions, values = (
        {name: torch.from_numpy(array) for name, array in group.items()} for group in (labels.positions, labels.values)
    )
    targets = Targets(torch.from_numpy(labels.classes), positions, labels.counts, values)
    said = [{"score": leaf, "box": torch.tensor(box)}]
    training_loss(NETWORK, said, targets, torch.ones(2, 1), options)[0].backward()
    kept = positives + (int(np.ceil(2.5 * positives)) or int(np.ceil(np.float32(0.1) * np.float32(candidates))))
    assert np.count_nonzero(leaf.grad[0, 0]) == np.count_nonzero(gradient.asnumpy()[0, 0]) == kept
    background = leaf.grad[0, 0].reshape(-1)[:candidates] != 0
    assert background.tolist() == [True] * (kept - positives) + [False] * (candidates - kept + positives)


def test_labels_hold_the_codes_of_cells_that_are_taught_a_box_only() -> None:
    batch = make_batch()
    labels = collect_labels(batch)
    assert labels.counts["everywhere"] == tuple(targets["score"].size for targets in batch.targets)
    assert list(labels.values) == ["box"]
    assert list(labels.positions) == ["objects", "boxed", "objects_of_boxed"]
    start = 0
    for targets, count in zip(batch.targets, labels.counts["boxed"], strict=True):
        image, row, column = np.nonzero(np.isin(targets["score"][:, 0], (1, BOX_ALONE)))
        assert count == len(image)
        np.testing.assert_array_equal(
            labels.values["box"][start : start + count], targets["box"][image, :, row, column]
        )
        start += count
    assert start == len(labels.values["box"]) == len(labels.positions["boxed"])
    assert len(labels.positions["objects_of_boxed"]) == sum(labels.counts["objects"]) < start
