"""What engines that run a `Model` share: checks before the work, maps after it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lffd.engines import BranchMaps, check_images
from lffd.errors import EngineError
from lffd.graphs.network import Network
from lffd.model import Model


class MapEngine(ABC):
    """An engine whose backend turns images into maps; a subclass adds the backend.

    Attributes:
        name: as in the factory.
        device: as the user gave it.
    """

    name: str

    def __init__(self, network: Network, device: str) -> None:
        self.network = network
        self.device = device

    def run(self, images: NDArray[np.uint8]) -> list[BranchMaps]:
        """Run the network.

        Args:
            images: `(B, H, W, 3)` uint8, BGR.

        Returns:
            What each branch says, shallowest first; the arrays belong to the caller.

        Raises:
            UsageError: for another shape or type.
            GeometryError: when the network cannot take images of that size.
            EngineError: when the backend fails.
        """
        check_images(images)
        self.network.map_sizes(images.shape[1], images.shape[2])
        return list(self.network.by_branch(self.forward(np.ascontiguousarray(images))))

    @abstractmethod
    def forward(self, images: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        """Return the graph's outputs in order, float32 `(B, channels, h, w)`, for `images`."""


def gpu_number(device: str) -> int | None:
    """Return the number in `gpu:1` or `cuda:1` (0 when left out), or None for `cpu`.

    Raises:
        EngineError: for any other name.
    """
    if device == "cpu":
        return None
    match = re.fullmatch(r"(?:gpu|cuda)(?::(\d+))?", device)
    if match is None:
        raise EngineError(f"unknown device {device!r}: use cpu, gpu:0, gpu:1, …")
    return int(match[1] or 0)


def refuse_gpu(engine: str, device: str) -> None:
    """Raise an `EngineError` unless `device` is the CPU."""
    if gpu_number(device) is not None:
        raise EngineError(f"engine {engine} runs on the CPU only; use --device cpu, or another engine for {device}")


def quantised_file(model: Model, name: str) -> bytes:
    """Return a file that `deployment/quantize.py` put into the model directory.

    Raises:
        EngineError: when the model has none.
    """
    if name not in model.extra_files:
        raise EngineError(
            f"model {model.network.name} holds no {name}, so it cannot run in int8 here; make one with: "
            "python deployment/quantize.py --model MODEL --calibration IMAGES --output-dir DIR"
        )
    return model.extra_files[name]


def first_line(error: Exception) -> str:
    """Return the line of a backend's error that says what happened, without its stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
