"""PyTorch's devices by the names that all engines use."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import torch

from lffd.engines.base import gpu_number
from lffd.errors import EngineError


def parse_device(name: str) -> torch.device:
    """Return the device for `cpu`, `gpu:0` or `cuda:0`.

    Raises:
        EngineError: for another name, or a GPU that this PyTorch cannot use.
    """
    number = gpu_number(name)
    if number is None:
        return torch.device("cpu")
    if number >= (count := torch.cuda.device_count() if torch.cuda.is_available() else 0):
        built = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built for CPUs only"
        raise EngineError(
            f"device {name} cannot be used: PyTorch {torch.__version__} {built} and sees {count} GPU(s); "
            "use --device cpu, or install a PyTorch for your GPU and driver (https://pytorch.org/get-started)"
        )
    return torch.device("cuda", number)


def describe_device(device: torch.device) -> str:
    """Return what a device is, for logs: the GPU's name, or the number of CPU threads."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({torch.get_num_threads()} threads)"


def computes_bf16(device: torch.device) -> bool:
    """Return whether a device has instructions for bfloat16; others can compute in it, but slowly."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    facts = Path("/proc/cpuinfo")
    words = set(facts.read_text().split()) if facts.is_file() else set()
    return bool(words & {"avx512_bf16", "amx_bf16"})


def prepare_for_training(device: torch.device) -> None:
    """Set up this process for steps of one shape on `device`.

    On a GPU every convolution algorithm is tried once. On a CPU with glibc, freed memory stays with the process:
    PyTorch frees every map of every step, and to fetch them anew from the kernel, zeroed page by page, took a third of
    the time of a bf16 step.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
    elif sys.platform == "linux":
        allocator = ctypes.CDLL(None)
        if hasattr(allocator, "mallopt"):
            allocator.mallopt(_M_MMAP_MAX, 0)
            allocator.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


_M_MMAP_MAX, _M_TRIM_THRESHOLD = -4, -1
"""Parameters of glibc's `mallopt` (malloc.h): how many blocks may be mapped apart, and when the heap shrinks."""
