"""Losses and their gradients against references written in NumPy with double precision.

Gradients of the reference are central differences of the reference loss, so they share nothing with the graph.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any, Literal

import numpy as np
import pytest

from lffd.engines.mxnet_engine import import_mxnet
from lffd.errors import UsageError
from lffd.training.engine import count_positives, loss_divisors
from lffd.training.initialization import initial_arrays
from lffd.training.losses import BOX_LOSSES, SCORE_LOSSES, statistic_names
from lffd.training.mxnet.losses import branch_statistics, training_symbol
from lffd.training.options import LossOptions
from tests.training_batches import NETWORK, make_batch

Case = dict[str, np.ndarray]
B, H, W = 2, 5, 6


def _case(kind: str, seed: int = 0) -> Case:
    rng = np.random.default_rng(seed)
    target = rng.choice([1, 0, 0, 0, -1], (B, H, W)).astype(np.float64)
    if kind == "no positives":
        target[target == 1] = 0
    elif kind == "all ignored":
        target[:] = -1
    elif kind == "few negatives":  # fewer than mining asks for
        target[target == 0] = -1
        target[0, 0, :3] = 0
        target[1, 2, :4] = 1
    true = rng.uniform(0.2, 1.0, (B, 4, H, W))
    true[:, 2:] *= -1
    predicted = true + rng.normal(0, 0.3, true.shape)
    predicted[:, :, 0, :2] = [[0.1, 3.0], [0.1, 3.0], [0.6, 2.0], [0.6, 2.0]]  # inverted, and far away
    return {"score": rng.normal(0, 1.5, (B, 2, H, W)), "box": predicted, "target": target, "code": true}


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


def _iou_and_distance(code: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixel-style boxes around cell 0 from codes `(B, 4, h, w)`, then the textbook formulas."""
    p, t = -code, -true
    wide = np.clip(np.minimum(p[:, 2], t[:, 2]) - np.maximum(p[:, 0], t[:, 0]), 0, None)
    high = np.clip(np.minimum(p[:, 3], t[:, 3]) - np.maximum(p[:, 1], t[:, 1]), 0, None)
    area_p = np.clip(p[:, 2] - p[:, 0], 0, None) * np.clip(p[:, 3] - p[:, 1], 0, None)
    area_t = (t[:, 2] - t[:, 0]) * (t[:, 3] - t[:, 1])
    shared = wide * high
    center = [((p[:, i] + p[:, i + 2]) - (t[:, i] + t[:, i + 2])) / 2 for i in (0, 1)]
    hull = [np.maximum(p[:, i + 2], t[:, i + 2]) - np.minimum(p[:, i], t[:, i]) for i in (0, 1)]
    distance = (center[0] ** 2 + center[1] ** 2) / (hull[0] ** 2 + hull[1] ** 2 + 1e-7)
    return shared / (area_p + area_t - shared + 1e-7), distance


def _kept_negatives(z: np.ndarray, target: np.ndarray, options: LossOptions) -> np.ndarray:
    negative = target == 0
    if options.negatives_per_positive == 0:
        return negative
    found = int((target == 1).sum())
    count = negative.sum()
    budget = np.ceil(options.negatives_per_positive * found if found else options.negatives_without_positive * count)
    places = np.argwhere(negative)
    hardest = sorted(places.tolist(), key=lambda place: -z[tuple(place)])[: int(budget)]
    kept = np.zeros_like(negative)
    for place in hardest:
        kept[tuple(place)] = True
    return kept


def _reference(case: Case, options: LossOptions, quality: np.ndarray | None = None) -> tuple[float, float]:
    """Score and box sums; `quality` freezes the soft target, through which no gradient flows."""
    z = case["score"][:, 0] - case["score"][:, 1]
    p = 1 / (1 + np.exp(-z))
    positive = case["target"] == 1
    kept = _kept_negatives(z, case["target"], options)
    iou, distance = _iou_and_distance(case["box"], case["code"])
    gamma, alpha = options.focal_gamma, options.focal_alpha
    if options.score == "cross-entropy":
        score = _softplus(-z)[positive].sum() + _softplus(z)[kept].sum()
    elif options.score == "focal":
        score = (alpha * (1 - p) ** gamma * _softplus(-z))[positive].sum()
        score += ((1 - alpha) * p**gamma * _softplus(z))[kept].sum()
    else:
        q = iou if quality is None else quality
        entropy = -(q * np.log(p) + (1 - q) * np.log(1 - p))
        score = (np.abs(q - p) ** gamma * entropy)[positive].sum() + (p**gamma * _softplus(z))[kept].sum()
    error = case["box"] - case["code"]
    small = np.abs(error) < 1
    per_cell = {
        "l2": 0.5 * (error**2).sum(axis=1),
        "smooth-l1": np.where(small, 0.5 * error**2, np.abs(error) - 0.5).sum(axis=1),
        "iou": 1 - iou,
        "diou": 1 - iou + distance,
    }
    return float(score), float(per_cell[options.box][positive].sum())


def _graph(case: Case, options: LossOptions) -> dict[str, Any]:
    """Run the graph: sums, statistics, and gradients of score sum + 2 · box sum.

    In double precision, but for mining: MXNet's ranks are single precision, and its operators do not mix the two.
    """
    mx = import_mxnet()
    precision = "float32" if options.negatives_per_positive else "float64"
    variables = {name: mx.sym.Variable(name) for name in case}
    inputs: list[Any] = [variables[name] for name in ("score", "box", "target", "code")]
    said, targets = {"score": inputs[0], "box": inputs[1]}, {"score": inputs[2], "box": inputs[3]}
    columns = branch_statistics(NETWORK, 0, said, targets, options)
    loss = mx.sym.make_loss(columns["score_loss"] + 2 * columns["box_loss"])
    group = mx.sym.Group([loss, *map(mx.sym.BlockGrad, columns.values())])
    shaped = {**case, "target": case["target"][:, None]}
    arrays = {name: mx.nd.array(value, dtype=precision) for name, value in shaped.items()}
    gradients = {name: mx.nd.zeros_like(arrays[name]) for name in ("score", "box")}
    executor = group.bind(mx.cpu(), arrays, args_grad=gradients)
    _, *sums = executor.forward(is_train=True)
    executor.backward()
    statistics = {name: value.asscalar() for name, value in zip(columns, sums, strict=True)}
    return {
        "sums": (statistics["score_loss"], statistics["box_loss"]),
        "statistics": statistics,
        "gradients": {name: value.asnumpy() for name, value in gradients.items()},
    }


def _numeric_gradient(case: Case, options: LossOptions, name: str) -> np.ndarray:
    iou, _ = _iou_and_distance(case["box"], case["code"])
    gradient = np.zeros_like(case[name])
    for place in np.ndindex(gradient.shape):
        sides = []
        for step in (1e-6, -1e-6):
            moved = {**case, name: case[name].copy()}
            moved[name][place] += step
            score, box = _reference(moved, options, quality=iou)
            sides.append(score + 2 * box)
        gradient[place] = (sides[0] - sides[1]) / 2e-6
    return gradient


OPTIONS = [
    LossOptions(score=score, box=box, negatives_per_positive=mined)
    for score, box, mined in itertools.product(SCORE_LOSSES, BOX_LOSSES, (0.0, 2.0))
]
KINDS = ("ordinary", "no positives", "all ignored", "few negatives")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: f"{o.score}/{o.box}/{o.negatives_per_positive:g}")
def test_sums_match_the_reference(options: LossOptions, kind: str) -> None:
    case = _case(kind)
    found = _graph(case, options)
    np.testing.assert_allclose(found["sums"], _reference(case, options), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: f"{o.score}/{o.box}/{o.negatives_per_positive:g}")
def test_gradients_match_the_reference(options: LossOptions, kind: str) -> None:
    case = _case(kind)
    found = _graph(case, options)["gradients"]
    for name in ("score", "box"):
        expected = _numeric_gradient(case, options, name)
        scale = max(float(np.abs(expected).max()), 1.0)
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_count_only_cells_that_are_not_ignored(kind: str) -> None:
    case = _case(kind)
    found = _graph(case, LossOptions())["statistics"]
    z, target = case["score"][:, 0] - case["score"][:, 1], case["target"]
    iou, _ = _iou_and_distance(case["box"], case["code"])
    assert found["cells"] == (target >= 0).sum()
    assert found["positives"] == (target == 1).sum()
    assert found["claims"] == ((z > 0) & (target >= 0)).sum()
    assert found["hits"] == ((z > 0) & (target == 1)).sum()
    assert found["iou"] == pytest.approx(iou[target == 1].sum())


def test_ignored_cells_have_no_gradient() -> None:
    case = _case("ordinary")
    gradients = _graph(case, LossOptions(negatives_per_positive=2.0))["gradients"]
    ignored = np.broadcast_to((case["target"] == -1)[:, None], gradients["score"].shape)
    assert np.abs(gradients["score"][ignored]).max() == 0
    assert np.abs(gradients["score"][~ignored]).max() > 0


def test_mining_gives_its_whole_budget_to_background() -> None:
    """Positives and ignored cells, whose masked losses are zero, must not use up any of it."""
    case = _case("ordinary")
    options = LossOptions(score="cross-entropy", negatives_per_positive=2.0)
    case["score"][:, 0] -= 20 * (case["target"] == 0)  # every background cell is easy: its loss is about zero
    gradient = _graph(case, options)["gradients"]["score"][:, 0]
    positives = int((case["target"] == 1).sum())
    assert np.count_nonzero(gradient[case["target"] == 0]) == min(2 * positives, int((case["target"] == 0).sum()))


def test_extreme_scores_stay_finite() -> None:
    case = _case("ordinary")
    case["score"] *= 1e4
    case["box"] *= 1e4
    for options in OPTIONS:
        found = _graph(case, options)
        assert np.isfinite(found["sums"]).all()
        assert all(np.isfinite(value).all() for value in found["gradients"].values())


@pytest.mark.parametrize(
    "options",
    [
        {"negatives_per_positive": -1},
        {"negatives_without_positive": 2},
        {"focal_alpha": 1.5},
        {"focal_gamma": -1},
        {"score_weight": float("nan")},
        {"branch_weights": (1.0, -1.0)},
    ],
)
def test_options_outside_their_meaning_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="loss"):
        LossOptions(**options)


def test_branch_weights_must_fit_the_network() -> None:
    with pytest.raises(UsageError, match=r"loss\.branch_weights has 2 values for 5 branches"):
        LossOptions(branch_weights=(1.0, 2.0)).weights_for(5)


def _whole_loss(options: LossOptions) -> tuple[float, np.ndarray]:
    """The loss and the statistics of the whole training graph on a made-up batch."""
    mx = import_mxnet()
    batch = make_batch()
    feed = {"image": batch.images, "divisor": loss_divisors(count_positives([batch]), options.normalizer, [batch])}
    for index, targets in enumerate(batch.targets):
        feed |= {f"target_{name}_{index}": value for name, value in targets.items()}
    start = initial_arrays(NETWORK, False, seed=3, style="prior")
    feed |= {name.removeprefix("arg:"): value for name, value in start.items()}
    arrays = {name: mx.nd.array(value, dtype=value.dtype) for name, value in feed.items()}
    executor = training_symbol(NETWORK, options, batch_norm=False).bind(mx.cpu(), arrays, grad_req="null")
    loss, statistics = executor.forward(is_train=True)
    return float(loss.asscalar()), statistics.asnumpy().astype(np.float64)


@pytest.mark.parametrize("normalizer", ["branch", "all"])
def test_branch_weights_and_divisors_reach_the_loss(normalizer: Literal["branch", "all"]) -> None:
    weights = (0.7, 1.9)
    options = LossOptions(score_weight=1.3, box_weight=0.6, branch_weights=weights, normalizer=normalizer)
    loss, statistics = _whole_loss(options)
    positives = [int((targets["score"] == 1).sum()) for targets in make_batch().targets]
    assert min(positives) > 1
    assert positives[0] != positives[1]
    expected = 0.0
    for weight, row, own in zip(weights, statistics, positives, strict=True):
        divisor = own if normalizer == "branch" else sum(positives)
        sums = dict(zip(statistic_names(("score", "box")), row, strict=True))
        expected += weight * (1.3 * sums["score_loss"] + 0.6 * sums["box_loss"]) / divisor
    assert loss == pytest.approx(expected, rel=1e-5)
    swapped, _ = _whole_loss(dataclasses.replace(options, branch_weights=weights[::-1]))
    assert abs(swapped - loss) > 1e-2 * loss
    equal, _ = _whole_loss(dataclasses.replace(options, branch_weights=()))
    ones, _ = _whole_loss(dataclasses.replace(options, branch_weights=(1.0, 1.0)))
    assert equal == ones
