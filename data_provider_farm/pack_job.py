"""Packing many source items with several threads, so that a killed run goes on where it stopped.

Beside the unfinished `NAME.rec.partial` lies `NAME.rec.journal`: one JSON line that describes the job, then one per
source item with a running checksum of the items so far, what it gave, and its problems. On the next run with the same
options the whole records of the partial file are kept, the journal is cut to them, and the items it covers are skipped.
The journal ends with the job; problems end up in `NAME.problems.txt`.
"""

from __future__ import annotations

import json
import multiprocessing
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, TypeVar

from data_provider_farm.pack_format.packed_file import PackWriter, partial_path
from data_provider_farm.prepare import Counts, Prepared
from data_provider_farm.readers.annotations import Problem
from lffd.errors import DataError, UsageError

Item = TypeVar("Item")
Work = Callable[[list[Item]], list[Prepared]]

FLUSH_ITEMS = 32
"""The journal goes to the system in batches of so many lines: a killed job repeats no more items."""

CHUNK = 16
"""Items worked on at once: enough to share the cost of handing over and of NumPy calls, few enough for memory."""


@dataclass(frozen=True)
class Job:
    """What to pack, and where.

    Attributes:
        output: the `.rec` file.
        fingerprint: text that is the same when, and only when, the options that shape the records are.
        overwrite: replace an existing pack.
        strict: stop at the first problem.
        workers: threads or processes that prepare records; with 1 the caller's own thread does it.
        processes: use processes, for work that holds the interpreter lock.
    """

    output: Path
    fingerprint: str
    overwrite: bool = False
    strict: bool = False
    workers: int = 1
    processes: bool = False

    def map(self, work: Work[Item], items: Iterable[Item]) -> Iterator[tuple[Item, Prepared]]:
        """Yield each item with its result, in order, made by the workers."""
        if self.workers == 1:
            for chunk in chunks(iter(items)):
                yield from zip(chunk, work(chunk), strict=True)
            return
        # Fresh processes: a fork would copy whatever threads and locks the caller has.
        spawn = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(self.workers, spawn) if self.processes else ThreadPoolExecutor(self.workers)
        with pool:
            yield from ordered_map(work, items, pool, 2 * self.workers)


@dataclass
class Summary:
    """What a job gave.

    Attributes:
        items: source items that were looked at.
        counts: what is in the pack.
        problems: kind to number of problems.
        examples: kind to the first problem of it.
        resumed: records that an earlier run had packed.
    """

    items: int = 0
    counts: Counts = field(default_factory=Counts)
    problems: Counter[str] = field(default_factory=Counter)
    examples: dict[str, Problem] = field(default_factory=dict)
    resumed: int = 0

    def add(self, counts: Counts, problems: Iterable[Problem]) -> None:
        """Count what one item gave."""
        self.items += 1
        self.counts = self.counts.plus(counts)
        for problem in problems:
            self.problems[problem.kind] += 1
            self.examples.setdefault(problem.kind, problem)


def problems_path(output: Path) -> Path:
    """Return the text file that lists every problem of a pack."""
    return output.with_suffix(".problems.txt")


def chunks(items: Iterator[Item]) -> Iterator[list[Item]]:
    """Yield the items in lists of `CHUNK`."""
    while chunk := list(islice(items, CHUNK)):
        yield chunk


def ordered_map(
    work: Work[Item], items: Iterable[Item], pool: Executor, in_flight: int
) -> Iterator[tuple[Item, Prepared]]:
    """Yield each item with its result, in order, with no more than `in_flight` chunks of items in memory."""
    source = chunks(iter(items))
    waiting: deque[tuple[list[Item], Future[list[Prepared]]]] = deque()
    try:
        while True:
            for chunk in islice(source, in_flight - len(waiting)):
                waiting.append((chunk, pool.submit(work, chunk)))
            if not waiting:
                return
            done, future = waiting.popleft()
            yield from zip(done, future.result(), strict=True)
    finally:
        for _, future in waiting:
            future.cancel()


class _Journal:
    """The journal of one job, open for appending after `restore`."""

    def __init__(self, job: Job) -> None:
        self.path = job.output.with_name(job.output.name + ".journal")
        self._header = json.dumps({"job": job.fingerprint}) + "\n"
        self._unfinished = partial_path(job.output)
        self._stream: IO[str] | None = None
        self._waiting = 0
        self.checksums: list[int] = []

    def restore(self, writer: PackWriter) -> Summary:
        """Cut pack and journal to what both hold, and return what that is.

        Raises:
            UsageError: when the unfinished pack was begun with other options.
        """
        summary, whole = Summary(), len(self._header)
        lines = self.path.read_text().splitlines(keepends=True) if self.path.exists() and len(writer) else []
        if lines and not lines[-1].endswith("\n"):
            lines.pop()  # cut short by the end of the earlier run
        if lines and lines[0] != self._header:
            raise UsageError(
                f"{self._unfinished} was begun with other options; run again with those to finish it, or delete it"
            )
        for line in lines[1:]:
            checksum, counts, problems = _parse_entry(line)
            if counts.images + summary.counts.images > len(writer):
                break
            self.checksums.append(checksum)
            summary.add(counts, problems)
            whole += len(line)
        summary.resumed = summary.counts.images
        writer.truncate(summary.resumed)
        self._stream = self.path.open("r+" if lines else "w+")
        if not lines:
            self._stream.write(self._header)
        self._stream.seek(whole)
        self._stream.truncate()
        self._stream.flush()
        return summary

    def add(self, checksum: int, prepared: Prepared) -> None:
        """Append one item's line."""
        assert self._stream is not None
        problems = [[problem.kind, problem.where, problem.text] for problem in prepared.problems]
        shown = json.dumps(problems) if problems else "[]"
        self._stream.write(f"[{checksum}, {list(prepared.counts)}, {shown}]\n")
        self._waiting += 1
        if self._waiting == FLUSH_ITEMS:
            self._stream.flush()
            self._waiting = 0

    def close(self) -> None:
        """Close the file; it stays for the next run."""
        if self._stream is not None:
            self._stream.close()

    def finish(self, target: Path) -> None:
        """Move the problems into `target` (deleted when there is none) and delete the journal."""
        self.close()
        target.unlink(missing_ok=True)
        # File names may hold bytes that are no text.
        with self.path.open() as journal, target.open("w", encoding="utf-8", errors="backslashreplace") as listing:
            next(journal)
            for line in journal:
                for kind, where, text in json.loads(line)[2]:
                    listing.write(f"{where}: {kind}: {text}\n")
        if target.stat().st_size == 0:
            target.unlink()
        self.path.unlink()


def _parse_entry(line: str) -> tuple[int, Counts, list[Problem]]:
    """Return the checksum, the counts and the problems on one line of the journal."""
    try:
        checksum, counts, problems = json.loads(line)
        return int(checksum), Counts(*counts), [Problem(*problem) for problem in problems]
    except (ValueError, TypeError) as error:
        raise DataError(
            f"the journal of an unfinished pack is damaged at {line!r}; delete it to start again"
        ) from error


def run_job(job: Job, items: Iterable[Item], work: Work[Item], identify: Callable[[Item], bytes]) -> Iterator[Summary]:
    """Pack items; yields the summary so far after each one, and publishes the pack at the end.

    Args:
        job: what and where.
        items: the source items, the same ones in the same order on every run.
        work: turns a list of items into one result each, in a worker.
        identify: bytes that change when the item does.

    Raises:
        UsageError: when items or options are not those of the interrupted run that this one would go on with.
        DataError: when nothing could be packed, or (with `strict`) at the first problem.
    """
    journal = _Journal(job)
    try:
        with PackWriter(job.output, overwrite=job.overwrite, resume=True) as writer:
            summary = journal.restore(writer)
            remaining = iter(items)
            checksum = _skip_packed(remaining, journal.checksums, identify, job)
            for problem in summary.examples.values() if job.strict else ():
                raise DataError(f"{problem} (--strict stops here)")
            yield summary
            for item, prepared in job.map(work, remaining):
                if job.strict and prepared.problems:
                    raise DataError(f"{prepared.problems[0]} (--strict stops here)")
                for data in prepared.records:
                    writer.add_encoded(data)
                checksum = zlib.crc32(identify(item), checksum)
                journal.add(checksum, prepared)
                summary.add(prepared.counts, prepared.problems)
                yield summary
            if summary.counts.images == 0:
                first = next(iter(summary.examples.values()), None)
                hint = "; do the names start from --images?" if first and first.kind == "missing-image" else ""
                raise DataError(f"nothing could be packed: {first or 'the annotations list no image'}{hint}")
        journal.finish(problems_path(job.output))
    finally:
        journal.close()


def _skip_packed(items: Iterator[Item], checksums: list[int], identify: Callable[[Item], bytes], job: Job) -> int:
    """Skip the items that an earlier run packed, and return the checksum of them all."""
    checksum = 0
    for expected in checksums:
        item = next(items, None)
        checksum = 0 if item is None else zlib.crc32(identify(item), checksum)
        if item is None or checksum != expected:
            raise UsageError(
                f"the annotations changed since {partial_path(job.output)} was begun; delete it to start again"
            )
    return checksum
