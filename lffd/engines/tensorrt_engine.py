"""TensorRT 10 on NVIDIA GPUs. Written against its documented interface; it has not been run on a GPU yet."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lffd.engines.base import MapEngine, gpu_number, onnx_content
from lffd.errors import EngineError
from lffd.graphs.model import Model
from lffd.hints import require

TYPICAL = (1, 720, 1280)
LARGEST = (4, 2160, 3840)
"""Batch, height and width that kernels are chosen for, and the largest that memory is kept for."""


class TensorRtEngine(MapEngine):
    """Builds a TensorRT engine from the model's ONNX graph, which takes a minute, and runs it on an NVIDIA GPU."""

    name, title = "tensorrt", "TensorRT"

    def __init__(
        self, model: Model, device: str = "gpu:0", threads: int | None = None, precision: str = "fp32"
    ) -> None:
        super().__init__(model, device)
        number = gpu_number(device)
        if number is None:
            raise EngineError("engine tensorrt runs on NVIDIA GPUs only: use --device gpu:0, or another engine")
        self._trt, self._cuda = (require(name, "tensorrt") for name in ("tensorrt", "cuda.bindings.runtime"))
        self._lock = threading.Lock()
        self._call("cudaSetDevice", number)
        logger = self._trt.Logger(self._trt.Logger.ERROR)
        plan = self._build(logger, onnx_content(model, precision, ""), precision)
        self._engine = self._trt.Runtime(logger).deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineError("TensorRT built a plan that it cannot load")
        self._context = self._engine.create_execution_context()
        self._outputs = model.network.output_names

    def _build(self, logger: Any, content: bytes, precision: str) -> Any:
        """Return the serialised plan of an ONNX file's bytes."""
        builder = self._trt.Builder(logger)
        network = builder.create_network()
        parser = self._trt.OnnxParser(network, logger)
        if not parser.parse(content):
            reason = parser.get_error(0).desc() if parser.num_errors else "no reason given"
            raise EngineError(f"TensorRT refuses model {self.network.name}: {reason}")
        config = builder.create_builder_config()
        if precision == "fp16":
            config.set_flag(self._trt.BuilderFlag.FP16)
        profile = builder.create_optimization_profile()
        side = self.network.minimum_input
        profile.set_shape("data", *[(*size, 3) for size in ((1, side, side), TYPICAL, LARGEST)])
        config.add_optimization_profile(profile)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise EngineError("TensorRT could not build an engine for this GPU; its log says why")
        return plan

    def _forward(self, images: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        if any(size > limit for size, limit in zip(images.shape, LARGEST, strict=False)):
            raise EngineError(f"this TensorRT engine takes images up to {LARGEST}, not {images.shape[:3]}")
        graph, sizes = self.network.graph, self.network.map_sizes(images.shape[1], images.shape[2])
        channels = [graph.places[output].channels for output in graph.outputs]
        each = len(self.network.outputs)
        outputs = [np.empty((len(images), c, *sizes[i // each]), np.float32) for i, c in enumerate(channels)]
        arrays: list[NDArray[Any]] = [images, *outputs]
        buffers: list[int] = []
        with self._lock:
            try:
                for name, array in zip(["data", *self._outputs], arrays, strict=True):
                    buffers.append(self._call("cudaMalloc", array.nbytes))
                    self._context.set_tensor_address(name, buffers[-1])
                self._copy(buffers[0], images.ctypes.data, images.nbytes, "cudaMemcpyHostToDevice")
                self._context.set_input_shape("data", images.shape)
                if not self._context.execute_async_v3(0):
                    raise EngineError("its log says why")
                for buffer, array in zip(buffers[1:], outputs, strict=True):
                    self._copy(array.ctypes.data, buffer, array.nbytes, "cudaMemcpyDeviceToHost")
            finally:
                for buffer in buffers:
                    self._call("cudaFree", buffer)
        return outputs

    def _copy(self, target: int, source: int, size: int, direction: str) -> None:
        self._call("cudaMemcpy", target, source, size, getattr(self._cuda.cudaMemcpyKind, direction))

    def _call(self, function: str, *arguments: Any) -> Any:
        """Call a CUDA runtime function and return its value, raising where it reports an error."""
        code, *values = getattr(self._cuda, function)(*arguments)
        if int(code) != 0:
            raise EngineError(f"{function} failed with CUDA error {int(code)} on {self.device}")
        return values[0] if values else None
