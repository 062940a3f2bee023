"""MXNet in one place: import, devices and execution, with the traps of release 1.9.1 fenced off.

Two fences. `np.bool` must exist before MXNet imports. And on a CPU, a graph bound without gradients is rewritten by
the oneDNN subgraph fusion, which loses the ReLU of every convolution whose raw output is also a residual shortcut:
wrong scores and boxes, no error. The fusion is chosen by an environment variable that MXNet reads at every bind, so
`import_mxnet` sets it each time, also over a user's own setting; the engine below does not bind at all.
"""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lffd.engines.base import MapEngine
from lffd.errors import EngineError
from lffd.model import Model

if TYPE_CHECKING:
    import mxnet as mx

FUSION_VARIABLE = "MXNET_SUBGRAPH_BACKEND"
NO_FUSION = "default"
"""MXNet's empty backend: it fuses nothing, as NONE does, but without a line on standard error at every bind."""


def import_mxnet() -> ModuleType:
    """Return the `mxnet` module, imported on first use, with the faulty fusion switched off.

    Raises:
        EngineError: when MXNet is missing or cannot load, with the reason and the cure.
    """
    vars(np).setdefault("bool", np.bool_)  # MXNet 1.9.1 names it; NumPy removed it in 1.24
    forbid_fusion()
    try:
        import mxnet
    except ImportError as error:
        raise EngineError(
            f"MXNet cannot be imported ({error}). Install it with: pip install mxnet==1.9.1 numpy==1.26.4 "
            "(CPython 3.10–3.12; 3.12 also needs setuptools). Where it cannot run, use another engine."
        ) from error
    except OSError as error:
        raise EngineError(
            f"MXNet is installed but its library cannot load ({error}). It needs the system's OpenMP library: "
            "on Debian and Ubuntu, apt-get install libgomp1."
        ) from error
    return mxnet


def forbid_fusion() -> None:
    """Switch the oneDNN subgraph fusion off for the next bind, warning once where the environment asks for it."""
    asked = os.environ.get(FUSION_VARIABLE)
    if asked not in (None, "", "NONE", NO_FUSION):
        warnings.warn(
            f"{FUSION_VARIABLE}={asked} is ignored: that fusion drops ReLUs of residual networks and gives wrong "
            "scores and boxes",
            RuntimeWarning,
            stacklevel=2,
        )
    os.environ[FUSION_VARIABLE] = NO_FUSION
    os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")


def parse_device(name: str) -> mx.Context:
    """Return the MXNet context for `cpu`, `gpu:0` or `cuda:0`.

    Raises:
        EngineError: for another name, or a GPU that this MXNet cannot use.
    """
    mx = import_mxnet()
    if name == "cpu":
        return mx.cpu()
    match = re.fullmatch(r"(?:gpu|cuda)(?::(\d+))?", name)
    if match is None:
        raise EngineError(f"unknown device {name!r}: use cpu, gpu:0, gpu:1, …")
    number, count = int(match[1] or 0), _gpu_count(mx)
    if number >= count:
        found = f"sees {count} GPU(s)" if count else "sees no GPU (the wheel from PyPI is built for CPUs)"
        raise EngineError(f"device {name} cannot be used: this MXNet {found}; use --device cpu or --engine torch")
    return mx.gpu(number)


def _gpu_count(mx: ModuleType) -> int:
    """Return the number of GPUs that MXNet sees; a build or driver without CUDA counts as none."""
    try:
        return int(mx.context.num_gpus())
    except mx.base.MXNetError:
        return 0


class MXNetGraph:
    """Runs any graph on one device; safe to call from one thread at a time per instance (a lock holds it).

    The graph runs as a cached operator (what a hybridised Gluon block is): one memory pool serves every input shape,
    where executors bound shape by shape would each keep their own, and the faulty fusion never touches it.
    """

    def __init__(self, symbol_json: str, params: Mapping[str, NDArray[Any]], device: str = "cpu") -> None:
        mx = import_mxnet()
        self._context = parse_device(device)
        try:
            symbol = mx.sym.load_json(symbol_json)
        except mx.base.MXNetError as error:
            raise EngineError(f"MXNet refuses the graph: {_first_line(error)}") from error
        names = symbol.list_inputs()
        self._slot = names.index("data")
        self._inputs: list[Any] = [
            None if name == "data" else mx.nd.array(params[name], ctx=self._context, dtype=np.float32) for name in names
        ]
        others = [position for position in range(len(names)) if position != self._slot]
        flags = [("static_alloc", True), ("data_indices", [self._slot]), ("param_indices", others)]
        self._operator = mx.nd.CachedOp(symbol, flags)
        self._lock = threading.Lock()

    def forward(self, data: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Return the graph's raw outputs for `data` `(B, 3, H, W)`, BGR, 0–255."""
        mx = import_mxnet()
        with self._lock:
            try:
                if self._inputs[self._slot] is None or self._inputs[self._slot].shape != data.shape:
                    self._inputs[self._slot] = mx.nd.empty(data.shape, ctx=self._context)
                self._inputs[self._slot][:] = data
                # The next call writes over these outputs, so they are copied while the lock is held.
                outputs = self._operator(*self._inputs)
                return [output.asnumpy() for output in (outputs if isinstance(outputs, list) else [outputs])]
            except mx.base.MXNetError as error:
                raise EngineError(f"MXNet cannot run an input of shape {data.shape}: {_first_line(error)}") from error


class MXNetEngine(MapEngine):
    """Runs a model through MXNet; safe from many threads."""

    name = "mxnet"

    def __init__(self, model: Model, device: str = "cpu") -> None:
        super().__init__(model.network, device)
        self._graph = MXNetGraph(model.symbol_json, model.params, device)

    def forward(self, images: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        """Return the maps of each branch; see `MapEngine.forward`."""
        return self._graph.forward(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def _first_line(error: Exception) -> str:
    """Return the line of an MXNet error that says what happened, without its C++ stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Error" in line or "Check failed" in line]
    return (telling or lines or ["unknown error"])[-1]
