"""The loader: the same batches whatever the threads, the start or the workers; errors with names; nothing left over."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from data_iterator_farm.batch import Batch, BatchPlan
from data_iterator_farm.batch_loader import BatchLoader
from data_iterator_farm.decoding import CachedSource
from data_iterator_farm.policies import Policies, ours, preset, published
from data_iterator_farm.record_order import sort_records
from lffd.errors import UsageError
from lffd.records import Record, RecordSource
from symbol_farm.versions import version_network
from tests.data_iterator_farm.made_up import label_maps, make_record, make_source

HEAD = version_network("head")
pytestmark = pytest.mark.timeout(60)


def open_loader(source: RecordSource, name: str = "ours", **arguments: Any) -> BatchLoader:
    policies = preset(name, HEAD)._replace(**{k: arguments.pop(k) for k in Policies._fields if k in arguments})
    planned: dict[str, Any] = {"batch_size": 4, "input_size": 96, "seed": 1}
    planned |= {name: arguments.pop(name) for name in BatchPlan.__dataclass_fields__ if name in arguments}
    return BatchLoader(source, BatchPlan(HEAD, policies, **planned), **{"threads": 2, **arguments})


def take(source: RecordSource, count: int, **arguments: Any) -> list[Batch]:
    with open_loader(source, **arguments) as loader:
        return [next(loader) for _ in range(count)]


def assert_same(first: Batch, second: Batch) -> None:
    assert (first.index, first.names) == (second.index, second.names)
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.faces, second.faces)
    for said, again in zip(first.targets, second.targets, strict=True):
        assert list(said) == list(again)
        for name, values in said.items():
            np.testing.assert_array_equal(values, again[name])


def arrays_of(batch: Batch) -> list[NDArray[Any]]:
    return [batch.images, *(values for targets in batch.targets for values in targets.values())]


SOURCE = make_source(10, background=3)


def test_shapes_and_types() -> None:
    (batch,) = take(SOURCE, 1)
    assert batch.images.shape == (4, 96, 96, 3)
    assert batch.images.dtype == np.uint8
    shapes = HEAD.map_sizes(96, 96)
    assert [targets["score"].shape for targets in batch.targets] == [(4, 1, *shape) for shape in shapes]
    assert [targets["box"].shape for targets in batch.targets] == [(4, 4, *shape) for shape in shapes]
    assert {targets["score"].dtype for targets in batch.targets} == {np.dtype(np.int8)}
    assert {targets["box"].dtype for targets in batch.targets} == {np.dtype(np.float32)}
    assert all(maps.flags.c_contiguous for maps in arrays_of(batch))
    assert len(batch.names) == 4
    assert batch.faces.shape == (4,)


@pytest.mark.parametrize("name", ["ours", "published"])
def test_batches_do_not_depend_on_the_number_of_threads(name: str) -> None:
    one, two, four = (take(SOURCE, 9, name=name, threads=threads) for threads in (1, 2, 4))
    for batches in zip(one, two, four, strict=True):
        assert_same(batches[0], batches[1])
        assert_same(batches[0], batches[2])


@pytest.mark.parametrize("prefetch", [1, 3])
def test_batches_do_not_depend_on_where_the_loader_starts(prefetch: int) -> None:
    whole = take(SOURCE, 10)
    for batch, again in zip(whole[7:], take(SOURCE, 3, start=7, prefetch=prefetch), strict=True):
        assert_same(batch, again)
    assert [batch.index for batch in whole] == list(range(10))


def test_seeds_give_different_batches() -> None:
    first, second = (take(SOURCE, 1, seed=seed)[0] for seed in (1, 2))
    assert not np.array_equal(first.images, second.images)


def test_one_record_gives_another_crop_every_time() -> None:
    batches = take([make_record([[40, 30, 80, 70]])], 3, name="published")
    crops = {batch.images[slot].tobytes() for batch in batches for slot in range(4)}
    assert len(crops) == 12


def test_workers_share_the_batch_of_one() -> None:
    together = take(SOURCE, 3, batch_size=6)
    parts = [take(SOURCE, 3, batch_size=2, rank=rank, size=3) for rank in range(3)]
    for index, whole in enumerate(together):
        mine = [part[index] for part in parts]
        assert sum((batch.names for batch in mine), ()) == whole.names
        np.testing.assert_array_equal(np.concatenate([batch.images for batch in mine]), whole.images)
        for k, targets in enumerate(whole.targets):
            for name, values in targets.items():
                np.testing.assert_array_equal(np.concatenate([batch.targets[k][name] for batch in mine]), values)


def test_a_cached_source_changes_nothing() -> None:
    for batch, again in zip(take(SOURCE, 4), take(CachedSource(SOURCE, 10**8), 4), strict=True):
        assert_same(batch, again)


def test_backgrounds_have_their_share() -> None:
    batches = take(SOURCE, 25, name="published")
    names = [name for batch in batches for name in batch.names]
    assert sum(name.startswith("background") for name in names) == 10  # a tenth of 100
    for batch in batches:
        for slot, name in enumerate(batch.names):
            if name.startswith("background"):
                assert batch.faces[slot] == 0
                assert not any(targets["score"][slot].any() for targets in batch.targets)


def test_labels_are_those_of_the_boxes() -> None:
    source = [make_record([[40, 30, 80, 70]])]
    sampling = replace(published(HEAD).sampling, flip=0.0)
    policies = {"sampling": sampling, "jitter": replace(ours(HEAD).jitter, probability=0.0)}
    for batch in take(source, 3, name="published", **policies):
        assert (batch.faces == 1).all()
        for slot in range(4):
            codes = [
                (branch, np.argwhere(targets["score"][slot, 0] == 1))
                for branch, targets in zip(HEAD.branch_geometry, batch.targets, strict=True)
            ]
            boxes = [
                branch.decode(
                    batch.targets[branch.index]["box"][slot][:, rows, columns].reshape(1, 4),
                    np.array([[branch.centers(99)[columns], branch.centers(99)[rows]]]),
                )[0]
                for branch, cells in codes
                for rows, columns in cells.tolist()
            ]
            if boxes:
                np.testing.assert_allclose(boxes, np.broadcast_to(boxes[0], (len(boxes), 4)), atol=1e-3)
                again = label_maps(boxes[0][None].round(4), np.zeros(1, bool), HEAD, 96, published(HEAD).labels)
                assert sum(np.count_nonzero(said["score"] == 1) for said in again) == len(boxes)


def test_the_loader_stops_where_told_and_again_when_asked() -> None:
    with open_loader(SOURCE, stop=3) as loader:
        assert [batch.index for batch in loader] == [0, 1, 2]
        assert list(loader) == []
        assert loader.next_index == 3
    with open_loader(SOURCE, start=5, stop=5) as loader:
        assert list(loader) == []


def test_threads_end_without_a_with_block() -> None:
    loader = open_loader(SOURCE)
    next(loader)
    loader.close()
    loader.close()
    with pytest.raises(UsageError, match="closed"):
        next(loader)


def test_threads_end_when_the_consumer_fails() -> None:
    with pytest.raises(ZeroDivisionError), open_loader(SOURCE) as loader:  # noqa: PT012
        next(loader)
        raise ZeroDivisionError


def test_a_kept_batch_keeps_its_content() -> None:
    with open_loader(SOURCE) as loader:
        kept = next(loader)
        copies = [array.copy() for array in arrays_of(kept)]
        part = next(loader).images[1]
        part_copy = part.copy()
        for _ in range(12):
            next(loader)
        for array, copy in zip(arrays_of(kept), copies, strict=True):
            np.testing.assert_array_equal(array, copy)
        np.testing.assert_array_equal(part, part_copy)


def test_no_more_batches_than_asked_are_made_ahead() -> None:
    reads = []

    class Counting(list[Record]):
        def __getitem__(self, index: Any) -> Any:
            reads.append(index)
            return super().__getitem__(index)

    source = Counting(make_source(6))
    kinds = sort_records(source)
    reads.clear()
    with open_loader(source, name="published", kinds=kinds, prefetch=3) as loader:
        next(loader)
        assert len(reads) <= 16  # one batch handed out, three ahead, four crops each
    assert len(reads) <= 16


def resident_kib() -> int:
    """Resident memory of this process."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is read from /proc")
def test_memory_stays_flat_over_two_thousand_batches() -> None:
    source = make_source(6, size=(96, 80))
    with open_loader(source, batch_size=2, input_size=64) as loader:
        for _ in range(300):
            next(loader)
        before = resident_kib()
        for _ in range(2000):
            next(loader)
        assert resident_kib() - before < 6 * 1024


INTERRUPTED = """
import signal
import sys
# A job started in the background ignores Ctrl-C, and its children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
from tests.data_iterator_farm.made_up import make_source
from tests.data_iterator_farm.test_batch_loader import open_loader
loader = open_loader(make_source(6))
with loader:
    for batch in loader:
        print(batch.index, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_control_c_ends_the_process(project: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED]
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for _ in range(5):
            assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode != 0
    assert errors.count("KeyboardInterrupt") == 1
