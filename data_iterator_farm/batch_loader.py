"""The data loader: batches made ahead of time (prefetched) by several threads.

Threads, not processes: decoding, resizing and colour changes release the interpreter's lock.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from types import TracebackType

from data_iterator_farm.batch import Batch
from data_iterator_farm.batch_builder import BatchBuilder, Making
from data_iterator_farm.policies import Policies
from data_iterator_farm.record_order import RecordKinds, sort_records
from lffd.errors import UsageError
from lffd.graphs.network import Network
from lffd.records import RecordSource

PARTS_PER_THREAD = 4
"""Of a batch: fewer make the threads wait for one another at its end, more cost time to hand out."""

NAMED_BAD_RECORDS = 20


class BatchLoader:
    """An iterator over batches, endless unless told otherwise, made ahead by threads.

    Batch `i` depends on the data, the policies, the seed and `i` alone, not on the number of threads nor on where
    the loader started. Use it in a `with` block: leaving it stops the threads; so does an error, or the last batch.

    Args:
        source: the records; read from many threads.
        network: whose branches are labelled and whose ranges the sampling follows.
        policies: how crops are made and labelled; `policies.preset` gives them by name.
        batch_size: crops per batch (of this worker).
        input_size: side of the square crops in pixels.
        seed: of every random choice.
        threads: how many make crops.
        start: index of the first batch.
        stop: index after the last one; endless when None.
        rank, size: this worker's number and how many there are. Together, the workers' batches `i` are exactly the
            batch `i` of one worker with `size` times the batch size.
        skip_bad_records: replace a record that cannot be used by another one; each is logged once, `bad_records`
            collects them, and `close` logs how many there were.
        prefetch: how many batches are made ahead.
        kinds: what `sort_records` said about this source; without it, the loader reads every record once to know.

    Raises:
        DataError: at once for a record whose boxes nothing can be learnt from; from `next`, for an image that cannot
            be decoded. Both name the record.
        BatchError: from `next`, for any other failure in a thread.
        UsageError: for arguments that cannot work, and from `next` after `close`.
    """

    def __init__(
        self,
        source: RecordSource,
        network: Network,
        policies: Policies,
        *,
        batch_size: int,
        input_size: int,
        seed: int,
        threads: int,
        start: int = 0,
        stop: int | None = None,
        rank: int = 0,
        size: int = 1,
        skip_bad_records: bool = False,
        prefetch: int = 2,
        kinds: RecordKinds | None = None,
    ) -> None:
        if min(prefetch, threads) < 1 or start < 0:
            raise UsageError(f"prefetch {prefetch} and threads {threads} must be at least 1, start {start} at least 0")
        self._builder = BatchBuilder(
            source,
            kinds or sort_records(source, threads, skip_bad_records),
            network,
            policies,
            batch_size=batch_size,
            input_size=input_size,
            seed=seed,
            rank=rank,
            size=size,
            skip_bad_records=skip_bad_records,
            keep=prefetch + 2,  # those in the making, the user's, and the one before it
        )
        self.batch_size, self.input_size, self.targets = batch_size, input_size, self._builder.labels.targets
        self._part = max(batch_size // (PARTS_PER_THREAD * threads), 1)
        self._next, self._stop, self._prefetch = start, stop, prefetch
        self._waiting: deque[tuple[Making, list[Future[None]]]] = deque()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="lffd-batch")
        self._closed = False

    @property
    def next_index(self) -> int:
        """Index of the batch that `next` will return: the `start` that continues exactly here."""
        return self._next

    @property
    def bad_records(self) -> dict[int, str]:
        """Index to fault of the records that were skipped so far."""
        return dict(self._builder.bad_records)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._closed:
            raise UsageError("the batch loader is closed; make a new one with start=loader.next_index")
        if self._stop is not None and self._next >= self._stop:
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
        self._next += 1
        self._make_ahead()
        return making.finished()

    def _make_ahead(self) -> None:
        """Keep `prefetch` batches in the making, as far as there are any."""
        while len(self._waiting) < self._prefetch:
            index = self._next + len(self._waiting)
            if self._stop is not None and index >= self._stop:
                return
            making = self._builder.begin(index)
            slots = range(self.batch_size)
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
        bad = sorted(self._builder.bad_records)
        if bad:
            more = ", …" if len(bad) > NAMED_BAD_RECORDS else ""
            listed = ", ".join(map(str, bad[:NAMED_BAD_RECORDS])) + more
            logging.getLogger(__name__).warning("bad records skipped: %d (%s)", len(bad), listed)

    def __enter__(self) -> BatchLoader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
