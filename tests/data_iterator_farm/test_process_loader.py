"""Batches from processes: those of the threads, errors with names, nothing left over."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.typing import NDArray

from data_iterator_farm import shared_memory
from data_iterator_farm.batch import Batch, BatchPlan, Layout
from data_iterator_farm.batch_builder import BatchBuilder, BatchError
from data_iterator_farm.policies import preset
from data_iterator_farm.process_loader import ProcessLoader
from data_iterator_farm.record_order import sort_records
from data_iterator_farm.shared_memory import BlockPool
from lffd.errors import DataError, UsageError
from lffd.records import Record, RecordSource
from symbol_farm.versions import version_network
from tests.data_iterator_farm.made_up import broken, make_source

HEAD = version_network("head")
SOURCE = make_source(10, background=3)
pytestmark = pytest.mark.timeout(60)


def opened(records: Sequence[Record]) -> AbstractContextManager[RecordSource]:
    return nullcontext(records)


def failing(fault: Exception) -> AbstractContextManager[RecordSource]:
    raise fault


def plan(**settings: Any) -> BatchPlan:
    return BatchPlan(HEAD, preset("ours", HEAD), **{"batch_size": 3, "input_size": 96, "seed": 1, **settings})


def open_loader(processes: int, records: Sequence[Record] = SOURCE, start: int = 0, **settings: Any) -> ProcessLoader:
    opening = partial(opened, records)
    return ProcessLoader(opening, sort_records(records), plan(**settings), processes=processes, start=start)


def expected(indices: range, **settings: Any) -> list[Batch]:
    builder = BatchBuilder(SOURCE, sort_records(SOURCE), plan(**settings))
    return [builder.build(index) for index in indices]


def arrays_of(batch: Batch) -> list[NDArray[Any]]:
    return [batch.images, *(values for said in batch.targets for values in said.values()), batch.faces]


def assert_same(found: Sequence[Batch], right: Sequence[Batch]) -> None:
    for ours, theirs in zip(found, right, strict=True):
        assert (ours.index, ours.names) == (theirs.index, theirs.names)
        for one, other in zip(arrays_of(ours), arrays_of(theirs), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


def left_over(loader: ProcessLoader) -> list[str]:
    """The loader's own blocks that the system still has."""
    assert loader._pool._blocks
    return [block.name for block in loader._pool._blocks if Path("/dev/shm", block.name).exists()]


@pytest.mark.parametrize("processes", [1, 3])
def test_batches_are_those_of_one_thread(processes: int) -> None:
    with open_loader(processes, start=2) as loader:
        kept = [next(loader) for _ in range(7)]  # all of them stay in use, so none may share memory
        assert left_over(loader)
        assert loader.next_index == 9
    assert_same(kept, expected(range(2, 9)))
    assert not left_over(loader)


def test_workers_share_the_batch_of_one() -> None:
    halves = []
    for rank in (0, 1):
        with open_loader(1, rank=rank, size=2) as loader:
            halves.append(next(loader))
    (whole,) = expected(range(1), batch_size=6)
    np.testing.assert_array_equal(np.concatenate([half.images for half in halves]), whole.images)


def test_memory_of_dropped_batches_is_used_again() -> None:
    with open_loader(1) as loader:
        addresses = set()
        for _ in range(12):
            batch = next(loader)
            addresses.add(batch.images.__array_interface__["data"][0])
        assert len(addresses) <= 4  # two in the making, the user's, and the one it replaces


def test_one_array_keeps_its_block() -> None:
    layout = Layout(plan())
    pool = BlockPool(layout.label_bytes + layout.image_bytes)
    batch = layout.batch(0, (), pool.lend(pool.take()))
    batch.images[:] = 7
    part = batch.images[0, 2:4]
    del batch
    gc.collect()
    again = layout.batch(1, (), pool.lend(pool.take()))
    for array in arrays_of(again):
        array[:] = 9
    assert (part == 7).all()
    pool.close()
    assert (part == 7).all(), "also after the pool is closed"


def test_a_bad_record_is_named() -> None:
    records = [broken(record) if index == 4 else record for index, record in enumerate(SOURCE)]
    with open_loader(2, records) as loader, pytest.raises(DataError, match="face 4"):
        list(islice(loader, 20))


@pytest.mark.parametrize(
    ("fault", "kind"), [(DataError("x.rec: gone"), DataError), (PermissionError("x.rec"), BatchError)]
)
def test_what_goes_wrong_while_opening_is_said(fault: Exception, kind: type[Exception]) -> None:
    loader = ProcessLoader(partial(failing, fault), sort_records(SOURCE), plan(), processes=2)
    with pytest.raises(kind, match=r"x\.rec"), loader:
        next(loader)


def test_a_killed_process_is_an_error_and_no_hang() -> None:
    with open_loader(2) as loader:
        next(loader)
        pid = loader._processes[1].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(BatchError, match="ended with code -9"):
            list(islice(loader, 20))
    assert not left_over(loader)


def test_processes_end_with_the_loader() -> None:
    with open_loader(2) as loader:
        next(loader)
        processes = loader._processes
    assert not any(process.is_alive() for process in processes)
    loader.close()
    with pytest.raises(UsageError, match="closed"):
        next(loader)


def test_too_little_shared_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "disk_usage", lambda mount: Mock(free=1000))
    with pytest.raises(UsageError, match="has no room for another batch"), open_loader(1) as loader:
        next(loader)


@pytest.mark.parametrize(("processes", "start"), [(0, 0), (1, -1)])
def test_counts_that_cannot_be_are_refused(processes: int, start: int) -> None:
    with pytest.raises(UsageError, match="must be at least 1"):
        open_loader(processes, start=start)
