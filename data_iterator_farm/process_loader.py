"""The data loader with worker processes instead of threads, for GPUs that are faster than one interpreter.

Per crop, a thread holds the interpreter's lock for about a millisecond, so threads end at about a thousand crops per
second on any number of cores. Processes do not share a lock; their batches come through shared memory.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from multiprocessing import connection, shared_memory
from types import TracebackType
from typing import Any

from data_iterator_farm.batch import Batch, target_shapes
from data_iterator_farm.batch_builder import BatchBuilder, BatchError
from data_iterator_farm.policies import Policies
from data_iterator_farm.record_order import RecordKinds
from data_iterator_farm.shared_memory import BlockPool, Field, batch_of, empty_batch, layout
from lffd.errors import DataError, LffdError, UsageError
from lffd.graphs.network import Network
from lffd.records import RecordSource


@dataclass(frozen=True)
class BatchWork:
    """What a process must know to make any batch of a run.

    Attributes:
        open_source: opens the records; it is called in the process, so it must be picklable.
        kinds: what `sort_records` said about them.
        network, policies, settings: arguments of `BatchBuilder`.
    """

    open_source: Callable[[], AbstractContextManager[RecordSource]]
    kinds: RecordKinds
    network: Network
    policies: Policies
    settings: dict[str, Any]


@dataclass(frozen=True)
class _Job:
    index: int
    worker: int
    block: shared_memory.SharedMemory


@dataclass(frozen=True)
class _Fault:
    message: str
    of_data: bool

    def error(self) -> LffdError:
        """Return it as the error that it was in the process."""
        return (DataError if self.of_data else BatchError)(self.message)


class ProcessLoader:
    """An endless iterator over batches made by processes; the same batches as `BatchLoader`'s, bit for bit.

    Use it in a `with` block: leaving it ends the processes. A batch may be kept for any time.

    Args:
        work: what to make.
        processes: how many make batches, each a whole one at a time.
        start: index of the first batch.

    Raises:
        DataError: from `next`, for a record that cannot be used.
        BatchError: from `next`, for any other failure, and when a process has died.
        UsageError: for arguments that cannot work, and when there is too little shared memory.
    """

    def __init__(self, work: BatchWork, *, processes: int, start: int = 0) -> None:
        if processes < 1 or start < 0:
            raise UsageError(f"processes {processes} must be at least 1, and start {start} at least 0")
        size = int(work.settings["input_size"])
        self._targets = target_shapes(work.network, size)
        fields = layout(int(work.settings["batch_size"]), size, self._targets)
        self._pool, self._next, self._closed = BlockPool(fields), start, False
        self._jobs: deque[_Job] = deque()
        context = multiprocessing.get_context("spawn")
        pipes = [context.Pipe() for _ in range(processes)]
        self._pipes = [ours for ours, _ in pipes]
        self._processes = [
            context.Process(target=_serve, args=(work, fields, theirs), name=f"lffd-batch-{i}", daemon=True)
            for i, (_, theirs) in enumerate(pipes)
        ]
        for process, (_, theirs) in zip(self._processes, pipes, strict=True):
            process.start()
            theirs.close()

    @property
    def next_index(self) -> int:
        """Index of the batch that `next` will return: the `start` that continues exactly here."""
        return self._next

    def __iter__(self) -> ProcessLoader:
        return self

    def __next__(self) -> Batch:
        if self._closed:
            raise UsageError("the batch loader is closed; make a new one with start=loader.next_index")
        try:
            self._make_ahead()
            job = self._jobs.popleft()
            names = self._answer(job)
            self._next += 1
            self._make_ahead()
            return batch_of(job.index, names, self._pool.lend(job.block), self._targets)
        except BaseException:
            self.close()
            raise

    def _make_ahead(self) -> None:
        """Keep every process busy, with one more batch waiting for it."""
        while len(self._jobs) < 2 * len(self._processes):
            index = self._next + len(self._jobs)
            job = _Job(index, index % len(self._processes), self._pool.take())
            self._jobs.append(job)
            try:
                self._pipes[job.worker].send((index, job.block.name))
            except OSError as error:
                raise self._died(job.worker) from error

    def _answer(self, job: _Job) -> tuple[str, ...]:
        """Return the names of a finished batch; processes answer in the order in which they were asked."""
        pipe, process = self._pipes[job.worker], self._processes[job.worker]
        connection.wait([pipe, process.sentinel])
        try:
            answer = pipe.recv() if pipe.poll() else None
        except (EOFError, OSError):
            answer = None
        if isinstance(answer, _Fault):
            raise answer.error()
        if answer is None:
            raise self._died(job.worker)
        names: tuple[str, ...] = answer
        return names

    def _died(self, worker: int) -> LffdError:
        """Return why a process is gone: the fault that it told of last, or else how it ended."""
        process, pipe = self._processes[worker], self._pipes[worker]
        process.join(5)
        with suppress(EOFError, OSError):
            while pipe.poll():
                answer = pipe.recv()
                if isinstance(answer, _Fault):
                    return answer.error()
        return BatchError(
            f"batch process {worker} ended with code {process.exitcode} (−9: killed, for want of memory perhaps); "
            "use fewer processes, or see what it wrote above"
        )

    def close(self) -> None:
        """End the processes and give their memory back; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            process.terminate()
            process.join()
            pipe.close()
        self._jobs.clear()
        self._pool.close()

    def __enter__(self) -> ProcessLoader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _serve(work: BatchWork, fields: list[Field], pipe: connection.Connection) -> None:
    """Make batches as they are asked for, until the other end goes away."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that trains
    cv2.setNumThreads(1)
    blocks: dict[str, shared_memory.SharedMemory] = {}
    try:
        with work.open_source() as source:
            builder = BatchBuilder(source, work.kinds, work.network, work.policies, **work.settings)
            while True:
                index, name = pipe.recv()
                if name not in blocks:
                    blocks[name] = shared_memory.SharedMemory(name)
                memory = empty_batch(index, blocks[name], fields, builder.labels.targets)
                pipe.send(builder.build(index, memory).names)
    except EOFError:
        return  # the other end is gone
    except LffdError as error:
        _tell(pipe, str(error), isinstance(error, DataError))
    except Exception as error:  # whatever it is, it is told where the batches are wanted
        _tell(pipe, f"{type(error).__name__}: {error}", of_data=False)


def _tell(pipe: connection.Connection, message: str, of_data: bool) -> None:
    """Send a fault, if anyone still listens."""
    with suppress(OSError):
        pipe.send(_Fault(message, of_data))
