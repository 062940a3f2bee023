"""What a user says about running a network: engine, device, threads, precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from lffd.errors import UsageError
from lffd.limits import check_limits

Precision = Literal["fp32", "fp16", "bf16", "int8"]
"""Arithmetic of the convolutions; inputs and outputs stay uint8 and float32."""


@dataclass(frozen=True)
class Runtime:
    """How to run a network. Every command that runs one takes these as options.

    Raises:
        UsageError: for a precision that does not exist, or a number of threads that makes no sense.
    """

    engine: str = "auto"
    """What runs one of our networks; peers always run on ONNX Runtime."""
    device: str = "cpu"
    """cpu, gpu:0, gpu:1, ..."""
    threads: int | None = None
    """CPU threads; the engine's own choice by default."""
    precision: str = "fp32"
    """Arithmetic of one of our networks."""

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise UsageError(f"unknown precision {self.precision!r}: choose one of {', '.join(get_args(Precision))}")
        check_limits(self, "threads")
