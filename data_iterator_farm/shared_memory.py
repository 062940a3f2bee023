"""Memory that several processes see, for batches that one makes and another reads."""

from __future__ import annotations

import math
import os
import weakref
from collections import deque
from collections.abc import Sequence
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_iterator_farm.batch import Batch, TargetShapes
from lffd.errors import UsageError

_ALIGN = 64
_MOUNT = Path("/dev/shm")


class Field(NamedTuple):
    """Place of one array of a batch in a block of memory."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    start: int

    @property
    def end(self) -> int:
        """Byte after the last one."""
        return self.start + math.prod(self.shape) * self.dtype.itemsize


def layout(batch_size: int, size: int, targets: TargetShapes) -> list[Field]:
    """Return the places of a batch's images, then of its targets branch by branch, and of its numbers of faces."""
    arrays: list[tuple[tuple[int, ...], Any]] = [((batch_size, size, size, 3), np.uint8)]
    arrays += [((batch_size, *shape), kind) for said in targets for shape, kind in said.values()]
    arrays.append(((batch_size,), np.int32))
    fields, end = [], 0
    for shape, dtype in arrays:
        fields.append(Field(shape, np.dtype(dtype), -(-end // _ALIGN) * _ALIGN))
        end = fields[-1].end
    return fields


def arrays_of(batch: Batch) -> list[NDArray[Any]]:
    """Return the arrays of a batch in the order of `layout`."""
    return [batch.images, *(values for said in batch.targets for values in said.values()), batch.faces]


def batch_of(index: int, names: tuple[str, ...], arrays: Sequence[NDArray[Any]], targets: TargetShapes) -> Batch:
    """Return the batch with these arrays, which come in the order of `layout`."""
    values = iter(arrays[1:-1])
    said = tuple({name: next(values) for name in branch} for branch in targets)
    return Batch(index, names, arrays[0], said, arrays[-1])


class _Lease:
    """What every array of a handed-out block keeps alive; its end says that the block is free."""

    def __init__(self, block: shared_memory.SharedMemory) -> None:
        self.__array_interface__ = _memory(block).__array_interface__


class BlockPool:
    """Blocks of shared memory of one layout. A block is used again once no array in it is referred to any more.

    Args:
        fields: the layout.
    """

    def __init__(self, fields: Sequence[Field]) -> None:
        self._fields, self._bytes = list(fields), fields[-1].end
        self._blocks: list[shared_memory.SharedMemory] = []
        self._free: deque[shared_memory.SharedMemory] = deque()
        self._lent: set[str] = set()
        self._closed = False

    def take(self) -> shared_memory.SharedMemory:
        """Return a block that nobody uses.

        Raises:
            UsageError: when the system's shared memory is full.
        """
        if self._free:
            return self._free.popleft()
        if _MOUNT.is_dir() and _room(_MOUNT) < self._bytes:
            raise UsageError(
                f"{_MOUNT} has no room for another batch of {self._bytes >> 20} MiB: make it larger (in containers "
                "--shm-size), or use fewer processes"
            )
        block = shared_memory.SharedMemory(create=True, size=self._bytes)
        self._blocks.append(block)
        return block

    def lend(self, block: shared_memory.SharedMemory) -> list[NDArray[Any]]:
        """Return the arrays of a filled block; it comes back by itself when the last of them is dropped."""
        lease = _Lease(block)
        self._lent.add(block.name)
        weakref.finalize(lease, self._take_back, block).atexit = False
        return views(np.asarray(lease), self._fields)

    def _take_back(self, block: shared_memory.SharedMemory) -> None:
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


def views(memory: NDArray[np.uint8], fields: Sequence[Field]) -> list[NDArray[Any]]:
    """Return the arrays of a block of bytes."""
    return [memory[field.start : field.end].view(field.dtype).reshape(field.shape) for field in fields]


def empty_batch(index: int, block: shared_memory.SharedMemory, fields: Sequence[Field], targets: TargetShapes) -> Batch:
    """Return a batch in a block: labels all background, images of undefined content."""
    images, *others = views(_memory(block), fields)
    for array in others:
        array.fill(0)
    return batch_of(index, (), [images, *others], targets)


def _room(mount: Path) -> int:
    """Return the bytes that are free in a file system."""
    found = os.statvfs(mount)
    return found.f_bavail * found.f_frsize


def _memory(block: shared_memory.SharedMemory) -> NDArray[np.uint8]:
    """Return a block's bytes; the block cannot be closed before the array is dropped."""
    memory: memoryview = block.buf  # type: ignore[assignment,unused-ignore]
    return np.frombuffer(memory, np.uint8)
