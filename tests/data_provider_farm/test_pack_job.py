"""The packing job: order, bounded memory, journal, resuming after any kind of end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from data_provider_farm.pack_format.packed_file import PackReader, partial_path
from data_provider_farm.pack_job import Job, Summary, ordered_map, problems_path, run_job
from data_provider_farm.prepare import Counts, Prepared
from data_provider_farm.readers.annotations import Flaw
from lffd.errors import DataError, UsageError
from lffd.records import Record
from tests.data_provider_farm.samples import record


def work(item: int) -> Prepared:
    """Odd items give one record, multiples of four none and a problem, the rest two records."""
    return Prepared(*make(item))


def make(item: int) -> tuple[list[Record], list[Flaw]]:
    if item % 4 == 0:
        return [], [Flaw("missing-image", f"list:{item}", f"no {item}")]
    parts = range(1 + (item % 2 == 0))
    return [record([(1, 1, 5, 5)], [part == 1], name=f"{item}-{part}") for part in parts], []


def slow_work(item: int) -> Prepared:
    time.sleep(0.01 * (item % 3))
    return work(item)


def identify(item: int) -> bytes:
    return b"%d" % item


def run(job: Job, items: list[int], stop_after: int | None = None) -> Summary:
    """Run a job to its end, or stop it after so many items."""
    states = run_job(job, items, work, identify)
    if stop_after is None:
        return list(states)[-1]
    summary = list(islice(states, stop_after + 1))[-1]
    states.close()  # type: ignore[attr-defined]
    return summary


def names(path: Path) -> list[str]:
    with PackReader(path) as reader:
        return [each.name for each in reader]


EXPECTED = [f"{item}-{part}" for item in range(30) if item % 4 for part in range(1 + (item % 2 == 0))]


@pytest.mark.parametrize("workers", [1, 4])
def test_records_come_in_the_order_of_the_items(tmp_path: Path, workers: int) -> None:
    job = Job(tmp_path / "x.rec", "options", workers=workers)
    summary = list(run_job(job, range(30), slow_work, identify))[-1]
    assert names(job.output) == EXPECTED
    assert summary.counts == Counts(len(EXPECTED), len(EXPECTED), 7, 0)
    assert summary.items == 30
    assert summary.problems == {"missing-image": 8}
    assert str(summary.examples["missing-image"]) == "list:0: no 0"
    lines = problems_path(job.output).read_text().splitlines()
    assert lines == [f"list:{item}: missing-image: no {item}" for item in range(0, 30, 4)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.idx", "x.problems.txt", "x.rec"]


def test_processes_give_the_same_pack(tmp_path: Path) -> None:
    job = Job(tmp_path / "x.rec", "options", workers=2, processes=True)
    list(run_job(job, range(30), work, identify))
    assert names(job.output) == EXPECTED


@pytest.mark.parametrize("stop_after", [0, 1, 7, 29])
def test_a_stopped_job_goes_on(tmp_path: Path, stop_after: int) -> None:
    whole = Job(tmp_path / "whole.rec", "options")
    expected = run(whole, list(range(30)))
    job = Job(tmp_path / "x.rec", "options")
    run(job, list(range(30)), stop_after)
    assert not job.output.exists()
    summary = run(job, list(range(30)))
    assert job.output.read_bytes() == whole.output.read_bytes()
    assert (summary.counts, summary.problems, summary.items) == (expected.counts, expected.problems, expected.items)
    assert problems_path(job.output).read_text() == problems_path(whole.output).read_text()
    if stop_after > 1:
        assert summary.resumed > 0


def test_any_cut_of_partial_file_and_journal_is_survived(tmp_path: Path) -> None:
    """A crash of the machine may keep different amounts of the two files."""
    whole = Job(tmp_path / "whole.rec", "options")
    run(whole, list(range(30)))
    job = Job(tmp_path / "x.rec", "options")
    run(job, list(range(30)), 20)
    partial, journal = partial_path(job.output), tmp_path / "x.rec.journal"
    data, lines = partial.read_bytes(), journal.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(25):
        partial.write_bytes(data[: rng.integers(len(data) + 1)])
        journal.write_bytes(lines[: rng.integers(len(lines) + 1)])
        run(job, list(range(30)))
        assert job.output.read_bytes() == whole.output.read_bytes()
        assert problems_path(job.output).read_text() == problems_path(whole.output).read_text()
        job.output.unlink()


def test_an_unfinished_pack_of_other_options_or_items_is_not_continued(tmp_path: Path) -> None:
    job = Job(tmp_path / "x.rec", "options")
    run(job, list(range(30)), 20)
    with pytest.raises(UsageError, match="begun with other options"):
        run(Job(tmp_path / "x.rec", "others"), list(range(30)))
    with pytest.raises(UsageError, match="annotations changed"):
        run(job, list(range(1, 31)))
    with pytest.raises(UsageError, match="annotations changed"):
        run(job, list(range(3)))
    run(job, list(range(30)))
    assert names(tmp_path / "x.rec") == EXPECTED


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    job = Job(tmp_path / "x.rec", "options")
    run(job, list(range(30)), 20)
    journal = tmp_path / "x.rec.journal"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join([*lines[:3], "{}\n", *lines[3:]]))
    with pytest.raises(DataError, match="journal of an unfinished pack is damaged"):
        run(job, list(range(30)))


def test_strict_stops_at_the_first_problem_and_keeps_the_work(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"list:4: no 4 \(--strict stops here\)"):
        run(Job(tmp_path / "x.rec", "options", strict=True), list(range(1, 30)))
    assert not (tmp_path / "x.rec").exists()
    summary = run(Job(tmp_path / "x.rec", "options"), list(range(1, 30)))
    assert summary.resumed == 4
    assert names(tmp_path / "x.rec") == EXPECTED


def test_strict_does_not_pass_over_what_an_earlier_run_met(tmp_path: Path) -> None:
    run(Job(tmp_path / "x.rec", "options"), list(range(1, 30)), 20)
    with pytest.raises(DataError, match=r"list:4: no 4 \(--strict stops here\)"):
        run(Job(tmp_path / "x.rec", "options", strict=True), list(range(1, 30)))


def test_nothing_to_pack_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing could be packed: list:0: no 0"):
        run(Job(tmp_path / "x.rec", "options"), [0, 4, 8])
    with pytest.raises(DataError, match="nothing could be packed: the annotations list no image"):
        run(Job(tmp_path / "y.rec", "options"), [])
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".journal")] == []


@pytest.mark.parametrize("workers", [1, 3])
def test_a_bug_in_a_worker_reaches_the_caller(tmp_path: Path, workers: int) -> None:
    def broken(item: int) -> Prepared:
        if item == 11:
            raise ZeroDivisionError("eleven")
        return work(item)

    with pytest.raises(ZeroDivisionError, match="eleven"):
        list(run_job(Job(tmp_path / "x.rec", "options", workers=workers), range(30), broken, identify))


def test_no_more_items_are_taken_than_are_in_flight() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        while taken < 500:
            taken += 1
            yield taken

    with ThreadPoolExecutor(2) as pool:
        for done, (item, _) in enumerate(ordered_map(work, items(), pool, 4), start=1):
            assert item == done
            assert taken <= done + 4
    assert taken == 500
