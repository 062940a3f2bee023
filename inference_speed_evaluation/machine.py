"""What the machine is, and the fastest matrix product that it was seen to do."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

from lffd.engines.base import gpu_number
from lffd.errors import EngineError

_PACKAGES = ("mxnet", "onnxruntime", "openvino", "ncnn", "tensorrt", "torch", "numpy")
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "neon", "asimd")
_MATRIX_SIDE = 1536


def describe_machine(device: str) -> dict[str, Any]:
    """Return facts about this machine and the installed engines, and about the card where `device` is a GPU.

    Raises:
        EngineError: when a GPU is asked for and `nvidia-smi` knows none of that number.
    """
    facts: dict[str, Any] = {
        "cpu": _cpu_field("model name") or platform.processor() or "unknown",
        "cores": os.cpu_count(),
        "instructions": [flag for flag in _FLAGS if flag in _cpu_field("flags").split()],
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := package_version(name))},
    }
    if (number := gpu_number(device)) is not None:
        facts["card"] = describe_card(number)
    return facts


def _cpu_field(name: str) -> str:
    """Return a field of the first processor in Linux's list; empty on other systems."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    found = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in found if key.strip() == name), "")


def package_version(package: str) -> str | None:
    """Return the version of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def describe_card(number: int) -> dict[str, str]:
    """Return name, memory and driver of an NVIDIA GPU, as `nvidia-smi` gives them, or raise an `EngineError`."""
    program = shutil.which("nvidia-smi")
    if program is None:
        raise EngineError(f"device gpu:{number}: there is no nvidia-smi here, so no NVIDIA driver; use --device cpu")
    fields = ("name", "memory.total", "driver_version", "clocks.max.sm", "power.limit")
    command = [program, f"--id={number}", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    values = [value.strip() for value in done.stdout.strip().split(",")]
    if done.returncode != 0 or len(values) != len(fields):
        reason = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise EngineError(f"device gpu:{number}: nvidia-smi says: {reason}")
    return dict(zip(fields, values, strict=True))


def matrix_peak(seconds: float = 1.0) -> float:
    """Return the best rate in GFLOP/s of float32 matrix products with this process's number of BLAS threads."""
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((_MATRIX_SIDE, _MATRIX_SIDE), np.float32) for _ in range(2))
    result = left @ right
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or not np.isfinite(best):
        start = time.perf_counter()
        np.matmul(left, right, out=result)
        best = min(best, time.perf_counter() - start)
    return 2 * _MATRIX_SIDE**3 / best / 1e9
