"""ncnn: a small engine for phones and boards, which also runs on desktop CPUs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lffd.engines.base import MapEngine, gpu_number
from lffd.errors import EngineError
from lffd.graphs.model import Model
from lffd.graphs.ncnn_graph import ncnn_files
from lffd.hints import require


class NcnnEngine(MapEngine):
    """Runs the model through ncnn on the CPU, image after image.

    Its `bf16` stores maps and weights in bf16 and computes in float32.
    """

    name, title = "ncnn", "ncnn"

    def __init__(self, model: Model, device: str = "cpu", threads: int | None = None, precision: str = "fp32") -> None:
        super().__init__(model, device)
        if gpu_number(device) is not None:
            raise EngineError(f"engine ncnn runs on the CPU only; use --device cpu, or another engine for {device}")
        self._ncnn = require("ncnn", "ncnn")
        files = ncnn_files(model)
        self._outputs = files.outputs
        self._net = self._ncnn.Net()
        options = self._net.opt
        options.use_vulkan_compute = False
        if threads is not None:
            options.num_threads = threads
        # By default ncnn stores maps in half precision where the CPU can convert it.
        for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"):
            setattr(options, name, False)
        for name in ("use_bf16_packed", "use_bf16_storage"):
            if hasattr(options, name):
                setattr(options, name, precision == "bf16")
        self._load(files.param, files.weights)

    def _load(self, param: str, weights: bytes) -> None:
        # The binding's loader from memory keeps pointers into a buffer that Python frees; files are copied.
        with tempfile.TemporaryDirectory(prefix="lffd-ncnn-") as folder:
            text, binary = Path(folder, "model.param"), Path(folder, "model.bin")
            text.write_text(param)
            binary.write_bytes(weights)
            if self._net.load_param(str(text)) != 0 or self._net.load_model(str(binary)) != 0:
                refused = f"ncnn refuses model {self.network.name}"
                raise EngineError(f"{refused}; a newer ncnn may read it: pip install --upgrade ncnn")

    def _forward(self, images: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        return [np.stack(parts) for parts in zip(*map(self._forward_one, images), strict=True)]

    def _forward_one(self, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Return the maps `(channels, h, w)` of one image `(H, W, 3)`."""
        height, width = image.shape[:2]
        kind = self._ncnn.Mat.PixelType.PIXEL_BGR
        extractor = self._net.create_extractor()
        extractor.input("data", self._ncnn.Mat.from_pixels(image, kind, width, height))
        found = []
        for name in self._outputs:
            code, output = extractor.extract(name)
            if code != 0:
                raise EngineError(f"no {name} (code {code}); is memory short?")
            found.append(np.array(output, np.float32))
        return found
