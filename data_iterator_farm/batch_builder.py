"""Batch `i` as a function of the seed and `i` alone."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng

from data_iterator_farm.batch import Batch, BatchMemory
from data_iterator_farm.crop_sampling import Crop, sample_crop
from data_iterator_farm.decoding import BadRecordError, Scratch
from data_iterator_farm.jitter import jitter
from data_iterator_farm.label_maps import LabelMaker
from data_iterator_farm.policies import Policies
from data_iterator_farm.record_order import RecordKinds, RecordOrder
from lffd.errors import DataError, LffdError, UsageError
from lffd.graphs.network import Network
from lffd.records import Record, RecordSource

MAX_TRIES = 100


class BatchError(LffdError, RuntimeError):
    """Something failed while a crop was made that is no fault of the data; the message names batch and record."""


class Making:
    """A batch in the making.

    Attributes:
        batch: whose arrays are being filled; its labels are all background at first.
        crops: those that are made so far.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.crops: list[Crop | None] = [None] * len(batch.images)
        self._left = len(self.crops)
        self._lock = threading.Lock()

    def count(self, made: int) -> bool:
        """Count crops as made; whether these were the last."""
        with self._lock:
            self._left -= made
            return self._left == 0

    def finished(self) -> Batch:
        """Return the batch, once every crop is made."""
        names = tuple(" + ".join(crop.names) for crop in self.crops if crop is not None)
        return replace(self.batch, names=names)


class BatchBuilder:
    """Makes the crops of batches; safe from many threads, and the result does not depend on how many there are.

    Args: as for `BatchLoader`; `kinds` is what `sort_records` said about the source, `keep` how many batches' memory
    is kept for use again.
    """

    def __init__(
        self,
        source: RecordSource,
        kinds: RecordKinds,
        network: Network,
        policies: Policies,
        *,
        batch_size: int,
        input_size: int,
        seed: int,
        rank: int,
        size: int,
        skip_bad_records: bool,
        keep: int = 2,
    ) -> None:
        if batch_size < 1 or not 0 <= rank < size or seed < 0:
            raise UsageError(
                f"batch size {batch_size} must be at least 1, seed {seed} at least 0, and rank {rank} below size {size}"
            )
        self.labels = LabelMaker(network, input_size, policies.labels)
        use_ignored = policies.labels.ignored_boxes == "ignore"
        self.order = RecordOrder(kinds, policies.sampling.background_share, use_ignored, seed)
        self.bad_records: dict[int, str] = {}
        self._memory = BatchMemory(batch_size, input_size, self.labels.targets, keep)
        self._source, self._network, self._policies = source, network, policies
        self.batch_size, self._input_size, self._seed = batch_size, input_size, seed
        self._rank, self._size, self._skip = rank, size, skip_bad_records
        self._lock = threading.Lock()
        self._local = threading.local()
        for index, fault in kinds.bad.items():
            self._note(index, fault)

    def begin(self, index: int) -> Making:
        """Return batch `index` with none of its crops made."""
        return Making(self._memory.batch(index))

    def build(self, index: int, into: Batch | None = None) -> Batch:
        """Return batch `index`, made by this thread alone; raises what `make_crops` raises.

        Args:
            index: of the batch.
            into: a batch of that index to fill, with labels that are all background.
        """
        making = Making(self._memory.batch(index) if into is None else into)
        self.make_crops(making, range(self.batch_size))
        return making.finished()

    def make_crops(self, making: Making, slots: range) -> None:
        """Make some crops of a batch; the thread that makes the last ones also labels the batch.

        Raises:
            DataError: when a record cannot be used.
            BatchError: when anything else fails.
        """
        for slot in slots:
            making.crops[slot] = self._make_crop(making.batch, slot)
        if making.count(len(slots)):
            self._label(making)

    def _make_crop(self, batch: Batch, slot: int) -> Crop:
        """Make the pixels of one crop; where bad records are skipped, from the first usable record."""
        number = self._rank * self.batch_size + slot
        rng = default_rng(SeedSequence([self._seed, batch.index, number]))
        record = self.order.at(batch.index * self.batch_size * self._size + number)
        for _ in range(MAX_TRIES):
            reading = _Reading(self._source, record)
            try:
                return self._draw_crop(batch, slot, reading, rng)
            except DataError as error:
                if not self._skip:
                    raise
                self._note(reading.blamed(error), str(error))
            except LffdError:
                raise
            except Exception as error:  # whatever it was, it reaches the consumer under the name of its record
                fault = f"{type(error).__name__}: {error}"
                raise BatchError(f"batch {batch.index}, crop {slot}, {reading}: {fault}") from error
            record = self.order.random_face(rng)
        raise DataError(f"batch {batch.index}, crop {slot}: {MAX_TRIES} records in a row are bad; see the log for each")

    def _draw_crop(self, batch: Batch, slot: int, reading: _Reading, rng: Generator) -> Crop:
        """Make the pixels of one crop from the record of `reading`."""
        crop = sample_crop(
            reading.first(),
            self._input_size,
            self._network,
            self._policies.sampling,
            rng,
            partner=lambda numbers: reading.read(self.order.random_face(numbers)),
            out=batch.images[slot],
            scratch=self._scratch(),
        )
        jitter(crop.image, self._policies.jitter, rng)
        return crop

    def _label(self, making: Making) -> None:
        """Write the labels of a batch whose crops are made."""
        crops = [crop for crop in making.crops if crop is not None]
        boxes = np.concatenate([crop.boxes for crop in crops])
        ignored = np.concatenate([crop.ignored for crop in crops])
        slots = np.repeat(np.arange(len(crops)), [len(crop.boxes) for crop in crops])
        self.labels.write(boxes, ignored, slots, making.batch.targets)
        making.batch.faces[:] = np.bincount(slots[~ignored], minlength=len(crops))

    def _scratch(self) -> Scratch:
        """Return this thread's own memory."""
        if not hasattr(self._local, "scratch"):
            self._local.scratch = Scratch()
        scratch: Scratch = self._local.scratch
        return scratch

    def _note(self, index: int, fault: str) -> None:
        """Count and log a bad record, once."""
        with self._lock:
            known = index in self.bad_records
            self.bad_records[index] = fault
        if not known:
            logging.getLogger(__name__).warning("skipping record %d: %s", index, fault)


class _Reading:
    """Which records were read for one crop, so that an error can name them.

    Args:
        source: where they come from.
        index: of the first one.
    """

    def __init__(self, source: RecordSource, index: int) -> None:
        self._source, self._index = source, index
        self._read: list[tuple[int, Record]] = []

    def __str__(self) -> str:
        done = [f"{index} {record.name!r}" for index, record in self._read if index != self._index]
        names = [record.name for index, record in self._read if index == self._index]
        last = f"{self._index} {names[0]!r}" if names else str(self._index)
        return f"record {' + '.join([*done, last])}"

    def first(self) -> Record:
        """Read the first record."""
        return self.read(self._index)

    def read(self, index: int) -> Record:
        """Read a record."""
        self._index = index
        record = self._source[index]
        self._read.append((index, record))
        return record

    def blamed(self, error: DataError) -> int:
        """Return the index of the record that an error is about: the last one asked for, unless it says otherwise."""
        if isinstance(error, BadRecordError):
            return next((index for index, record in self._read if record is error.record), self._index)
        return self._index
