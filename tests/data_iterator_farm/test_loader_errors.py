"""What the loader does with records that cannot be used, failures in its threads, and impossible arguments."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from data_iterator_farm.batch_builder import BatchError
from data_iterator_farm.policies import ours
from lffd.errors import DataError, UsageError
from lffd.records import Record
from tests.data_iterator_farm.made_up import broken, make_record, make_source
from tests.data_iterator_farm.test_batch_loader import HEAD, SOURCE, assert_same, open_loader, take

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_damaged_image_stops_the_loader_by_name(threads: int) -> None:
    source = make_source(8)
    source[5] = broken(source[5])
    with open_loader(source, threads=threads) as loader, pytest.raises(DataError, match=r"face 5.*damaged"):
        for _ in loader:
            pass


def test_a_record_with_no_valid_box_is_refused_at_once() -> None:
    source = [*make_source(4), make_record([[50, 50, 50, 90]], name="nothing.jpg")]
    with pytest.raises(DataError, match=r"nothing\.jpg.*box 0 of 1"):
        open_loader(source)


class Failing:
    """A source that fails at one record, after it was scanned."""

    def __init__(self, records: list[Record], error: Exception) -> None:
        self._records, self._error, self._reads = records, error, 0

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int, /) -> Record:
        self._reads += 1
        if self._reads > len(self._records) and index == 2:
            raise self._error
        return self._records[index]


def test_a_failure_in_a_thread_reaches_the_consumer_with_batch_and_record() -> None:
    source = Failing(make_source(5), RuntimeError("disk on fire"))
    with pytest.raises(BatchError, match=r"batch \d+, crop \d, record 2: RuntimeError: disk on fire") as caught:
        take(source, 20, name="published")
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_failure_in_a_mosaic_names_all_its_records() -> None:
    source = Failing(make_source(5), RuntimeError("disk on fire"))
    sampling = replace(ours(HEAD).sampling, mosaic=1.0)
    with pytest.raises(BatchError, match=r"record \d 'face \d' \+ .*2: RuntimeError") as caught:
        take(source, 20, sampling=sampling, threads=1)
    assert "disk on fire" in str(caught.value)


def test_bad_records_are_skipped_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    source = make_source(8)
    source[5] = broken(source[5])
    source[2] = replace(source[2], boxes=-source[2].boxes)
    with caplog.at_level(logging.WARNING), open_loader(source, skip_bad_records=True) as loader:
        batches = [next(loader) for _ in range(12)]
        assert set(loader.bad_records) == {2, 5}
        assert "damaged" in loader.bad_records[5]
    names = " ".join(name for batch in batches for name in batch.names)
    assert "face 5" not in names
    assert "face 2" not in names
    assert "face 7" in names
    lines = [record.getMessage() for record in caplog.records]
    assert sum("skipping record 5" in line for line in lines) == 1
    assert lines[-1] == "bad records skipped: 2 (2, 5)"
    one, four = (take(source, 12, skip_bad_records=True, threads=threads) for threads in (1, 4))
    for first, second in zip(one, four, strict=True):
        assert_same(first, second)


def test_nothing_but_bad_records_ends_with_an_error() -> None:
    source = [broken(record) for record in make_source(3)]
    with pytest.raises(DataError, match="records in a row are bad"):
        take(source, 1, skip_bad_records=True)


@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 0},
        {"threads": 0},
        {"rank": 2, "size": 2},
        {"seed": -1},
        {"prefetch": 0},
        {"start": -1},
        {"input_size": 20},
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises((UsageError, ValueError), match=r"at least|too small"):
        open_loader(SOURCE, **arguments)
