"""Memory that several processes see, for batches that one makes and another reads."""

from __future__ import annotations

import weakref
from collections import deque
from multiprocessing import shared_memory
from pathlib import Path
from shutil import disk_usage

import numpy as np
from numpy.typing import NDArray

from lffd.errors import UsageError

_MOUNT = Path("/dev/shm")


def memory(block: shared_memory.SharedMemory) -> NDArray[np.uint8]:
    """Return a block's bytes; the block cannot be closed before the array is dropped."""
    buffer: memoryview = block.buf  # type: ignore[assignment,unused-ignore]
    return np.frombuffer(buffer, np.uint8)


class _Lease:
    """What every array of a handed-out block keeps alive; its end says that the block is free."""

    def __init__(self, block: shared_memory.SharedMemory) -> None:
        self.__array_interface__ = memory(block).__array_interface__


class BlockPool:
    """Blocks of `size` bytes of shared memory; one is used again once no array in it is referred to any more."""

    def __init__(self, size: int) -> None:
        self._bytes = size
        self._blocks: list[shared_memory.SharedMemory] = []
        self._free: deque[shared_memory.SharedMemory] = deque()
        self._lent: set[str] = set()
        self._closed = False

    def take(self) -> shared_memory.SharedMemory:
        """Return a block that nobody uses; raises `UsageError` when the system's shared memory is full."""
        if self._free:
            return self._free.popleft()
        if _MOUNT.is_dir() and disk_usage(_MOUNT).free < self._bytes:
            raise UsageError(
                f"{_MOUNT} has no room for another batch of {self._bytes >> 20} MiB: make it larger (in containers "
                "--shm-size), or use fewer processes"
            )
        block = shared_memory.SharedMemory(create=True, size=self._bytes)
        self._blocks.append(block)
        return block

    def lend(self, block: shared_memory.SharedMemory) -> NDArray[np.uint8]:
        """Return the bytes of a filled block; it comes back by itself when the last array in it is dropped."""
        lease = _Lease(block)
        self._lent.add(block.name)
        weakref.finalize(lease, self._take_back, block).atexit = False
        return np.asarray(lease)

    def _take_back(self, block: shared_memory.SharedMemory) -> None:
        """Keep a block for use again, or close it after the pool."""
        self._lent.discard(block.name)
        if self._closed:
            block.close()
        else:
            self._free.append(block)

    def close(self) -> None:
        """Give the memory back to the system; blocks that are still lent go when they come back."""
        if self._closed:
            return
        self._closed = True
        for block in self._blocks:
            block.unlink()
            if block.name not in self._lent:
                block.close()
