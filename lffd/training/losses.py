"""What each branch is taught: losses as tables, name to function, written once for every engine.

LFFD (arXiv 1904.10633, section 3.3) trains scores by cross-entropy with hard-negative mining and box codes by squared
error. Those are options here; the defaults are the quality focal loss (arXiv 2006.04388) and the distance IoU loss
(arXiv 1911.08287). The score losses work on one logit per prediction, z; of two score channels that is the object's
minus the background's, which is all that their softmax sees.

The functions use nothing but arithmetic and `Operators`, which each engine provides for its own arrays or symbols. To
add a box loss, write its function and list it in `BOX_LOSSES`; engines and command lines find it there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

BOX_ALONE = -2
"""Class of a cell whose score takes no part in the loss, while its box is taught."""

TINY = 1e-7
"""Keeps divisions by empty boxes finite, in units of the box code."""

COUNTS = ("cells", "positives", "hits", "claims", "iou")
"""Statistics beside each term's sum `<term>_loss`; see `statistic_names`."""


class Operators(NamedTuple):
    """What losses need of an engine, elementwise on its arrays or symbols; `where` takes condition, yes and no."""

    maximum: Callable[[Any, Any], Any]
    minimum: Callable[[Any, Any], Any]
    relu: Callable[[Any], Any]
    abs: Callable[[Any], Any]
    where: Callable[[Any, Any, Any], Any]
    exp: Callable[[Any], Any]
    sigmoid: Callable[[Any], Any]
    softplus: Callable[[Any], Any]
    log1p: Callable[[Any], Any]


class ScoreLoss(NamedTuple):
    """A score loss: `on_object(z, quality, options, operators)` and `on_background(z, options, operators)`.

    `quality` is the IoU of the predicted and the true box, 0–1, without gradient.
    """

    on_object: Callable[[Any, Any, Any, Operators], Any]
    on_background: Callable[[Any, Any, Operators], Any]


SCORE_LOSSES: dict[str, ScoreLoss] = {
    "cross-entropy": ScoreLoss(lambda z, q, o, ops: ops.softplus(-z), lambda z, o, ops: ops.softplus(z)),
    "focal": ScoreLoss(
        lambda z, q, o, ops: o.focal_alpha * (1 - ops.sigmoid(z)) ** o.focal_gamma * ops.softplus(-z),
        lambda z, o, ops: (1 - o.focal_alpha) * (ops.sigmoid(z) ** o.focal_gamma * ops.softplus(z)),
    ),
    # Cross-entropy against the soft target q is softplus(z) - q z.
    "quality-focal": ScoreLoss(
        lambda z, q, o, ops: ops.abs(q - ops.sigmoid(z)) ** o.focal_gamma * (ops.softplus(z) - q * z),
        lambda z, o, ops: ops.sigmoid(z) ** o.focal_gamma * ops.softplus(z),
    ),
}
"""Score losses by name."""


class BoxPair(NamedTuple):
    """Predicted and true boxes of some cells, in units of the code around the cell.

    Attributes:
        predicted_code, true_code: their codes, four channels each.
        overlap: IoU.
        distance: squared distance of the centres over the squared diagonal of the hull, the DIoU penalty.
    """

    predicted_code: Sequence[Any]
    true_code: Sequence[Any]
    overlap: Any
    distance: Any


def compare_boxes(code: Any, predicted: Sequence[Any], true: Sequence[Any], ops: Operators) -> BoxPair:
    """Return how well predicted box codes meet true ones; IoU is the same in units of the code as in pixels."""
    (px0, py0, px1, py1), (tx0, ty0, tx1, ty1) = code.corners(predicted, ops), code.corners(true, ops)
    width = ops.relu(ops.minimum(px1, tx1) - ops.maximum(px0, tx0))
    height = ops.relu(ops.minimum(py1, ty1) - ops.maximum(py0, ty0))
    shared = width * height
    area = ops.relu(px1 - px0) * ops.relu(py1 - py0)
    union = area + (tx1 - tx0) * (ty1 - ty0) - shared
    hull_width = ops.maximum(px1, tx1) - ops.minimum(px0, tx0)
    hull_height = ops.maximum(py1, ty1) - ops.minimum(py0, ty0)
    offset_x, offset_y = px0 + px1 - tx0 - tx1, py0 + py1 - ty0 - ty1
    diagonal = hull_width * hull_width + hull_height * hull_height
    distance = 0.25 * (offset_x * offset_x + offset_y * offset_y) / (diagonal + TINY)
    return BoxPair(predicted, true, shared / (union + TINY), distance)


def smooth_l1(errors: Sequence[Any], ops: Operators) -> Any:
    """Return the sum over channels of half the squared error within 1, and of the error less a half beyond."""
    sizes = [ops.abs(error) for error in errors]
    return sum(ops.where(size < 1, 0.5 * size * size, size - 0.5) for size in sizes)


def _errors(pair: BoxPair) -> list[Any]:
    return [p - t for p, t in zip(pair.predicted_code, pair.true_code, strict=True)]


BOX_LOSSES: dict[str, Callable[[BoxPair, Operators], Any]] = {
    "l2": lambda pair, ops: sum(0.5 * error * error for error in _errors(pair)),
    "smooth-l1": lambda pair, ops: smooth_l1(_errors(pair), ops),
    "iou": lambda pair, ops: 1 - pair.overlap,
    "diou": lambda pair, ops: 1 - pair.overlap + pair.distance,
}
"""Losses of a predicted box by name: `l2` and `smooth-l1` compare codes, `iou` and `diou` compare boxes."""

WING_WIDTH, WING_CURVATURE = 0.1, 0.02
"""Where the wing loss becomes straight, and what its errors are compared with, in units of the code: as 10 and 2 px of
a face that fills some 100 px."""


def wing(errors: Sequence[Any], ops: Operators) -> Any:
    """Return the wing loss (arXiv 1711.06753) summed over channels: steep for small errors, straight for large ones."""
    offset = WING_WIDTH - WING_WIDTH * math.log1p(WING_WIDTH / WING_CURVATURE)
    sizes = [ops.abs(error) for error in errors]
    return sum(
        ops.where(size < WING_WIDTH, WING_WIDTH * ops.log1p(size * (1 / WING_CURVATURE)), size - offset)
        for size in sizes
    )


POINT_LOSSES: dict[str, Callable[[Sequence[Any], Operators], Any]] = {"smooth-l1": smooth_l1, "wing": wing}
"""Losses of predicted points by name, from their errors channel by channel."""


SURE = 0.1
"""Teacher's score from which its box is taught too."""


class FurtherTerm(NamedTuple):
    """A term of the loss beside those of score and box.

    Attributes:
        output: what the network says that it reads; of `score` the logit.
        channels: of its target, per prediction.
        where: the predictions that it counts: `objects`, those of which a teacher is `sure`, or `everywhere`.
        loss: from box code, output and target channel by channel, options and operators, to one value per prediction.
    """

    output: str
    channels: int
    where: str
    loss: Callable[[Any, Sequence[Any], Sequence[Any], Any, Operators], Any]


def _points(code: Any, predicted: Sequence[Any], target: Sequence[Any], options: Any, ops: Operators) -> Any:
    """Return the loss of five points; the target's last channel says whether they are known."""
    errors = [point - place for point, place in zip(predicted, target, strict=False)]
    return (target[10] > 0) * POINT_LOSSES[options.landmarks](errors, ops)


def _teacher_score(code: Any, predicted: Sequence[Any], target: Sequence[Any], options: Any, ops: Operators) -> Any:
    """Return the quality focal loss of logits against a teacher's scores, 0 where these are unknown (below 0)."""
    (z,), (score,) = predicted, target
    loss = ops.abs(score - ops.sigmoid(z)) ** options.focal_gamma * (ops.softplus(z) - score * z)
    return (score >= 0) * loss


def _teacher_box(code: Any, predicted: Sequence[Any], target: Sequence[Any], options: Any, ops: Operators) -> Any:
    """Return the distance IoU loss against a teacher's boxes, in the network's own code."""
    return BOX_LOSSES["diou"](compare_boxes(code, predicted, target, ops), ops)


FURTHER_TERMS: dict[str, FurtherTerm] = {
    "landmarks": FurtherTerm("landmarks", 11, "objects", _points),
    "teacher_score": FurtherTerm("score", 1, "everywhere", _teacher_score),
    "teacher_box": FurtherTerm("box", 4, "sure", _teacher_box),
}
"""Terms by the name of their target. To add one, list it here, and its weight in `LossOptions`."""

TEACHER = ("teacher_score", "teacher_box")
"""Targets of a network that learns from another one: for every prediction the other's score, 0–1 or −1 for unknown, and
its box in the network's own code."""

TARGET_CHANNELS = {"score": 1, "box": 4} | {name: term.channels for name, term in FURTHER_TERMS.items()}
"""Channels of each target, per prediction of a cell."""


@dataclass(frozen=True)
class Term:
    """One summand of the loss.

    Attributes:
        target: what it teaches; its sum is the statistic `<target>_loss`.
        weight: its factor.
    """

    target: str
    weight: float


def statistic_names(targets: Sequence[str]) -> tuple[str, ...]:
    """Return the statistics of a step with these targets; each is a sum over the batch, per branch.

    `<target>_loss`: unweighted, undivided sums; `cells`: predictions that are not ignored (positives and background,
    also those that mining leaves out); `positives`; `hits`: positives with a score above 0.5; `claims`: predictions
    that are not ignored with a score above 0.5; `iou`: sum over positives of the IoU of predicted and true box.
    """
    return (*(f"{target}_loss" for target in targets), *COUNTS)
