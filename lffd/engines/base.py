"""What engines that run a `Model` share: checks before the work, maps after it, one form of every failure."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from lffd.engines import BranchMaps, check_images
from lffd.errors import EngineError, LffdError
from lffd.graphs.model import Model
from lffd.graphs.onnx_graph import maps_onnx


class MapEngine(ABC):
    """An engine whose backend turns images into maps; a subclass adds the backend. Safe to call from many threads.

    Args:
        model: the network and its parameters; for int8 with the files that `deployment/quantize.py` adds.
        device: as the user gave it: `cpu`, or `gpu:0`, `cuda:0`, …
        threads: CPU threads; None for the backend's own choice.
        precision: arithmetic of the convolutions.

    Raises:
        EngineError: when the backend cannot be imported, does not know the device, cannot compute in the precision, or
            refuses the graph.
    """

    name: str
    title: str
    """The backend's name, for messages."""

    def __init__(self, model: Model, device: str = "cpu", threads: int | None = None, precision: str = "fp32") -> None:
        self.network, self.device = model.network, device

    def run(self, images: NDArray[np.uint8]) -> list[BranchMaps]:
        """Run the network.

        Args:
            images: `(B, H, W, 3)` uint8, BGR.

        Returns:
            What each branch says, shallowest first; the arrays belong to the caller.

        Raises:
            UsageError: for another shape or type.
            GeometryError: when the network cannot take images of that size.
            EngineError: when the backend fails; it names the model.
        """
        check_images(images)
        self.network.map_sizes(images.shape[1], images.shape[2])
        with telling(f"model {self.network.name}: {self.title} failed on images of shape {images.shape}"):
            return list(self.network.by_branch(self._forward(np.ascontiguousarray(images))))

    @abstractmethod
    def _forward(self, images: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        """Return the graph's outputs in order, float32 `(B, channels, h, w)`, for `images`."""


@contextmanager
def telling(what: str) -> Iterator[None]:
    """Turn whatever a backend raises within into an `EngineError` of one line that starts with `what`.

    Backends raise dozens of classes, which share nothing but `Exception`.
    """
    try:
        yield
    except EngineError as error:
        raise EngineError(f"{what}: {error}") from error
    except LffdError:
        raise
    except Exception as error:
        raise EngineError(f"{what}: {cause(error)}") from error


def cause(error: Exception) -> str:
    """Return the line of a backend's error that says what happened, without its stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    of_mxnet = [line for line in lines if "Check failed" in line or re.match(r"\w*Error: ", line)]
    return (of_mxnet[-1:] or lines[:1] or [type(error).__name__])[0]


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


def onnx_content(model: Model, precision: str, quantised: str) -> bytes:
    """Return the ONNX file that an engine runs: the model's own, or for int8 the one of the model directory.

    Raises:
        EngineError: when the model directory has no file `quantised`, which `deployment/quantize.py` puts there.
    """
    if precision != "int8":
        return bytes(maps_onnx(model, "nhwc-uint8").SerializeToString())
    if quantised not in model.extra_files:
        raise EngineError(
            f"model {model.network.name} holds no {quantised}, so it cannot run in int8 here; make one with: "
            "lffd quantize --model MODEL --calibration IMAGES --output-dir DIR"
        )
    return model.extra_files[quantised]
