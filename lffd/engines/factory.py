"""The one way to get an engine: by name, checked before anything heavy is imported."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from lffd import hints
from lffd.engines import Engine
from lffd.engines.base import cause, gpu_number
from lffd.engines.runtime import Runtime
from lffd.errors import EngineError, LffdError, UsageError
from lffd.graphs.model import Model

Builder = Callable[[Model, Runtime], Engine]


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
    devices: tuple[str, ...]
    build: Builder

    @property
    def installed(self) -> bool:
        """Whether every package it needs can be imported, without importing it."""
        return all(importlib.util.find_spec(package) is not None for package in self.packages)


def _from(module: str, name: str) -> Builder:
    """Return the builder of an engine class, which takes model, device, threads and precision."""

    def build(model: Model, runtime: Runtime) -> Engine:
        made = getattr(importlib.import_module(f"lffd.engines.{module}_engine"), name)
        try:
            engine: Engine = made(model, runtime.device, runtime.threads, runtime.precision)
        except LffdError:
            raise
        except Exception as error:  # backends raise dozens of classes
            raise EngineError(f"engine {module} cannot take model {model.network.name}: {cause(error)}") from error
        return engine

    return build


_CPU, _GPU, _ANY = ("cpu",), ("gpu",), ("cpu", "gpu")

ENGINES: dict[str, EngineKind] = {
    "mxnet": EngineKind(("mxnet",), "mxnet", ("fp32",), _ANY, _from("mxnet", "MXNetEngine")),
    "onnxruntime": EngineKind(
        ("onnxruntime", "onnx"), "", ("fp32", "int8"), _ANY, _from("onnxruntime", "OnnxRuntimeEngine")
    ),
    "openvino": EngineKind(
        ("openvino", "onnx"), "openvino", ("fp32", "bf16", "int8"), _ANY, _from("openvino", "OpenVinoEngine")
    ),
    "ncnn": EngineKind(("ncnn",), "ncnn", ("fp32", "bf16"), _CPU, _from("ncnn", "NcnnEngine")),
    "tensorrt": EngineKind(
        ("tensorrt", "cuda", "onnx"), "tensorrt", ("fp32", "fp16"), _GPU, _from("tensorrt", "TensorRtEngine")
    ),
    "torch": EngineKind(("torch",), "torch", ("fp32", "bf16"), _ANY, _from("torch", "TorchEngine")),
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


def create_engine(model: Model, runtime: Runtime | None = None) -> Engine:
    """Return an engine that runs `model`; `auto`, the default, is the fastest installed one that has the precision.

    Raises:
        UsageError: for an unknown engine, with the nearest name.
        EngineError: when the engine is not installed (with the install command), or cannot do what is asked.
    """
    runtime = runtime or Runtime()
    if runtime.engine == "auto":
        return _first_working(model, runtime)
    kind, precision = installed_kind(runtime.engine), runtime.precision
    if precision not in kind.precisions:
        raise EngineError(
            f"engine {runtime.engine} computes in {', '.join(kind.precisions)}, not {precision}; for {precision} "
            f"choose {' or '.join(AUTO_ORDER[precision])}"
        )
    return kind.build(model, runtime)


def installed_kind(name: str) -> EngineKind:
    """Return what the factory knows of the engine `name`.

    Raises:
        UsageError: for an unknown engine, with the nearest name.
        EngineError: when it is not installed, with the install command.
    """
    command = install_command(name)
    if not ENGINES[name].installed:
        raise EngineError(f"engine {name} is not installed; install it with: {command}")
    return ENGINES[name]


def install_command(name: str) -> str:
    """Return the command that installs what engine `name` needs; a `UsageError` for an unknown name."""
    if name not in ENGINES:
        choices = f"Choose auto or one of {', '.join(ENGINES)}"
        raise UsageError(hints.unknown(name, ENGINES, "engine", choices))
    return hints.pip_command(ENGINES[name].extra)


def _first_working(model: Model, runtime: Runtime) -> Engine:
    """Return the first engine of `AUTO_ORDER` that is installed and can run the model on the device.

    Raises:
        EngineError: when none can, with each one's reason.
    """
    sort = "cpu" if gpu_number(runtime.device) is None else "gpu"
    reasons = []
    for name in AUTO_ORDER[runtime.precision]:
        kind = ENGINES[name]
        if sort not in kind.devices:
            continue
        if not kind.installed:
            reasons.append(f"{name} is not installed ({install_command(name)})")
            continue
        try:
            return kind.build(model, runtime)
        except EngineError as error:
            reasons.append(f"{name}: {error}")
    raise EngineError(
        f"no engine can run {runtime.precision} on {runtime.device}: {'; '.join(reasons) or 'none knows how'}"
    )
