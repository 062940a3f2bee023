"""OpenVINO: fp32, bf16 and int8 on Intel CPUs, where it uses the matrix units (AMX) and VNNI instructions."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lffd.engines.base import MapEngine, gpu_number, onnx_content, telling
from lffd.errors import EngineError
from lffd.graphs.model import Model
from lffd.hints import require

INT8_FILE = "int8_openvino.onnx"
"""File of a quantised model directory that this engine runs."""


KERNEL_CACHE = 200
"""Kernels kept for image sizes seen before: enough for about five sizes. OpenVINO's own limit of 5,000 lets memory grow
by 4 MB with every new size."""


class OpenVinoEngine(MapEngine):
    """Runs the model's ONNX graph as a compiled OpenVINO model; its GPUs are Intel's. One thread runs at a time."""

    name, title = "openvino", "OpenVINO"

    def __init__(self, model: Model, device: str = "cpu", threads: int | None = None, precision: str = "fp32") -> None:
        super().__init__(model, device)
        core = require("openvino", "openvino").Core()
        target = _target(core, device)
        has_bf16 = "BF16" in core.get_property(target, "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not has_bf16:
            raise EngineError(f"OpenVINO cannot compute in bf16 on {device}; use --precision fp32 or int8")
        content = onnx_content(model, precision, INT8_FILE)
        # Without the hint, fp32 would run in bf16 where the CPU has it. An int8 graph leaves few layers in floats.
        self._bf16 = precision != "fp32" and has_bf16
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "bf16" if self._bf16 else "f32", "NUM_STREAMS": 1}
        if target == "CPU":
            settings["CPU_RUNTIME_CACHE_CAPACITY"] = KERNEL_CACHE
            if threads is not None:
                settings["INFERENCE_NUM_THREADS"] = threads
        with telling(f"OpenVINO refuses model {model.network.name}"):
            compiled = core.compile_model(core.read_model(content), target, settings)
        self._request = compiled.create_infer_request()
        self._count = len(compiled.outputs)
        self._lock = threading.Lock()

    def _forward(self, images: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        with self._lock:
            if self._bf16 and len(images) > 1 and self._is_narrow(images):
                single = [self._infer(image[None]) for image in images]
                return [np.concatenate(parts) for parts in zip(*single, strict=True)]
            return self._infer(images)

    def _is_narrow(self, images: NDArray[np.uint8]) -> bool:
        """Return whether the deepest map is one column wide and higher than that.

        OpenVINO 2026.4 gives wrong maps in bf16 there for three or more images, so they run one by one.
        """
        rows, columns = self.network.map_sizes(images.shape[1], images.shape[2])[-1]
        return columns == 1 and rows > 1

    def _infer(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        self._request.infer({0: images}, share_inputs=True)
        # The next call writes over these tensors, so they are copied while the lock is held.
        return [self._request.get_output_tensor(i).data.copy() for i in range(self._count)]


def _target(core: Any, device: str) -> str:
    """Return OpenVINO's name of a device.

    Raises:
        EngineError: when OpenVINO does not see it.
    """
    number = gpu_number(device)
    if number is None:
        return "CPU"
    found = [name for name in core.available_devices if name.startswith("GPU")]
    if number >= len(found):
        seen = ", ".join(core.available_devices)
        raise EngineError(
            f"device {device} cannot be used: OpenVINO sees {seen} (its GPUs are Intel's); use --device cpu"
        )
    return str(found[number])
