"""How far the numbers of a command line may go: beyond, a machine would hang, run out of memory or of sense."""

from __future__ import annotations

import math
from typing import Any

from lffd.errors import UsageError

LIMITS: dict[str, tuple[float, float]] = {
    "threads": (1, 1024),
    "processes": (0, 256),
    "batch_size": (1, 16_384),
    "input_size": (1, 16_384),
    "iterations": (1, 2**24 - 1),  # workers compare them in single precision
    "accumulate": (1, 10_000),
    "cache_gib": (0, 2**20),
    "seed": (0, 2**32 - 1),
    **dict.fromkeys(("rounds", "steps", "batches", "repeats", "images"), (1, 10**6)),
    "workers": (1, 1024),
    "servers": (1, 1024),
    "local_workers": (0, 1024),
    "port": (1, 65_535),
    "log_every": (1, 2**63),
    **dict.fromkeys(("checkpoint_every", "validate_every", "val_images", "val_pictures", "patience"), (0, 2**63)),
    "learning_rate": (0, 1000),
    "weight_decay": (0, 1000),
}
"""Name of an option to the least and the most that it may be, both included."""

BATCH_BYTES = 8 << 30
"""Pixels of one batch; labels and what the network computes come on top."""


def check_limits(options: Any, *names: str) -> None:
    """Refuse options of a command beyond their limits.

    Args:
        options: an object with attributes of these names; values that are None or empty are left alone, of several
            every one is looked at.
        names: keys of `LIMITS`.

    Raises:
        UsageError: naming the option, its value and its limits.
    """
    for name in names:
        low, high = LIMITS[name]
        value = getattr(options, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and not low <= number <= high:
                most = f" and at most {high:,}" if number > high or math.isnan(number) else ""
                raise UsageError(f"{name} must be at least {low}{most}, not {number}")


def check_batch_memory(batch_size: int, input_size: int) -> None:
    """Refuse batches of crops that no machine of today holds.

    Raises:
        UsageError: with what they would take.
    """
    needed = 3 * batch_size * input_size**2
    if needed > BATCH_BYTES:
        raise UsageError(
            f"batches of {batch_size} crops of {input_size} px take {needed / 2**30:,.0f} GiB as pixels alone, more "
            f"than {BATCH_BYTES >> 30} GiB: lower --batch-size or --input-size"
        )
