"""Batch `i` as a function of the seed and `i` alone."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng

from data_iterator_farm.assignment import label_maker
from data_iterator_farm.batch import Batch, BatchMemory, BatchPlan, Layout
from data_iterator_farm.crop_sampling import Crop, sample_crop
from data_iterator_farm.decoding import BadRecordError, Scratch
from data_iterator_farm.jitter import jitter
from data_iterator_farm.record_order import RecordKinds, RecordOrder
from lffd.errors import DataError, LffdError
from lffd.points import join
from lffd.records import Record, RecordSource

MAX_TRIES = 100


class BatchError(LffdError, RuntimeError):
    """Something failed while a crop was made that is no fault of the data; the message names batch and record."""


@dataclass
class Making:
    """A batch in the making.

    Attributes:
        batch: whose arrays are being filled; its labels are all background, and it has no origins, until the end.
        crops: by place, those that are made so far.
        left: how many are not made.
    """

    batch: Batch
    crops: dict[int, Crop]
    left: int


class BatchBuilder:
    """Makes the crops of batches; safe from many threads, and the result does not depend on how many there are.

    `kinds` is what `sort_records` said about the source, `keep` how many batches' memory is kept for use again.
    """

    def __init__(self, source: RecordSource, kinds: RecordKinds, plan: BatchPlan, keep: int = 2) -> None:
        sampling, _, labels = plan.policies
        self._labels = label_maker(plan.network, plan.input_size, labels)
        self.order = RecordOrder(kinds, sampling.background_share, labels.ignored_boxes == "ignore", plan.seed)
        self.bad_records: dict[int, str] = {}
        self.layout = Layout(plan)
        self._memory, self._scratch = BatchMemory(self.layout, keep), Scratch()
        self._source, self._plan = source, plan
        self._lock = threading.Lock()
        for index, fault in kinds.bad.items():
            self._note(index, fault)

    def begin(self, index: int, into: Batch | None = None) -> Making:
        """Return batch `index` with none of its crops made; `into` is where to, with labels that are all background."""
        return Making(self._memory.batch(index) if into is None else into, {}, self._plan.batch_size)

    def build(self, index: int, into: Batch | None = None) -> Batch:
        """Return batch `index`, made by this thread alone; see `begin`, and `make_crops` for what is raised."""
        making = self.begin(index, into)
        self.make_crops(making, range(self._plan.batch_size))
        return making.batch

    def make_crops(self, making: Making, slots: range) -> None:
        """Make some crops of a batch; the thread that makes the last ones also labels the batch.

        Raises:
            DataError: when a record cannot be used.
            BatchError: when anything else fails.
        """
        for slot in slots:
            making.crops[slot] = self._make_crop(making.batch, slot)
        with self._lock:
            making.left -= len(slots)
            last = not making.left
        if last:
            self._finish(making)

    def _make_crop(self, batch: Batch, slot: int) -> Crop:
        """Make the pixels of one crop; where bad records are skipped, from the first usable record."""
        plan = self._plan
        number = plan.rank * plan.batch_size + slot
        rng = default_rng(SeedSequence([plan.seed, batch.index, number]))
        record = self.order.at(batch.index * plan.batch_size * plan.size + number)
        memory: dict[str, Any] = {"out": batch.images[slot], "scratch": self._scratch}
        for _ in range(MAX_TRIES):
            reading = _Reading(self._source, record)
            partner = partial(reading.partner, self.order)
            try:
                sampling, first = plan.policies.sampling, reading.read(record)
                crop = sample_crop(first, plan.input_size, plan.network, sampling, rng, partner=partner, **memory)
                jitter(crop.image, plan.policies.jitter, rng)
                return crop
            except DataError as error:
                if not plan.skip_bad_records:
                    raise
                self._note(reading.blamed(error), str(error))
            except LffdError:
                raise
            except Exception as error:  # whatever it was, it reaches the consumer under the name of its record
                fault = f"{type(error).__name__}: {error}"
                raise BatchError(f"batch {batch.index}, crop {slot}, {reading}: {fault}") from error
            record = self.order.random_face(rng)
        raise DataError(f"batch {batch.index}, crop {slot}: {MAX_TRIES} records in a row are bad; see the log for each")

    def _finish(self, making: Making) -> None:
        """Write the labels and origins of a batch whose crops are made."""
        crops = [making.crops[slot] for slot in range(len(making.crops))]
        boxes = np.concatenate([crop.boxes for crop in crops])
        ignored = np.concatenate([crop.ignored for crop in crops])
        slots = np.repeat(np.arange(len(crops)), [len(crop.boxes) for crop in crops])
        landmarks = join((crop.landmarks, len(crop.boxes)) for crop in crops)
        self._labels.write(boxes, ignored, slots, making.batch.targets, landmarks)
        making.batch.faces[:] = np.bincount(slots[~ignored], minlength=len(crops))
        making.batch = replace(making.batch, origins=tuple(crop.origins for crop in crops))

    def _note(self, index: int, fault: str) -> None:
        """Count and log a bad record, once."""
        with self._lock:
            known = index in self.bad_records
            self.bad_records[index] = fault
        if not known:
            logging.getLogger(__name__).warning("skipping record %d: %s", index, fault)


class _Reading:
    """Which records were read for one crop, the last one at `index`, so that an error can name them."""

    def __init__(self, source: RecordSource, index: int) -> None:
        self._source, self.index = source, index
        self._read: dict[int, Record] = {}

    def __str__(self) -> str:
        names = {index: f"{index} {record.name!r}" for index, record in self._read.items()}
        last = names.pop(self.index, str(self.index))
        return f"record {' + '.join([*names.values(), last])}"

    def read(self, index: int) -> Record:
        """Return a record, read at most once."""
        self.index = index
        if index not in self._read:
            self._read[index] = self._source[index]
        return self._read[index]

    def partner(self, order: RecordOrder, rng: Generator) -> Record:
        """Return a random record with a face."""
        return self.read(order.random_face(rng))

    def blamed(self, error: DataError) -> int:
        """Return the index of the record that an error is about: the last one asked for, unless it says otherwise."""
        wrong = error.record if isinstance(error, BadRecordError) else None
        return next((index for index, record in self._read.items() if record is wrong), self.index)
