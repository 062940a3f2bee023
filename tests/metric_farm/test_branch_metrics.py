"""What is reported per branch, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lffd.engines.mxnet_engine import import_mxnet
from lffd.training.losses import statistic_names
from metric_farm.branch_metrics import METRICS, eval_metric, summarise
from tests.training_batches import NETWORK

ROW = {"score_loss": 6.0, "box_loss": 3.0, "cells": 100, "positives": 4, "hits": 3, "claims": 6, "iou": 2.0}
NAMES = statistic_names(("score", "box"))
SUMS = {name: np.array([ROW[name], 0.0]) for name in NAMES}
EXPECTED = {"score_loss": 0.06, "box_loss": 0.75, "positives": 2, "recall": 0.75, "precision": 0.5, "iou": 0.5}


def test_summary_by_hand() -> None:
    first, empty = summarise(SUMS, images=2)
    assert first == EXPECTED
    assert empty == {**dict.fromkeys(EXPECTED), "positives": 0}
    assert {metric.name for metric in METRICS} == {*EXPECTED, "landmarks_loss"}
    assert summarise({**SUMS, "landmarks_loss": np.array([1.0, 0.0])}, 2)[0]["landmarks_loss"] == 0.25
    assert summarise(SUMS, images=0)[0]["positives"] is None


def test_eval_metric_adds_steps_on_the_device() -> None:
    mx = import_mxnet()
    metric = eval_metric(NETWORK)
    assert all(math.isnan(value) for value in metric.get()[1])
    for _ in range(3):
        metric.update(
            [mx.nd.zeros((2, 1, 5, 5))], [mx.nd.zeros(1), mx.nd.array(np.stack([SUMS[name] for name in NAMES], axis=1))]
        )
    values = dict(metric.get_name_value())
    for name, value in EXPECTED.items():
        assert values[f"branch_0_{name}"] == pytest.approx(value)
    assert values["branch_1_positives"] == 0
    assert math.isnan(values["branch_1_recall"])
    metric.reset()
    assert math.isnan(metric.get()[1][0])
