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
from lffd.params import misfits


class TrainingBatch(Protocol):
    """One batch as `data_iterator_farm` makes it; see `Batch` there."""

    @property
    def index(self) -> int:
        """Position in the run's endless sequence of batches."""

    @property
    def names(self) -> tuple[str, ...]:
        """Records in the batch."""

    @property
    def images(self) -> NDArray[np.uint8]:
        """Crops, `(B, S, S, 3)` BGR."""

    @property
    def targets(self) -> Sequence[Mapping[str, NDArray[Any]]]:
        """What each branch is taught, by output name.

        `score` int8 `(B, A, h, w)`: 1 object, 0 background, −1 ignored, −2 ignored but taught its box; `box` float32
        `(B, 4A, h, w)`: box code of the objects; and so on for further outputs.
        """


@dataclass(frozen=True)
class StepReport:
    """What one step found, on the host.

    Attributes:
        statistics: name, see `losses.statistic_names`, to float64 `(branches,)`.
        loss: the weighted, divided loss that was minimised.
        gradient_norm: global L2 norm before clipping.
    """

    statistics: Mapping[str, NDArray[np.float64]]
    loss: float
    gradient_norm: float


def unpack_report(values: NDArray[np.float64], names: Sequence[str]) -> StepReport:
    """Return the report in a row of numbers: the statistics branch by branch, the loss, the gradient's norm."""
    statistics = dict(zip(names, values[:-2].reshape(-1, len(names)).T, strict=True))
    return StepReport(statistics, float(values[-2]), float(values[-1]))


class PendingReport(Protocol):
    """A step that may still be running on the device."""

    def wait(self) -> StepReport:
        """Return the report once the device is there."""


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

    def agree(self, code: int) -> int:
        """Return the largest `code` that any worker of the run passes; every worker must call it at the same step."""

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything that the next step depends on, as arrays by name.

        Names: `arg:NAME` parameters, `aux:NAME` running statistics; with EMA also `ema:arg:NAME`, `ema:aux:NAME`;
        `optimizer:momentum:NAME` for SGD, `optimizer:mean:NAME` and `optimizer:variance:NAME` for AdamW;
        `optimizer:updates` the number of updates made, int64 of shape (1,).
        """

    def load_state(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take a state that `state` returned; raises `ModelError` listing what is missing, extra or misshapen."""

    def deployable(self) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Return the parameters and running statistics to evaluate and save: the moving average where there is one."""

    def nonfinite(self) -> list[str]:
        """Return the names of parameters whose last gradient, or value, holds NaN or Inf."""


def count_positives(batches: Sequence[TrainingBatch]) -> NDArray[np.float64]:
    """Return the positive predictions of each branch over all `batches`, `(branches,)`."""
    per_batch = [[np.count_nonzero(targets["score"] == 1) for targets in batch.targets] for batch in batches]
    return np.sum(per_batch, axis=0, dtype=np.float64)


def loss_divisors(
    positives: NDArray[np.float64], normalizer: str, batches: Sequence[TrainingBatch], workers: int = 1
) -> NDArray[np.float32]:
    """Return what each term's sum of each branch is divided by, `(terms, branches)`; see `LossOptions.normalizer`.

    `branch` and `all` divide every term by positives, never by less than 1. `published` is what the published code
    amounts to (its custom operators, and MXNet's optimizer, which multiplies every gradient by 1 / batch): the score
    term is divided by B · kept, where B is the effective batch and `kept` the predictions that mining keeps of a
    branch in a step (the graph divides by that itself); any other term by B · C · h · w, with the target's C channels
    and h × w cells. So at the published rate of 0.1 a cell moves a score by 0.1 / (B · kept) and a box by
    0.1 / (B · 4 h w), where division by positives alone would make steps some thousands of times larger.

    Args:
        positives: `(branches,)` over the whole effective batch.
        normalizer: which rule.
        batches: those of this worker's step.
        workers: how many make one step together.
    """
    outputs = list(batches[0].targets[0])
    if normalizer != "published":
        counts = np.full_like(positives, positives.sum()) if normalizer == "all" else positives
        return np.tile(np.maximum(counts, 1), (len(outputs), 1)).astype(np.float32)
    steps = len(batches) * workers
    images = steps * len(batches[0].images)
    sizes = [[steps if name == "score" else t[name][0].size for t in batches[0].targets] for name in outputs]
    return images * np.array(sizes, np.float32)


def check_state(expected: Mapping[str, tuple[int, ...]], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Compare a training state with the names and shapes that an engine holds; a `ModelError` lists what differs."""
    if problems := misfits(expected, arrays):
        raise ModelError(f"the training state does not fit this run: {'; '.join(problems[:20])}")
