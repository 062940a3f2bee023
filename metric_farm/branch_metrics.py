"""What training reports per branch, from the sums that each step leaves.

Definitions, over cells that are not ignored: score loss per cell; box loss per positive cell; positives per image;
recall: share of the positives with a score above 0.5; precision: share of the cells with a score above 0.5 that are
positive; IoU: mean over positives of the predicted and the true box.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lffd.training.engine import STATISTICS

METRICS = ("score_loss", "box_loss", "positives", "recall", "precision", "iou")


def summarise(statistics: NDArray[np.float64], images: int) -> list[dict[str, float | None]]:
    """Return the metrics of each branch.

    Args:
        statistics: `(branches, len(STATISTICS))`, summed over any number of steps.
        images: how many images these steps saw.

    Returns:
        One dict per branch with the keys of `METRICS`; None where there is nothing to divide by.
    """
    return [_summary(dict(zip(STATISTICS, row, strict=True)), images) for row in np.asarray(statistics, np.float64)]


def _summary(sums: dict[str, float], images: int) -> dict[str, float | None]:
    def per(name: str, divisor: float) -> float | None:
        return float(sums[name] / divisor) if divisor else None

    return {
        "score_loss": per("score_loss", sums["cells"]),
        "box_loss": per("box_loss", sums["positives"]),
        "positives": per("positives", images),
        "recall": per("hits", sums["positives"]),
        "precision": per("hits", sums["claims"]),
        "iou": per("iou", sums["positives"]),
    }


def eval_metric(branches: int) -> Any:
    """Return the metrics as an `mx.metric.EvalMetric` named `branch_B_METRIC`, for loops built on MXNet's modules.

    Its `update(labels, preds)` takes the outputs of `symbol_farm.losses.training_symbol`; sums stay on the device
    until `get` is called, so updating never stalls it.
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
            sums = np.zeros((branches, len(STATISTICS))) if self.sums is None else self.sums.asnumpy()
            rows = summarise(sums, self.images)
            names = [f"branch_{index}_{name}" for index in range(branches) for name in METRICS]
            values = [row[name] for row in rows for name in METRICS]
            return names, [float("nan") if value is None else value for value in values]

    return BranchMetrics()
