"""MXNet in one place: import, devices and execution, with the traps of release 1.9.1 fenced off.

Two fences. `np.bool` must exist before MXNet imports. And on a CPU, a graph bound without gradients is rewritten by
the oneDNN subgraph fusion, which loses the ReLU of every convolution whose raw output is also a residual shortcut:
wrong scores and boxes, no error. The fusion is chosen by an environment variable that MXNet reads at every bind, so
`import_mxnet` sets it each time, also over a user's own setting; the engine below does not bind at all.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lffd.engines.base import MapEngine, gpu_number, telling
from lffd.errors import EngineError
from lffd.graphs.model import Model
from lffd.hints import pip_command

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
            f"MXNet cannot be imported ({error}). Install it with: {pip_command('mxnet')} (CPython up to 3.12; it "
            "brings NumPy 1.26). Where it cannot run, use another engine."
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
    number = gpu_number(name)
    if number is None:
        return mx.cpu()
    try:
        count = int(mx.context.num_gpus())
    except mx.base.MXNetError:  # a build or driver without CUDA
        count = 0
    if number >= count:
        found = f"sees {count} GPU(s)" if count else "sees no GPU (the wheel from PyPI is built for CPUs)"
        raise EngineError(f"device {name} cannot be used: this MXNet {found}; use --device cpu or --engine torch")
    return mx.gpu(number)


class MXNetGraph:
    """Runs any graph on one device; safe to call from one thread at a time per instance (a lock holds it).

    The graph runs as a cached operator (what a hybridised Gluon block is): one memory pool serves every input shape,
    where executors bound shape by shape would each keep their own, and the faulty fusion never touches it.
    """

    def __init__(
        self, symbol_json: str, params: Mapping[str, NDArray[Any]], device: str = "cpu", what: str = "the graph"
    ) -> None:
        mx = import_mxnet()
        self._context = parse_device(device)
        with telling(f"MXNet refuses {what}"):
            symbol = mx.sym.load_json(symbol_json)
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
        with self._lock, telling(f"MXNet cannot run an input of shape {data.shape}"):
            if self._inputs[self._slot] is None or self._inputs[self._slot].shape != data.shape:
                self._inputs[self._slot] = import_mxnet().nd.empty(data.shape, ctx=self._context)
            self._inputs[self._slot][:] = data
            # The next call writes over these outputs, so they are copied while the lock is held.
            outputs = self._operator(*self._inputs)
            return [output.asnumpy() for output in (outputs if isinstance(outputs, list) else [outputs])]


class MXNetEngine(MapEngine):
    """Runs a model through MXNet, which reads its number of threads once, when it is imported."""

    name, title = "mxnet", "MXNet"

    def __init__(self, model: Model, device: str = "cpu", threads: int | None = None, precision: str = "fp32") -> None:
        super().__init__(model, device)
        if threads is not None:
            asked = str(threads)
            if "mxnet" in sys.modules and os.environ.get("OMP_NUM_THREADS") != asked:
                raise EngineError(
                    f"MXNet reads its number of threads once per process: start again with OMP_NUM_THREADS={asked} in "
                    "the environment, or choose another engine"
                )
            os.environ["OMP_NUM_THREADS"] = asked
        self._graph = MXNetGraph(model.symbol_json, model.params, device, f"model {model.network.name}")

    def _forward(self, images: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        return self._graph.forward(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
