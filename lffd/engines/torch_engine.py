"""PyTorch as an inference engine: the deploy graph in channels-last order, in float32 or bfloat16."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lffd.engines.base import MapEngine
from lffd.engines.torch_devices import parse_device
from lffd.engines.torch_module import GraphModule, last_convolutions
from lffd.graphs.model import Model

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""What the convolutions compute in; the last one of each output and the softmax work in float32 always."""


class TorchEngine(MapEngine):
    """Runs the deploy graph on a CPU or GPU, one thread at a time; `threads` are those of the whole process.

    Images are already channels-last as they come, so that they reach the first convolution without a transposition.
    """

    name, title = "torch", "PyTorch"

    def __init__(self, model: Model, device: str = "cpu", threads: int | None = None, precision: str = "fp32") -> None:
        super().__init__(model, device)
        if threads is not None:
            torch.set_num_threads(threads)
        self._place, self._dtype = parse_device(device), DTYPES[precision]
        graph = model.graph
        exact = {graph.nodes[source].name for node in last_convolutions(graph) for source in node.inputs[1:]}
        params = {
            name: self._place_parameter(value, torch.float32 if name in exact else self._dtype)
            for name, value in model.params.items()
        }
        self._module = GraphModule(graph, params).eval().requires_grad_(False)
        self._lock = threading.Lock()

    def _place_parameter(self, value: NDArray[np.float32], dtype: torch.dtype) -> torch.Tensor:
        tensor = torch.tensor(value).to(self._place, dtype)
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

    def _forward(self, images: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        with self._lock, torch.inference_mode():
            data = torch.from_numpy(images).to(self._place).permute(0, 3, 1, 2).to(self._dtype)
            return [output.cpu().numpy() for output in self._module(data)]
