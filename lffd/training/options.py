"""Frozen dataclasses that describe how a network learns: loss, optimizer, schedule.

They hold plain values only, so that they become command-line fields, go into checkpoints and cards as JSON, and mean
the same to every engine. Data policies and the whole run are assembled in `config_farm`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from lffd.errors import UsageError
from lffd.limits import LIMITS
from lffd.training.losses import BOX_LOSSES, POINT_LOSSES, SCORE_LOSSES, TEACHER, Term


def choice(known: Iterable[str]) -> Any:
    """Return how a command line shows a value that is one of a table's names."""
    return tyro.conf.arg(metavar="{" + ",".join(known) + "}")


@dataclass(frozen=True)
class LossOptions:
    """What each branch is taught, and how much each part counts.

    All losses work on one logit per cell, z = (object channel) − (background channel), which is what the softmax of
    two channels sees. Ignored cells are outside every sum and every count.
    """

    score: Annotated[str, choice(SCORE_LOSSES)] = "quality-focal"
    """Score loss; quality-focal takes the IoU of the decoded box as the target of a positive cell."""
    box: Annotated[str, choice(BOX_LOSSES)] = "diou"
    """Box loss on positive cells; l2 and smooth-l1 compare box codes, iou and diou compare boxes."""
    landmarks: Annotated[str, choice(POINT_LOSSES)] = "smooth-l1"
    """Loss of the points of positive cells, for a network that has them."""
    score_weight: float = 2.0
    """Factor of the score loss."""
    box_weight: float = 2.0
    """Factor of the box loss."""
    landmarks_weight: float = 0.5
    """Factor of the points' loss."""
    teacher_score_weight: float = 1.0
    """Factor of the loss against a teacher's scores (quality focal, at every cell)."""
    teacher_box_weight: float = 1.0
    """Factor of the loss against a teacher's boxes, where it is sure of one."""
    branch_weights: tuple[float, ...] = ()
    """Factor of each branch, shallowest first; empty for 1 everywhere."""
    normalizer: Literal["branch", "all", "published"] = "all"
    """Divide a branch's sums by the positives of that branch, or of all branches, over the whole effective batch; or
    as published, see `lffd.training.engine.loss_divisors`."""
    negatives_per_positive: float = 0.0
    """Keep only this many of the hardest background cells per positive (published: 5); 0 keeps all."""
    negatives_without_positive: float = 0.1
    """With mining: share of the background cells kept, hardest first, when a branch has no positive in the batch."""
    mining: Literal["branch", "all"] = "branch"
    """Whether each branch has its own hardest background cells, or all branches compete; ties then are all kept."""
    focal_gamma: float = 2.0
    """Exponent of the focal and quality-focal modulation."""
    focal_alpha: float = 0.25
    """Weight of positives in the focal loss; negatives get 1 − alpha."""

    def __post_init__(self) -> None:
        """Refuse values outside their meaning."""
        for name, known in (("score", SCORE_LOSSES), ("box", BOX_LOSSES), ("landmarks", POINT_LOSSES)):
            value = getattr(self, name)
            _require(value in known, f"loss.{name} {value!r} is not one of {', '.join(known)}")
        _check(self, "loss", ("negatives_per_positive focal_gamma", *_FINITE))
        _check(self, "loss", ("negatives_without_positive focal_alpha", *_SHARE))
        kinds = ("score", "box", "landmarks", *TEACHER)
        weights = (*(getattr(self, f"{kind}_weight") for kind in kinds), *self.branch_weights)
        _require(all(0 <= weight < math.inf for weight in weights), "loss weights must be finite and at least 0")

    def terms(self, targets: Sequence[str]) -> list[Term]:
        """Return the weighted terms of the loss for these targets."""
        return [Term(target, getattr(self, f"{target}_weight")) for target in targets]

    def weights_for(self, branches: int) -> tuple[float, ...]:
        """Return one factor per branch.

        Raises:
            UsageError: when `branch_weights` has another length.
        """
        weights = self.branch_weights or (1.0,) * branches
        _require(len(weights) == branches, f"loss.branch_weights has {len(weights)} values for {branches} branches")
        return weights


@dataclass(frozen=True)
class OptimizerOptions:
    """How parameters follow gradients. Weight decay acts on convolution weights only, never on biases or gains."""

    name: Literal["sgd", "adamw"] = "adamw"
    """SGD with momentum (decay added to the gradient), or AdamW (decay apart from the gradient)."""
    momentum: float = 0.9
    """SGD's momentum; AdamW's beta 1."""
    beta2: float = 0.99
    """AdamW's second moment."""
    epsilon: float = 1e-8
    """AdamW's denominator."""
    weight_decay: float = 0.02
    """Decay per unit of learning rate."""
    clip_norm: float = 10.0
    """Scale the gradient down to this global L2 norm; 0 never clips."""
    ema: float = 0.998
    """Decay of the moving average of parameters and running statistics that is evaluated and saved; 0 for none."""

    def __post_init__(self) -> None:
        """Refuse values outside their meaning."""
        most = LIMITS["weight_decay"][1]
        _check(
            self,
            "optimizer",
            ("momentum beta2 ema", lambda value: 0 <= value < 1, "lie in 0–1, below 1"),
            ("weight_decay", lambda value: 0 <= value <= most, f"be at least 0 and at most {most:,}"),
            ("clip_norm", *_FINITE),
            ("epsilon", lambda value: 0 < value < math.inf, "be finite and above 0"),
        )


@dataclass(frozen=True)
class ScheduleOptions:
    """Learning rate as a function of the iteration."""

    learning_rate: float = 2.5e-3
    """The base rate."""
    shape: Literal["cosine", "steps", "constant", "trapezoid"] = "cosine"
    """Cosine from the base rate to `final`; steps: times `factor` at each milestone; constant; trapezoid: constant,
    then straight down to `final`, so that a run of unknown length can be ended at any time."""
    warm_up: int = 100
    """Iterations of linear rise from 0 to the base rate."""
    final: float = 0.01
    """Cosine and trapezoid: share of the base rate at the last iteration."""
    decay: float = 0.2
    """Trapezoid: share of all iterations that the way down takes, at the end."""
    milestones: tuple[float, ...] = (0.25, 0.5, 0.75)
    """Steps: when to cut the rate, as shares of all iterations."""
    factor: float = 0.1
    """Steps: what to multiply by at each milestone."""

    def __post_init__(self) -> None:
        """Refuse values outside their meaning."""
        most = LIMITS["learning_rate"][1]
        _check(
            self,
            "schedule",
            ("learning_rate", lambda value: 0 < value <= most, f"be above 0 and at most {most:,}"),
            ("warm_up", lambda value: value >= 0, "be at least 0"),
            ("milestones", lambda values: all(0 <= value <= 1 for value in values), "lie in 0–1"),
            ("final factor decay", *_SHARE),
        )

    def rate(self, iteration: int, iterations: int) -> float:
        """Return the learning rate of `iteration` (from 0) of a run of `iterations`."""
        warm = min(1.0, (iteration + 1) / self.warm_up) if self.warm_up else 1.0
        if self.shape == "constant":
            return self.learning_rate * warm
        if self.shape == "steps":
            passed = sum(iteration >= milestone * iterations for milestone in self.milestones)
            return self.learning_rate * warm * self.factor**passed
        if self.shape == "trapezoid":
            left = (iterations - iteration) / max(1.0, self.decay * iterations)
            return self.learning_rate * warm * max(self.final, min(1.0, left))
        span = max(1, iterations - 1 - self.warm_up)
        progress = min(1.0, max(0.0, (iteration - self.warm_up) / span))
        return self.learning_rate * warm * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress)))


_FINITE = (lambda value: 0 <= value < math.inf, "be finite and at least 0")
_SHARE = (lambda value: 0 <= value <= 1, "lie in 0–1")


def _check(options: Any, section: str, *rows: tuple[str, Callable[[Any], bool], str]) -> None:
    """Refuse options that their row (names, test, what they must do) does not let pass."""
    for names, fits, duty in rows:
        for name in names.split():
            _require(fits(getattr(options, name)), f"{section}.{name} must {duty}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UsageError(message)


def as_plain(options: Any) -> Any:
    """Return a dataclass tree as JSON values (paths as text), in the order of its fields."""
    if dataclasses.is_dataclass(options) and not isinstance(options, type):
        return {field.name: as_plain(getattr(options, field.name)) for field in dataclasses.fields(options)}
    if isinstance(options, dict):
        return {str(key): as_plain(value) for key, value in options.items()}
    if isinstance(options, list | tuple):
        return [as_plain(value) for value in options]
    return options if isinstance(options, str | int | float | bool | None) else str(options)


def differences(first: Any, second: Any, prefix: str = "") -> list[str]:
    """Return `field: first value -> second value` for each leaf in which two plain trees differ."""
    if isinstance(first, dict) and isinstance(second, dict):
        keys = dict.fromkeys([*first, *second])
        return [
            line
            for key in keys
            for line in differences(first.get(key), second.get(key), f"{prefix}.{key}" if prefix else str(key))
        ]
    return [] if first == second else [f"{prefix}: {first} -> {second}"]
