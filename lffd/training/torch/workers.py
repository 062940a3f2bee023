"""The processes of one run as `torchrun` starts them: who is who, and what they exchange."""

from __future__ import annotations

import atexit
import os
from datetime import timedelta

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

PATIENCE = timedelta(hours=2)
"""How long workers wait for one that validates or saves; `torchrun` stops all of them at once when one dies."""


class Workers:
    """This process among its fellows; alone when `torchrun` did not start it.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
    """

    def __init__(self) -> None:
        self.rank, self.size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        self._local_rank = int(os.environ.get("LOCAL_RANK", "0"))

    def device_name(self, asked: str) -> str:
        """Return the device of this process: with several, each on a GPU of its own."""
        return asked if self.size == 1 or asked == "cpu" else f"cuda:{self._local_rank}"

    def join(self, device: torch.device) -> None:
        """Meet the others: GPUs exchange through NCCL, hosts through Gloo."""
        if self.size > 1 and not distributed.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            distributed.init_process_group(backend, timeout=PATIENCE)
            atexit.register(distributed.destroy_process_group)  # else its threads abort the interpreter's exit

    def share(self, *tensors: Tensor) -> None:
        """Replace every worker's tensors by those of rank 0."""
        if self.size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def add(self, tensor: Tensor) -> None:
        """Replace `tensor` by its sum over all workers."""
        if self.size > 1:
            distributed.all_reduce(tensor)

    def average(self, tensor: Tensor) -> None:
        """Replace `tensor` by its mean over all workers."""
        self.add(tensor)
        if self.size > 1:
            tensor /= self.size

    def add_counts(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of `counts` over all workers; it goes from host to host, so that no device is waited for."""
        total = torch.from_numpy(counts.copy())
        self.add(total)
        return total.numpy()
