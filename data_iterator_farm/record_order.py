"""Which record stands at which place of the endless stream of crops."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray

from data_iterator_farm.crop_sampling import check_boxes
from lffd.errors import DataError
from lffd.records import RecordSource

Indices = NDArray[np.int64]

SCAN_CHUNK = 1024
ORDER_TAG = 1
"""Keeps the seeds of permutations apart from those of crops, which are three numbers long."""


@dataclass(frozen=True)
class RecordKinds:
    """The records of a source, sorted by what can be learnt from them.

    Attributes:
        faces: indices of records with at least one face that is not ignored.
        ignored_only: of records whose boxes are all ignored.
        background: of records without any box.
        bad: index to fault of records that cannot be used.
    """

    faces: Indices
    ignored_only: Indices
    background: Indices
    bad: dict[int, str]


def sort_records(source: RecordSource, threads: int = 1, skip_bad: bool = False) -> RecordKinds:
    """Read every record once, by `threads` at once, check its boxes, and sort it by kind; images are not decoded.

    Raises:
        DataError: names the first record that cannot be used, unless `skip_bad` collects such records.
    """
    found: dict[str, list[int]] = {"faces": [], "ignored-only": [], "background": []}
    bad: dict[int, str] = {}
    chunks = range(0, len(source), SCAN_CHUNK)
    with ThreadPoolExecutor(threads, thread_name_prefix="lffd-scan") as pool:
        try:
            for start, kinds in zip(chunks, pool.map(partial(_scan_chunk, source, skip_bad), chunks), strict=True):
                for index, (kind, fault) in enumerate(kinds, start):
                    if kind == "bad":
                        bad[index] = fault
                    else:
                        found[kind].append(index)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    faces, ignored_only, background = (np.array(indices, np.int64) for indices in found.values())
    return RecordKinds(faces, ignored_only, background, bad)


def _scan_chunk(source: RecordSource, skip_bad: bool, start: int) -> list[tuple[str, str]]:
    """Return the kind of each record of one chunk, and its fault if it is bad."""
    kinds = []
    for index in range(start, min(start + SCAN_CHUNK, len(source))):
        try:
            record = source[index]
            check_boxes(record)
        except DataError as error:
            if not skip_bad:
                raise
            kinds.append(("bad", str(error)))
            continue
        kind = "ignored-only" if record.ignored.all() else "faces"
        kinds.append((kind if len(record.boxes) else "background", ""))
    return kinds


class RecordOrder:
    """An endless order in which every record comes equally often, and any place can be looked up at once.

    (What `SamplingPolicy.redraws` puts in the place of a record is drawn at random.)

    Records with faces and background records are two streams, each a new permutation per round; which stream a place
    belongs to follows from the background share alone. With `use_ignored_only`, records whose boxes are all ignored
    take turns with those with faces. Safe from many threads; raises `DataError` when no record has a face.
    """

    def __init__(self, kinds: RecordKinds, background_share: float, use_ignored_only: bool, seed: int) -> None:
        if not kinds.faces.size:
            raise DataError(
                f"no record has a face to learn: {kinds.ignored_only.size} have only ignored boxes, "
                f"{kinds.background.size} have none, {len(kinds.bad)} are bad"
            )
        extra = kinds.ignored_only if use_ignored_only else kinds.ignored_only[:0]
        self.faces = kinds.faces
        self._streams = (np.sort(np.concatenate((kinds.faces, extra))), kinds.background)
        self._share = Fraction(background_share).limit_denominator(10**6) if kinds.background.size else Fraction(0)
        self._seed = seed
        self._rounds: dict[tuple[int, int], Indices] = {}
        self._lock = threading.Lock()
        if background_share and not kinds.background.size:
            logging.getLogger(__name__).info("no background records: every crop comes from a record with boxes")

    def at(self, place: int) -> int:
        """Return the index of the record at a place of the stream, 0 or more."""
        before, after = (more * self._share.numerator // self._share.denominator for more in (place, place + 1))
        stream, position = (1, before) if after > before else (0, place - before)
        number, offset = divmod(position, self._streams[stream].size)
        return int(self._round(stream, number)[offset])

    def random_face(self, rng: Generator) -> int:
        """Return the index of a random record with a face."""
        return int(rng.choice(self.faces))

    def _round(self, stream: int, number: int) -> Indices:
        """Return one round of a stream; the last two of each stream are kept."""
        with self._lock:
            found = self._rounds.get((stream, number))
            if found is None:
                rng = default_rng(SeedSequence([self._seed, stream, number, ORDER_TAG]))
                found = self._rounds[stream, number] = rng.permutation(self._streams[stream])
                for key in [key for key in self._rounds if key[0] == stream and abs(key[1] - number) > 1]:
                    del self._rounds[key]
            return found
