"""The data loader with worker processes instead of threads, for GPUs that are faster than one interpreter.

Per crop, a thread holds the interpreter's lock for about a millisecond, so threads end at about a thousand crops per
second on any number of cores. Processes do not share a lock; their batches come through shared memory.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from multiprocessing import connection, shared_memory

from data_iterator_farm.batch import Batch, BatchPlan, Layout
from data_iterator_farm.batch_builder import BatchBuilder, BatchError
from data_iterator_farm.record_order import RecordKinds
from data_iterator_farm.rendering import Origin
from data_iterator_farm.shared_memory import BlockPool, memory
from lffd.errors import DataError, LffdError, UsageError
from lffd.records import RecordSource

OpenSource = Callable[[], AbstractContextManager[RecordSource]]


class ProcessLoader(AbstractContextManager["ProcessLoader"], Iterator[Batch]):
    """An endless iterator over batches made by processes; the same batches as `BatchLoader`'s, bit for bit.

    Use it in a `with` block: leaving it ends the processes. A batch may be kept for any time.

    Args:
        open_source: opens the records, in each process, so it must be picklable.
        kinds: what `sort_records` said about them.
        plan: what to make.
        processes: how many make batches, each a whole one at a time.
        start: index of the first batch.

    Attributes:
        next_index: of the batch that `next` will return: the `start` that continues exactly here.

    Raises:
        DataError: from `next`, for a record that cannot be used.
        BatchError: from `next`, for any other failure, and when a process has died.
        UsageError: for arguments that cannot work, and when there is too little shared memory.
    """

    def __init__(
        self, open_source: OpenSource, kinds: RecordKinds, plan: BatchPlan, *, processes: int, start: int = 0
    ) -> None:
        if processes < 1 or start < 0:
            raise UsageError(f"processes {processes} must be at least 1, and start {start} at least 0")
        self._layout, self.next_index, self._closed = Layout(plan), start, False
        self._pool = BlockPool(self._layout.label_bytes + self._layout.image_bytes)
        self._jobs: deque[tuple[int, shared_memory.SharedMemory]] = deque()
        context = multiprocessing.get_context("spawn")
        pipes = [context.Pipe() for _ in range(processes)]
        self._pipes = [ours for ours, _ in pipes]
        self._processes = [
            context.Process(target=_serve, args=(open_source, kinds, plan, theirs), name=f"lffd-batch-{i}", daemon=True)
            for i, (_, theirs) in enumerate(pipes)
        ]
        for process, (_, theirs) in zip(self._processes, pipes, strict=True):
            process.start()
            theirs.close()

    def __next__(self) -> Batch:
        if self._closed:
            raise UsageError("the batch loader is closed; make a new one with start=loader.next_index")
        try:
            self._make_ahead()
            worker, block = self._jobs.popleft()
            origins, index = self._answer(worker), self.next_index
            self.next_index += 1
            self._make_ahead()
            return self._layout.batch(index, origins, self._pool.lend(block))
        except BaseException:
            self.close()
            raise

    def _make_ahead(self) -> None:
        """Keep every process busy, with one more batch waiting for it."""
        while len(self._jobs) < 2 * len(self._processes):
            index = self.next_index + len(self._jobs)
            worker, block = index % len(self._processes), self._pool.take()
            self._jobs.append((worker, block))
            try:
                self._pipes[worker].send((index, block.name))
            except OSError as error:
                raise self._died(worker) from error

    def _answer(self, worker: int) -> tuple[tuple[Origin, ...], ...]:
        """Return the origins of a finished batch; processes answer in the order in which they were asked."""
        pipe, process = self._pipes[worker], self._processes[worker]
        connection.wait([pipe, process.sentinel])
        try:
            answer: tuple[tuple[Origin, ...], ...] | LffdError | None = pipe.recv() if pipe.poll() else None
        except (EOFError, OSError):
            answer = None
        if isinstance(answer, tuple):
            return answer
        raise answer or self._died(worker)

    def _died(self, worker: int) -> LffdError:
        """Return why a process is gone: the fault that it told of last, or else how it ended."""
        process, pipe = self._processes[worker], self._pipes[worker]
        process.join(5)
        with suppress(EOFError, OSError):
            while pipe.poll():
                answer = pipe.recv()
                if isinstance(answer, LffdError):
                    return answer
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

    def __exit__(self, *details: object) -> None:
        self.close()


def _serve(open_source: OpenSource, kinds: RecordKinds, plan: BatchPlan, pipe: connection.Connection) -> None:
    """Make batches as they are asked for, until the other end goes away."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that trains
    cv2.setNumThreads(1)
    blocks: dict[str, shared_memory.SharedMemory] = {}
    try:
        with open_source() as source:
            builder = BatchBuilder(source, kinds, plan)
            layout = builder.layout
            while True:
                index, name = pipe.recv()
                if name not in blocks:
                    blocks[name] = shared_memory.SharedMemory(name)
                block = memory(blocks[name])
                block[: layout.label_bytes] = 0
                pipe.send(builder.build(index, layout.batch(index, (), block)).origins)
    except EOFError:
        return  # the other end is gone
    except Exception as error:  # whatever it is, it is told where the batches are wanted
        message = str(error) if isinstance(error, LffdError) else f"{type(error).__name__}: {error}"
        with suppress(OSError):
            pipe.send((DataError if isinstance(error, DataError) else BatchError)(message))
