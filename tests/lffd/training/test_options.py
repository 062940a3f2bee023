"""Options outside their meaning are refused by name; their ends are allowed."""

from __future__ import annotations

import math
from typing import Any

import pytest

from lffd.errors import UsageError
from lffd.training.options import LossOptions, OptimizerOptions, ScheduleOptions

KINDS: dict[str, Any] = {"loss": LossOptions, "optimizer": OptimizerOptions, "schedule": ScheduleOptions}
BELOW = math.nextafter(0, -1)
ABOVE = math.nextafter(1, 2)


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("optimizer.momentum", (BELOW, 1.0), (0.0, 0.999)),
        ("optimizer.beta2", (BELOW, 1.0), (0.0, 0.999)),
        ("optimizer.ema", (BELOW, 1.0), (0.0, 0.999)),
        ("optimizer.epsilon", (BELOW, 0.0, math.inf), (1e-12, 1.0)),
        ("optimizer.weight_decay", (BELOW, math.inf), (0.0, 5.0)),
        ("optimizer.clip_norm", (BELOW, math.inf), (0.0, 5.0)),
        ("schedule.learning_rate", (BELOW, 0.0, math.inf), (1e-9, 5.0)),
        ("schedule.warm_up", (-1,), (0, 5)),
        ("schedule.final", (BELOW, ABOVE, math.inf), (0.0, 1.0)),
        ("schedule.factor", (BELOW, ABOVE, math.inf), (0.0, 1.0)),
        ("loss.negatives_per_positive", (BELOW, math.inf), (0.0, 5.0)),
        ("loss.negatives_without_positive", (BELOW, ABOVE), (0.0, 1.0)),
        ("loss.focal_gamma", (BELOW, math.inf), (0.0, 5.0)),
        ("loss.focal_alpha", (BELOW, ABOVE), (0.0, 1.0)),
    ],
)
def test_limits(name: str, wrong: tuple[float, ...], right: tuple[float, ...]) -> None:
    group, field = name.split(".")
    for value in (*wrong, math.nan):
        with pytest.raises(UsageError, match=rf"{name} must"):
            KINDS[group](**{field: value})
    for value in right:
        assert getattr(KINDS[group](**{field: value}), field) == value
