"""What the training loop asks of an engine, so that the loop knows neither MXNet nor PyTorch.

An engine holds the parameters, the optimizer's state and the moving average, and makes steps. Arrays cross this border
as NumPy; names are those of the MXNet symbol, so that a run started with one engine goes on with another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lffd.errors import ModelError

STATISTICS = ("score_loss", "box_loss", "cells", "positives", "hits", "claims", "iou")
"""Columns of a step's statistics, one row per branch, each a sum over the batch.

`score_loss` and `box_loss`: unweighted, undivided sums; `cells`: cells that are not ignored (positives and background,
also those that mining leaves out); `positives`; `hits`: positives with a score above 0.5; `claims`: cells that are
not ignored with a score above 0.5; `iou`: sum over positives of the IoU of predicted and true box.
"""


class TrainingBatch(Protocol):
    """One batch as `data_iterator_farm` makes it; see `Batch` there."""

    @property
    def index(self) -> int:
        """Position in the run's endless sequence of batches."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Records in the batch."""
        ...

    @property
    def images(self) -> NDArray[np.uint8]:
        """Crops, `(B, S, S, 3)` BGR."""
        ...

    @property
    def classes(self) -> tuple[NDArray[np.int8], ...]:
        """Per branch `(B, h, w)`: 1 object, 0 background, −1 ignored."""
        ...

    @property
    def boxes(self) -> tuple[NDArray[np.float32], ...]:
        """Per branch `(B, 4, h, w)`: box code of the object cells."""
        ...


@dataclass(frozen=True)
class StepReport:
    """What one step found, on the host.

    Attributes:
        statistics: `(branches, len(STATISTICS))` float64.
        loss: the weighted, divided loss that was minimised.
        gradient_norm: global L2 norm before clipping.
    """

    statistics: NDArray[np.float64]
    loss: float
    gradient_norm: float


class PendingReport(Protocol):
    """A step that may still be running on the device."""

    def wait(self) -> StepReport:
        """Return the report once the device is there."""
        ...


class TrainingEngine(Protocol):
    """Parameters that learn.

    Attributes:
        name: of the engine.
        device: the devices' names, joined by commas.
        rank, workers: this process among those of a distributed run; 0 of 1 otherwise.
    """

    name: str
    device: str
    rank: int
    workers: int

    def step(self, batches: Sequence[TrainingBatch], learning_rate: float) -> PendingReport:
        """Make one update from the summed gradient of `batches` (more than one: gradient accumulation).

        The loss's divisors count the positives of all of them together (and of all workers), so that accumulating
        equals one larger batch; so does the report, which is summed over them. A gradient that is not finite changes
        no parameter. May return before the device is done.
        """
        ...

    def agree(self, code: int) -> int:
        """Return the largest `code` that any worker of the run passes; every worker must call it at the same step."""
        ...

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything that the next step depends on, as arrays by name.

        Names: `arg:NAME` parameters, `aux:NAME` running statistics; with EMA also `ema:arg:NAME`, `ema:aux:NAME`;
        `optimizer:momentum:NAME` for SGD, `optimizer:mean:NAME` and `optimizer:variance:NAME` for AdamW;
        `optimizer:updates` the number of updates made, int64 of shape (1,).
        """
        ...

    def load_state(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take a state that `state` returned; raises `ModelError` listing what is missing, extra or misshapen."""
        ...

    def deployable(self) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Return the parameters and running statistics to evaluate and save: the moving average where there is one."""
        ...

    def nonfinite(self) -> list[str]:
        """Return the names of parameters whose last gradient, or value, holds NaN or Inf."""
        ...


def count_positives(batches: Sequence[TrainingBatch]) -> NDArray[np.float64]:
    """Return the positive cells of each branch over all `batches`, `(branches,)`."""
    per_batch = [[np.count_nonzero(classes == 1) for classes in batch.classes] for batch in batches]
    return np.sum(per_batch, axis=0, dtype=np.float64)


def loss_divisors(positives: NDArray[np.float64], normalizer: str) -> NDArray[np.float32]:
    """Return what each branch's sums are divided by, `(branches,)`, never below 1; see `LossOptions.normalizer`."""
    counts = np.full_like(positives, positives.sum()) if normalizer == "all" else positives
    return np.maximum(counts, 1).astype(np.float32)


def check_state(expected: Mapping[str, tuple[int, ...]], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Compare a training state with the names and shapes that an engine holds.

    Raises:
        ModelError: listing what is missing, extra or misshapen.
    """
    problems = [f"missing {name}" for name in expected if name not in arrays]
    problems += [f"extra {name}" for name in arrays if name not in expected]
    problems += [
        f"{name} has shape {arrays[name].shape} instead of {shape}"
        for name, shape in expected.items()
        if name in arrays and arrays[name].shape != shape
    ]
    if problems:
        raise ModelError(f"the training state does not fit this run: {'; '.join(problems[:20])}")
