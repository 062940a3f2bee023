"""Packing many source items with several workers, so that a killed run goes on where it stopped.

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
from typing import TypeVar

from data_provider_farm.pack_format.packed_file import PackWriter, partial_path
from data_provider_farm.prepare import Counts, Prepared
from data_provider_farm.readers.annotations import Flaw
from lffd.errors import DataError, UsageError
from lffd.files import naming
from lffd.untrusted import read_text

Item = TypeVar("Item")
Preparer = Callable[[Item], Prepared]

IN_FLIGHT = 8
"""Items given to each worker ahead of those that are written: enough to keep it busy, few enough for memory."""


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

    @property
    def journal(self) -> Path:
        """What an unfinished run leaves beside its partial file."""
        return self.output.with_name(self.output.name + ".journal")

    @property
    def first_line(self) -> str:
        """What the journal begins with."""
        return json.dumps({"job": self.fingerprint}) + "\n"

    def map(self, work: Preparer[Item], items: Iterable[Item]) -> Iterator[tuple[Item, Prepared]]:
        """Yield each item with its result, in order, made by the workers."""
        if self.workers == 1:
            yield from ((item, work(item)) for item in items)
            return
        # Fresh processes: a fork would copy whatever threads and locks the caller has.
        spawn = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(self.workers, spawn) if self.processes else ThreadPoolExecutor(self.workers)
        with pool:
            yield from ordered_map(work, items, pool, IN_FLIGHT * self.workers)


@dataclass
class Summary:
    """What a job gave.

    Attributes:
        counts: what is in the pack.
        problems, examples: kind to number of problems, and to the first one.
        items, checksum: number of the source items that were looked at, and checksum of all of them.
        resumed: records that an earlier run had packed.
    """

    counts: Counts = field(default_factory=Counts)
    problems: Counter[str] = field(default_factory=Counter)
    examples: dict[str, Flaw] = field(default_factory=dict)
    items: int = 0
    checksum: int = 0
    resumed: int = 0

    def add(self, checksum: int, counts: Counts, problems: Iterable[Flaw]) -> None:
        """Count what one item gave."""
        self.items += 1
        self.checksum = checksum
        self.counts = Counts(*map(sum, zip(self.counts, counts, strict=True)))
        for problem in problems:
            self.problems[problem.kind] += 1
            self.examples.setdefault(problem.kind, problem)


def problems_path(output: Path) -> Path:
    """Return the text file that lists every problem of a pack."""
    return output.with_suffix(".problems.txt")


def ordered_map(
    work: Preparer[Item], items: Iterable[Item], pool: Executor, in_flight: int
) -> Iterator[tuple[Item, Prepared]]:
    """Yield each item with its result, in order, with no more than `in_flight` of them in memory."""
    source = iter(items)
    waiting: deque[tuple[Item, Future[Prepared]]] = deque()
    try:
        while True:
            waiting.extend((item, pool.submit(work, item)) for item in islice(source, in_flight - len(waiting)))
            if not waiting:
                return
            item, future = waiting.popleft()
            yield item, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


def run_job(
    job: Job, items: Iterable[Item], work: Preparer[Item], identify: Callable[[Item], bytes]
) -> Iterator[Summary]:
    """Pack items; yields the summary so far after each one, and publishes the pack at the end.

    Args:
        job: what and where.
        items: the same ones in the same order on every run.
        work: turns an item into its records, in a worker.
        identify: bytes that change when the item does.

    Raises:
        UsageError: when items or options are not those of the interrupted run that this one would go on with.
        DataError: when nothing could be packed, or (with `strict`) at the first problem.
    """
    with PackWriter(job.output, overwrite=job.overwrite, resume=True) as writer:
        remaining, summary = iter(items), Summary()
        kept = _resume(job, writer, remaining, identify, summary)
        for problem in summary.examples.values() if job.strict else ():
            raise DataError(f"{problem} (--strict stops here)")
        with naming(job.journal), job.journal.open("r+" if kept else "w", buffering=1) as journal:
            journal.seek(kept)
            journal.truncate()
            if not kept:
                journal.write(job.first_line)
            yield summary
            for item, prepared in job.map(work, remaining):
                if job.strict and prepared.problems:
                    raise DataError(f"{prepared.problems[0]} (--strict stops here)")
                for data in prepared.records:
                    writer.add_encoded(data)
                summary.add(zlib.crc32(identify(item), summary.checksum), prepared.counts, prepared.problems)
                journal.write(json.dumps([summary.checksum, prepared.counts, prepared.problems]) + "\n")
                yield summary
        if summary.counts.images == 0:
            first = next(iter(summary.examples.values()), None)
            hint = "; do the names start from --images?" if first and first.kind == "missing-image" else ""
            raise DataError(f"nothing could be packed: {first or 'the annotations list no image'}{hint}")
        _list_problems(job)
    job.journal.unlink()


def _resume(
    job: Job, writer: PackWriter, items: Iterator[Item], identify: Callable[[Item], bytes], summary: Summary
) -> int:
    """Cut the partial pack to what its journal covers, skip those items, and count them in `summary`.

    Returns how many characters of the journal stay.
    """
    partial = partial_path(job.output)
    lines = read_text(job.journal).splitlines(keepends=True) if job.journal.exists() and len(writer) else []
    if lines and not lines[-1].endswith("\n"):
        lines.pop()  # cut short by the end of the earlier run
    if lines and lines[0] != job.first_line:
        raise UsageError(f"{partial} was begun with other options; run again with those to finish it, or delete it")
    kept = len(lines[0]) if lines else 0
    for line in lines[1:]:
        try:
            expected, numbers, problems = json.loads(line)
            counts, flaws = Counts(*numbers), [Flaw(*problem) for problem in problems]
        except (ValueError, TypeError) as error:
            fault = f"this journal of an unfinished pack is damaged at {line!r}; delete it"
            raise DataError(f"{job.journal}: {fault}") from error
        if counts.images + summary.counts.images > len(writer):
            break
        item = next(items, None)
        if item is None or zlib.crc32(identify(item), summary.checksum) != expected:
            raise UsageError(f"the annotations changed since {partial} was begun; delete it to start again")
        summary.add(expected, counts, flaws)
        kept += len(line)
    summary.resumed = summary.counts.images
    writer.truncate(summary.resumed)
    return kept


def _list_problems(job: Job) -> None:
    """Write the problems to a file of their own; none when there is none."""
    target = problems_path(job.output)
    target.unlink(missing_ok=True)
    # File names may hold bytes that are no text.
    with (
        job.journal.open() as journal,
        naming(target),
        target.open("w", encoding="utf-8", errors="backslashreplace") as listing,
    ):
        next(journal)
        for line in journal:
            listing.writelines(f"{where}: {kind}: {text}\n" for kind, where, text in json.loads(line)[2])
    if target.stat().st_size == 0:
        target.unlink()
