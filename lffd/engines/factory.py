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
        build: makes one.
    """

    packages: tuple[str, ...]
    extra: str
    precisions: tuple[str, ...]
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

    return MXNetEngine(model.symbol_json, model.params, device)


ENGINES: dict[str, EngineKind] = {
    "mxnet": EngineKind(("mxnet",), "", ("fp32",), _mxnet),
}
"""Every engine by name."""

AUTO_ORDER: tuple[str, ...] = ("mxnet",)
"""What `auto` tries, fastest first."""


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
    name = _choose(precision) if engine == "auto" else engine
    kind = _kind(name)
    if precision not in kind.precisions:
        able = [other for other, entry in ENGINES.items() if precision in entry.precisions]
        raise EngineError(
            f"engine {name} computes in {', '.join(kind.precisions)}, not {precision}; "
            + (f"for {precision} choose {' or '.join(able)}" if able else f"no engine here computes in {precision}")
        )
    if not kind.installed:
        raise EngineError(f"engine {name} is not installed; install it with: {install_command(name)}")
    return kind.build(model, device, threads, precision)


def install_command(name: str) -> str:
    """Return the command that installs what engine `name` needs."""
    kind = _kind(name)
    return f"pip install 'lffd[{kind.extra}]'" if kind.extra else "pip install lffd"


def _kind(name: str) -> EngineKind:
    """Return the entry of `name`, or raise a `UsageError` that names the nearest."""
    if name in ENGINES:
        return ENGINES[name]
    near = difflib.get_close_matches(name, ENGINES, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UsageError(f"unknown engine {name!r}: {hint}Choose auto or one of {', '.join(ENGINES)}")


def _choose(precision: str) -> str:
    """Return the first engine of `AUTO_ORDER` that is installed and has the precision."""
    able = [name for name in AUTO_ORDER if precision in ENGINES[name].precisions]
    for name in able:
        if ENGINES[name].installed:
            return name
    commands = " or ".join(install_command(name) for name in able) or "nothing here can"
    raise EngineError(f"no installed engine computes in {precision}; install one with: {commands}")
