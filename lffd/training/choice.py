"""Which engine trains, and in which precision, when the user leaves it open."""

from __future__ import annotations

import importlib.util
from typing import Literal, NamedTuple

from lffd.engines.factory import install_command
from lffd.errors import EngineError, UsageError

TrainingEngineName = Literal["auto", "mxnet", "torch"]
TrainingPrecision = Literal["auto", "fp32", "bf16"]


class Choice(NamedTuple):
    """What trains: the name of an engine, and `fp32` or `bf16`."""

    engine: str
    precision: str


def choose_training_engine(
    engine: TrainingEngineName, device: str, precision: TrainingPrecision, parameter_server: bool = False
) -> Choice:
    """Return the engine and precision to train with.

    The engine `auto` is PyTorch where it is installed, because it was the faster one in every measurement
    (docs/performance.md), and MXNet otherwise, or where the workers meet at its `parameter_server`. The precision
    `auto` is bf16 where PyTorch trains on a device that has instructions for it, and fp32 otherwise.

    Raises:
        UsageError: for a combination that no engine offers.
        EngineError: when the engine is not installed, with the install command, or PyTorch cannot use the device.
    """
    name = engine
    if engine == "auto":
        name = "torch" if _installed("torch") and not parameter_server else "mxnet"
    if engine == "auto" and not _installed(name) and not parameter_server:
        ways = f"{install_command('torch')}, or on CPython up to 3.12 {install_command('mxnet')}"
        raise EngineError(f"no engine that trains is installed; install one with: {ways}")
    if not _installed(name):
        raise EngineError(f"engine {name} is not installed; install it with: {install_command(name)}")
    if parameter_server and name != "mxnet":
        raise UsageError(f"--kvstore is MXNet's; with --engine {name} start several processes with torchrun")
    if name == "mxnet":
        if precision == "bf16":
            raise UsageError(f"precision bf16 needs --engine torch ({install_command('torch')})")
        return Choice(name, "fp32")
    if "," in device:
        raise UsageError(
            f"--engine torch takes one device per process, not {device}; start the config script with: "
            f"torchrun --nproc-per-node {device.count(',') + 1} SCRIPT --device cuda:0 …"
        )
    from lffd.engines.torch_devices import computes_bf16, parse_device

    fitting = "bf16" if computes_bf16(parse_device(device)) else "fp32"
    return Choice(name, fitting if precision == "auto" else precision)


def _installed(engine: str) -> bool:
    return importlib.util.find_spec(engine) is not None
