"""ONNX Runtime: the portable engine, on CPUs and, with `onnxruntime-gpu`, on NVIDIA GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lffd.engines.base import MapEngine, gpu_number, onnx_content, telling
from lffd.errors import EngineError
from lffd.graphs.model import Model
from lffd.hints import require

INT8_FILE = "int8.onnx"
"""File of a quantised model directory that this engine runs."""


class OnnxRuntimeEngine(MapEngine):
    """Runs the model's ONNX graph in an inference session; GPUs through CUDA."""

    name, title = "onnxruntime", "ONNX Runtime"

    def __init__(self, model: Model, device: str = "cpu", threads: int | None = None, precision: str = "fp32") -> None:
        super().__init__(model, device)
        content = onnx_content(model, precision, INT8_FILE)
        self._session = open_session(content, device, threads, f"model {model.network.name}")
        self._outputs = model.network.output_names

    def _forward(self, images: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        outputs: Sequence[NDArray[np.float32]] = self._session.run(self._outputs, {"data": images})
        return outputs


def open_session(content: bytes | str, device: str = "cpu", threads: int | None = None, what: str = "the graph") -> Any:
    """Return an inference session on an ONNX file's bytes, or on the file of that name; errors speak of `what`.

    Raises:
        EngineError: for a GPU without CUDA in this build, or a graph that ONNX Runtime refuses.
    """
    runtime = require("onnxruntime", "")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    chosen = providers(device)
    with telling(f"ONNX Runtime refuses {what}"):
        session = runtime.InferenceSession(content, options, providers=chosen)
    if gpu_number(device) is not None and "CUDAExecutionProvider" not in session.get_providers():
        raise EngineError(
            f"device {device} cannot be used: ONNX Runtime could not start CUDA there and fell back to CPU"
        )
    return session


def providers(device: str) -> list[Any]:
    """Return the execution providers for a device; the CPU serves nothing that was asked of a GPU.

    Raises:
        EngineError: when ONNX Runtime is missing, or is built without CUDA.
    """
    runtime = require("onnxruntime", "")
    number = gpu_number(device)
    if number is None:
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        raise EngineError(
            f"device {device} cannot be used: this ONNX Runtime has no CUDA. Replace it with: pip uninstall "
            "onnxruntime; pip install onnxruntime-gpu. Or use --device cpu"
        )
    return [("CUDAExecutionProvider", {"device_id": number})]
