"""The one way to get an engine: by name, checked before anything heavy is imported."""

from __future__ import annotations

import difflib
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from lffd.engines import Engine
from lffd.errors import EngineError, UsageError
from lffd.model import Model

Precision = Literal["fp32", "fp16", "bf16", "int8"]
"""Arithmetic of the convolutions; inputs and outputs stay uint8 and float32."""

Builder = Callable[[Model, str, int | None, str], Engine]
"""`(model, device, threads, precision) -> Engine`."""


@dataclass(frozen=True)
class EngineKind:
    """What the factory knows of an engine before it is imported.

    Attributes:
        packages: importable modules that it needs.
        extra: the project's extra that installs them; empty where the project itself does.
        precisions: what it can compute in.
        devices: kinds of device that it can run on.
        build: makes one.
    """

    packages: tuple[str, ...]
    extra: str
    precisions: tuple[str, ...]
    devices: tuple[Literal["cpu", "gpu"], ...]
    build: Builder

    @property
    def installed(self) -> bool:
        """Whether every package it needs can be imported, without importing it."""
        return all(importlib.util.find_spec(package) is not None for package in self.packages)


def _mxnet(model: Model, device: str, threads: int | None, precision: str) -> Engine:
    """Build the MXNet engine; MXNet reads its number of threads once, when it is imported."""
    if threads is not None:
        asked = str(threads)
        if "mxnet" in sys.modules and os.environ.get("OMP_NUM_THREADS") != asked:
            raise EngineError(
                f"MXNet reads its number of threads once per process: start again with OMP_NUM_THREADS={asked} in the "
                "environment, or choose another engine"
            )
        os.environ["OMP_NUM_THREADS"] = asked
    from lffd.engines.mxnet_engine import MXNetEngine

    return MXNetEngine(model, device)


def _onnxruntime(model: Model, device: str, threads: int | None, precision: str) -> Engine:
    from lffd.engines.onnxruntime_engine import OnnxRuntimeEngine

    return OnnxRuntimeEngine(model, device, threads, precision)


def _openvino(model: Model, device: str, threads: int | None, precision: str) -> Engine:
    from lffd.engines.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(model, device, threads, precision)


def _ncnn(model: Model, device: str, threads: int | None, precision: str) -> Engine:
    from lffd.engines.ncnn_engine import NcnnEngine

    return NcnnEngine(model, device, threads, precision)


def _tensorrt(model: Model, device: str, threads: int | None, precision: str) -> Engine:
    from lffd.engines.tensorrt_engine import TensorRtEngine

    return TensorRtEngine(model, device, precision)


def _torch(model: Model, device: str, threads: int | None, precision: str) -> Engine:
    from lffd.engines.torch_engine import TorchEngine

    return TorchEngine(model, device, threads, precision)


ENGINES: dict[str, EngineKind] = {
    "mxnet": EngineKind(("mxnet",), "", ("fp32",), ("cpu", "gpu"), _mxnet),
    "onnxruntime": EngineKind(("onnxruntime", "onnx"), "onnx", ("fp32", "int8"), ("cpu", "gpu"), _onnxruntime),
    "openvino": EngineKind(("openvino", "onnx"), "openvino", ("fp32", "bf16", "int8"), ("cpu", "gpu"), _openvino),
    "ncnn": EngineKind(("ncnn",), "ncnn", ("fp32", "bf16"), ("cpu",), _ncnn),
    "tensorrt": EngineKind(("tensorrt", "cuda", "onnx"), "tensorrt", ("fp32", "fp16"), ("gpu",), _tensorrt),
    "torch": EngineKind(("torch",), "torch", ("fp32", "bf16"), ("cpu", "gpu"), _torch),
}
"""Every engine by name."""

AUTO_ORDER: dict[str, tuple[str, ...]] = {
    "fp32": ("onnxruntime", "openvino", "mxnet", "ncnn", "tensorrt", "torch"),
    "fp16": ("tensorrt",),
    "bf16": ("openvino", "ncnn", "torch"),
    "int8": ("openvino", "onnxruntime"),
}
"""What `auto` tries, by precision. Fastest first, as `inference_speed_eval.py` measured v2 at 320×240, 640×480 and
1280×720 with one and two threads on an AVX-512 CPU with AMX. On CPUs without it, ncnn's Winograd convolutions can be
faster than ONNX Runtime: measure, and name the engine."""


def create_engine(
    model: Model, engine: str = "auto", device: str = "cpu", threads: int | None = None, precision: str = "fp32"
) -> Engine:
    """Return an engine that runs `model`.

    Args:
        model: the network and its parameters.
        engine: a name from `ENGINES`, or `auto`: the fastest installed one that has the precision.
        device: `cpu`, `gpu:0`, …
        threads: of the CPU; None leaves the engine's own choice.
        precision: one of `Precision`.

    Raises:
        UsageError: for an unknown engine (with the nearest name) or precision, or a number of threads below 1.
        EngineError: when the engine is not installed (with the install command), or cannot do what is asked.
    """
    if precision not in get_args(Precision):
        raise UsageError(f"unknown precision {precision!r}: choose one of {', '.join(get_args(Precision))}")
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be at least 1, not {threads}")
    if engine == "auto":
        return _first_working(model, device, threads, precision)
    kind = installed_kind(engine)
    if precision not in kind.precisions:
        raise EngineError(
            f"engine {engine} computes in {', '.join(kind.precisions)}, not {precision}; for {precision} choose "
            f"{' or '.join(AUTO_ORDER[precision])}"
        )
    return kind.build(model, device, threads, precision)


def installed_kind(name: str) -> EngineKind:
    """Return what the factory knows of the engine `name`.

    Raises:
        UsageError: for an unknown engine, with the nearest name.
        EngineError: when it is not installed, with the install command.
    """
    kind = _kind(name)
    if not kind.installed:
        raise EngineError(f"engine {name} is not installed; install it with: {install_command(name)}")
    return kind


def install_command(name: str) -> str:
    """Return the command, to be run in the project's folder, that installs what engine `name` needs."""
    kind = _kind(name)
    return f"pip install -e '.[{kind.extra}]'" if kind.extra else "pip install -e ."


def _kind(name: str) -> EngineKind:
    """Return the entry of `name`, or raise a `UsageError` that names the nearest."""
    if name in ENGINES:
        return ENGINES[name]
    near = difflib.get_close_matches(name, ENGINES, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UsageError(f"unknown engine {name!r}: {hint}Choose auto or one of {', '.join(ENGINES)}")


def _first_working(model: Model, device: str, threads: int | None, precision: str) -> Engine:
    """Return the first engine of `AUTO_ORDER` that is installed and can run the model on the device.

    Raises:
        EngineError: when none can, with each one's reason.
    """
    sort = "cpu" if device == "cpu" else "gpu"
    reasons = []
    for name in AUTO_ORDER[precision]:
        kind = ENGINES[name]
        if sort not in kind.devices:
            continue
        if not kind.installed:
            reasons.append(f"{name} is not installed ({install_command(name)})")
            continue
        try:
            return kind.build(model, device, threads, precision)
        except EngineError as error:
            reasons.append(f"{name}: {error}")
    raise EngineError(f"no engine can run {precision} on {device}: {'; '.join(reasons) or 'none knows how'}")
