"""The data loader: batches made ahead of time (prefetched) by several threads.

Threads, not processes: decoding, resizing and colour changes release the interpreter's lock.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager

from data_iterator_farm.batch import Batch, BatchPlan
from data_iterator_farm.batch_builder import BatchBuilder, Making
from data_iterator_farm.record_order import RecordKinds, sort_records
from lffd.errors import UsageError
from lffd.records import RecordSource

PARTS_PER_THREAD = 4
"""Of a batch: fewer make the threads wait for one another at its end, more cost time to hand out."""

NAMED_BAD_RECORDS = 20


class BatchLoader(AbstractContextManager["BatchLoader"], Iterator[Batch]):
    """An iterator over batches, endless unless told otherwise, made ahead by threads.

    Batch `i` depends on the data, the plan and `i` alone, not on the number of threads nor on where the loader
    started. Use it in a `with` block: leaving it stops the threads; so does an error, or the last batch.

    Args:
        source: the records; read from many threads.
        plan: what to make.
        threads: how many make crops.
        start: index of the first batch.
        stop: index after the last one; endless when None.
        prefetch: how many batches are made ahead.
        kinds: what `sort_records` said about this source; without it, the loader reads every record once to know.

    Attributes:
        next_index: of the batch that `next` will return: the `start` that continues exactly here.
        bad_records: index to fault of the records that were skipped so far; `close` logs how many there were.

    Raises:
        DataError: at once for a record whose boxes nothing can be learnt from; from `next`, for an image that cannot
            be decoded. Both name the record.
        BatchError: from `next`, for any other failure in a thread.
        UsageError: for arguments that cannot work, and from `next` after `close`.
    """

    def __init__(
        self,
        source: RecordSource,
        plan: BatchPlan,
        *,
        threads: int,
        start: int = 0,
        stop: int | None = None,
        prefetch: int = 2,
        kinds: RecordKinds | None = None,
    ) -> None:
        if min(prefetch, threads) < 1 or start < 0:
            raise UsageError(f"prefetch {prefetch} and threads {threads} must be at least 1, start {start} at least 0")
        kinds = kinds or sort_records(source, threads, plan.skip_bad_records)
        # What is kept: the batches in the making, the user's, and the one before it.
        self._builder = BatchBuilder(source, kinds, plan, keep=prefetch + 2)
        self.plan, self.targets, self.bad_records = plan, self._builder.layout.targets, self._builder.bad_records
        self._part = max(plan.batch_size // (PARTS_PER_THREAD * threads), 1)
        self.next_index, self._stop, self._prefetch = start, stop, prefetch
        self._waiting: deque[tuple[Making, list[Future[None]]]] = deque()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="lffd-batch")
        self._closed = False

    def __next__(self) -> Batch:
        if self._closed:
            raise UsageError("the batch loader is closed; make a new one with start=loader.next_index")
        if self._stop is not None and self.next_index >= self._stop:
            self._pool.shutdown()  # the threads have nothing left to do
            raise StopIteration
        try:
            self._make_ahead()
            making, parts = self._waiting[0]
            wait(parts, return_when=FIRST_EXCEPTION)
            for part in parts:
                part.result()
        except BaseException:
            self.close()
            raise
        self._waiting.popleft()
        self.next_index += 1
        self._make_ahead()
        return making.batch

    def _make_ahead(self) -> None:
        """Keep `prefetch` batches in the making, as far as there are any."""
        while len(self._waiting) < self._prefetch:
            index = self.next_index + len(self._waiting)
            if self._stop is not None and index >= self._stop:
                return
            making = self._builder.begin(index)
            slots = range(self.plan.batch_size)
            parts = [slots[start : start + self._part] for start in slots[:: self._part]]
            made = [self._pool.submit(self._builder.make_crops, making, part) for part in parts]
            self._waiting.append((making, made))

    def close(self) -> None:
        """Stop the threads, dropping what they have not begun; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._pool.shutdown(cancel_futures=True)
        self._waiting.clear()
        bad = sorted(self.bad_records)
        if bad:
            listed = ", ".join(map(str, bad[:NAMED_BAD_RECORDS])) + (", …" if len(bad) > NAMED_BAD_RECORDS else "")
            logging.getLogger(__name__).warning("bad records skipped: %d (%s)", len(bad), listed)

    def __exit__(self, *details: object) -> None:
        self.close()
