"""ONNX Runtime: the portable engine, on CPUs and, with `onnxruntime-gpu`, on NVIDIA GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lffd.engines.base import MapEngine, first_line, gpu_number, quantised_file
from lffd.errors import EngineError
from lffd.graphs.onnx_graph import maps_onnx
from lffd.hints import require
from lffd.model import Model

INT8_FILE = "int8.onnx"
"""File of a quantised model directory that this engine runs."""


class OnnxRuntimeEngine(MapEngine):
    """Runs the model's ONNX graph in an inference session; safe from many threads.

    Args:
        model: the network and its parameters; for `int8` with the file that `deployment/quantize.py` adds.
        device: `cpu`, or `gpu:0`, … through CUDA.
        threads: CPU threads of one call; None for all cores.
        precision: `fp32` or `int8`.

    Raises:
        EngineError: when ONNX Runtime cannot be imported, has no CUDA, or refuses the graph.
    """

    name = "onnxruntime"

    def __init__(self, model: Model, device: str = "cpu", threads: int | None = None, precision: str = "fp32") -> None:
        super().__init__(model.network, device)
        if precision == "int8":
            content = quantised_file(model, INT8_FILE)
        else:
            content = maps_onnx(model, "nhwc-uint8").SerializeToString()
        self._session = open_session(content, device, threads)
        self._outputs = model.network.output_names

    def forward(self, images: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        """Return the maps of each branch; see `MapEngine.forward`."""
        try:
            outputs: Sequence[NDArray[np.float32]] = self._session.run(self._outputs, {"data": images})
        except Exception as error:  # ONNX Runtime raises a dozen classes that share only this one
            raise EngineError(f"ONNX Runtime failed on images of shape {images.shape}: {first_line(error)}") from error
        return outputs


def open_session(content: bytes | str, device: str = "cpu", threads: int | None = None) -> Any:
    """Return an inference session on an ONNX file's bytes, or on the file of that name.

    Raises:
        EngineError: for a GPU without CUDA in this build, or a graph that ONNX Runtime refuses.
    """
    runtime = require("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    chosen = providers(device)
    try:
        session = runtime.InferenceSession(content, options, providers=chosen)
    except Exception as error:  # as in `forward`
        raise EngineError(f"ONNX Runtime refuses the graph: {first_line(error)}") from error
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
    runtime = require("onnxruntime", "onnx")
    number = gpu_number(device)
    if number is None:
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        raise EngineError(
            f"device {device} cannot be used: this ONNX Runtime has no CUDA. Replace it with: pip uninstall "
            "onnxruntime; pip install onnxruntime-gpu. Or use --device cpu"
        )
    return [("CUDAExecutionProvider", {"device_id": number})]
