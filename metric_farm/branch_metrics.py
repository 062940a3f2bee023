"""What training reports per branch, from the sums that each step leaves.

Definitions, over cells that are not ignored: score loss per cell; box loss per positive cell; positives per image;
recall: share of the positives with a score above 0.5; precision: share of the cells with a score above 0.5 that are
positive; IoU: mean over positives of the predicted and the true box.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lffd.graphs.network import Network
from lffd.training.losses import statistic_names


class Metric(NamedTuple):
    """One figure per branch: a statistic's sum over the steps, divided by another one or the number of `images`.

    Without a title, it has no curve.
    """

    name: str
    sum: str
    divisor: str
    title: str = ""


METRICS = (
    Metric("score_loss", "score_loss", "cells", "score loss per cell"),
    Metric("box_loss", "box_loss", "positives", "box loss per positive"),
    Metric("landmarks_loss", "landmarks_loss", "positives", "landmarks loss per positive"),
    Metric("teacher_score_loss", "teacher_score_loss", "cells", "score loss against the teacher, per cell"),
    Metric("teacher_box_loss", "teacher_box_loss", "cells", "box loss against the teacher, per cell"),
    Metric("positives", "positives", "images"),
    Metric("recall", "hits", "positives", "recall at 0.5 (cells)"),
    Metric("precision", "hits", "claims"),
    Metric("iou", "iou", "positives", "mean IoU of positives"),
)
"""Everything that training reports: logs, curves and MXNet's metric follow this list."""


def summarise(statistics: Mapping[str, NDArray[np.float64]], images: int) -> list[dict[str, float | None]]:
    """Return the metrics of each branch by name; None where there is nothing to divide by.

    `statistics` of `lffd.training.losses.statistic_names` are `(branches,)`, summed over steps that saw `images`.
    """
    sums = {**statistics, "images": np.full_like(next(iter(statistics.values())), images)}
    known = [metric for metric in METRICS if metric.sum in sums]
    return [
        {m.name: float(sums[m.sum][branch] / d) if (d := sums[m.divisor][branch]) else None for m in known}
        for branch in range(len(sums["images"]))
    ]


def eval_metric(network: Network) -> Any:
    """Return the metrics as an `mx.metric.EvalMetric` named `branch_B_METRIC`, for loops built on MXNet's modules.

    Its `update(labels, preds)` takes the outputs of `lffd.training.mxnet.losses.training_symbol`; sums stay on the
    device until `get` is called, so updating never stalls it.
    """
    from lffd.engines.mxnet_engine import import_mxnet

    base: Any = import_mxnet().metric.EvalMetric

    class BranchMetrics(base):
        """Sums of the statistics output, read when asked for."""

        def __init__(self) -> None:
            super().__init__("branches", output_names=None, label_names=None)

        def reset(self) -> None:
            """Forget all steps."""
            self.sums: Any = None
            self.images = 0

        def update(self, labels: Any, preds: list[Any]) -> None:
            """Add one step: `labels` must start with the class map or image batch, for the number of images."""
            self.sums = preds[1].copy() if self.sums is None else self.sums + preds[1]
            self.images += labels[0].shape[0]

        def get(self) -> tuple[list[str], list[float]]:
            """Return names and values; NaN where there is nothing to divide by. Waits for the device."""
            columns = statistic_names(network.outputs)
            shape = (len(network.branches), len(columns))
            sums = np.zeros(shape) if self.sums is None else self.sums.asnumpy()
            rows = summarise(dict(zip(columns, sums.T, strict=True)), self.images)
            names = [f"branch_{index}_{name}" for index, row in enumerate(rows) for name in row]
            values = [value for row in rows for value in row.values()]
            return names, [float("nan") if value is None else value for value in values]

    return BranchMetrics()
