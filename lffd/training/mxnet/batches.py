"""Batches on their way into MXNet executors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lffd.errors import UsageError
from lffd.training.engine import TrainingBatch


def check_maps(batch: TrainingBatch) -> None:
    """Refuse crops that leave a branch one row or column of cells, for which MXNet 1.9.1 cannot make weight gradients.

    Raises:
        UsageError: with the crop's size and what to do.
    """
    if any(min(targets["score"].shape[2:]) < 2 for targets in batch.targets):
        height, width = batch.images.shape[1:3]
        raise UsageError(
            f"a training crop of {width}x{height} px leaves a branch a single row or column of cells, which MXNet "
            "cannot train on: choose a larger --input-size"
        )


def split(batch: TrainingBatch, parts: int) -> list[slice]:
    """Return which images of a batch go to which device."""
    count = len(batch.images)
    if count % parts:
        raise UsageError(f"a batch of {count} images cannot be split evenly among {parts} devices")
    each = count // parts
    return [slice(i * each, (i + 1) * each) for i in range(parts)]


def feed(executor: Any, batch: TrainingBatch, part: slice, divisor: NDArray[np.float32]) -> None:
    """Copy a part of a batch into an executor's inputs."""
    inputs = executor.arg_dict
    inputs["image"][:] = batch.images[part]
    inputs["divisor"][:] = divisor
    for index, targets in enumerate(batch.targets):
        for name, values in targets.items():
            inputs[target_name(name, index)][:] = values[part]


def target_name(output: str, branch: int) -> str:
    """Return the training graph's input that holds a branch's target for an output."""
    return f"target_{output}_{branch}"
