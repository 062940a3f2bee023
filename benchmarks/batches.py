"""How fast batches are made, where the time goes, and how that compares with only decoding the same images.

    python -m benchmarks.batches train.rec --version v1 --threads 1 2

Decoding alone, at full size, is the limit of a loader that keeps no image in memory. Both are timed in turns.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from benchmarks.batch_stages import crowd_cost, stage_shares
from data_iterator_farm.batch_builder import BatchBuilder
from data_iterator_farm.batch_loader import BatchLoader
from data_iterator_farm.decoding import BadRecordError, decode_image
from data_iterator_farm.policies import Preset, preset
from data_iterator_farm.process_loader import ProcessLoader, BatchWork
from data_iterator_farm.record_order import RecordKinds, sort_records
from lffd.cli import run
from lffd.errors import UsageError
from lffd.graphs.receptive_field import Network
from lffd.records import Record, RecordSource

WARM_UP = 6


@dataclass(frozen=True)
class Options:
    """Options of the command.

    Attributes:
        pack: the packed file to read.
        version: of the network whose crops and labels are made: v1, v2, head, …
        preset: how crops are sampled and cells are labelled.
        threads: numbers of threads to measure, one after the other.
        processes: numbers of processes to measure after them; decoding alone always runs in threads.
        batch_size: crops per batch.
        input_size: side of the crops in pixels; the version's own by default.
        jitter: change the pixels at random, as in training.
        batches: per measurement.
        repeats: measurements of each kind, in turns; the median is reported.
        seed: of the batches.
        json: also write the results to this file.
    """

    pack: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.rec")]
    version: str = "v1"
    preset: Literal["published", "ours"] = "published"
    threads: tuple[int, ...] = (1, 2)
    processes: tuple[int, ...] = ()
    batch_size: int = 32
    input_size: int | None = None
    jitter: bool = True
    batches: int = 8
    repeats: int = 7
    seed: int = 0
    json: Path | None = None

    def __post_init__(self) -> None:
        """Refuse counts that cannot be."""
        counts = (*self.threads, *self.processes, self.batches, self.repeats, self.batch_size)
        if not self.threads + self.processes or min(counts) < 1:
            raise UsageError("threads or processes, batches, repeats and batch size must be at least 1")


Workers = Literal["threads", "processes"]
SINGULAR: dict[Workers, str] = {"threads": "thread", "processes": "process"}


@dataclass(frozen=True)
class Rates:
    """What one number of workers reached.

    Attributes:
        workers: `threads` or `processes`.
        count: how many.
        images_per_second: crops made, median.
        decode_images_per_second: images only decoded, at full size, median.
        ratio: of the two, median over the turns.
        ratio_low, ratio_high: its extremes.
    """

    workers: Workers
    count: int
    images_per_second: float
    decode_images_per_second: float
    ratio: float
    ratio_low: float
    ratio_high: float


class Bench:
    """The things that every measurement needs."""

    def __init__(self, source: RecordSource, kinds: RecordKinds, network: Network, policies: Preset, options: Options):
        self.source, self.kinds, self.network, self.policies = source, kinds, network, policies
        self.options = options
        self.input_size = options.input_size or network.train_input

    @property
    def settings(self) -> dict[str, Any]:
        """What every way to make batches takes."""
        return {
            "batch_size": self.options.batch_size,
            "input_size": self.input_size,
            "seed": self.options.seed,
            "rank": 0,
            "size": 1,
            "skip_bad_records": False,
        }

    def builder(self) -> BatchBuilder:
        """Return a new maker of batches."""
        return BatchBuilder(self.source, self.kinds, self.network, self.policies, **self.settings)

    def single(self, kinds: RecordKinds) -> BatchBuilder:
        """Return a maker of batches of one crop, from these records alone."""
        return BatchBuilder(self.source, kinds, self.network, self.policies, **{**self.settings, "batch_size": 1})

    def loader(self, workers: Workers, count: int, start: int) -> BatchLoader | ProcessLoader:
        """Return a loader that begins at batch `start`."""
        settings = self.settings
        if workers == "processes":
            work = BatchWork(partial(_open_pack, self.options.pack), self.kinds, self.network, self.policies, settings)
            return ProcessLoader(work, processes=count, start=start)
        policies = self.policies._asdict()
        return BatchLoader(
            self.source, self.network, threads=count, start=start, kinds=self.kinds, **settings, **policies
        )

    def time_batches(self, first: int, workers: Workers, count: int) -> float:
        """Return the crops per second of a loader that begins at batch `first` and has made a few."""
        with self.loader(workers, count, first) as loader:
            for _ in range(self.warm_up(workers, count)):
                next(loader)
            start = time.perf_counter()
            made = sum(len(next(loader).names) for _ in range(self.timed(workers, count)))
            return made / (time.perf_counter() - start)

    def warm_up(self, workers: Workers, count: int) -> int:
        """Return how many batches are taken before the clock runs: all that processes make ahead, and more."""
        return WARM_UP if workers == "threads" else WARM_UP + 2 * count

    def timed(self, workers: Workers, count: int) -> int:
        """Return how many batches are timed: processes finish several at a time, so they need several rounds."""
        return self.options.batches if workers == "threads" else max(self.options.batches, 4 * count)

    def rates(self, workers: Workers, count: int) -> Rates:
        """Measure batches and decoding in turns, on the same records, which the system's cache holds by then."""
        order, size = self.builder().order, self.options.batch_size
        pairs = []
        for turn in range(self.options.repeats):
            first = turn * (WARM_UP + self.options.batches)
            start = first + self.warm_up(workers, count)
            places = range(start * size, (start + self.timed(workers, count)) * size)
            records = [self.source[order.at(place)] for place in places]
            pairs.append((self.time_batches(first, workers, count), _time_decoding(records, count)))
        rates = np.array(pairs)
        ratios = rates[:, 0] / rates[:, 1]
        batches, decoding_only = np.median(rates, axis=0)
        figures = (batches, decoding_only, np.median(ratios), ratios.min(), ratios.max())
        return Rates(workers, count, *(float(figure) for figure in figures))


@contextmanager
def _open_pack(path: Path) -> Iterator[RecordSource]:
    """Open a pack; called in each process of a `ProcessLoader`."""
    from data_provider_farm.pack_format.packed_file import PackReader

    with PackReader(path) as source:
        yield source


def _time_decoding(records: list[Record], threads: int) -> float:
    """Return the images per second of threads that only decode records, at full size."""
    parts = [records[k :: 4 * threads] for k in range(4 * threads)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(_decode_many, parts[:threads]))
        start = time.perf_counter()
        list(pool.map(_decode_many, parts))
        return len(records) / (time.perf_counter() - start)


def _decode_many(records: list[Record]) -> None:
    """Decode records one after the other, as anyone would: exactly, each into an array of its own."""
    import simplejpeg

    for record in records:
        if record.image[:2] != b"\xff\xd8":
            decode_image(record)
            continue
        try:
            simplejpeg.decode_jpeg(record.image, "BGR")
        except ValueError as error:
            raise BadRecordError(record, f"the JPEG is damaged: {error}; make the pack again") from error


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """Keep OpenCV from starting threads of its own, which would make one thread look like several."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def main(options: Options) -> None:
    """Measure how fast batches are made from a pack, and where the time goes."""
    from data_provider_farm.pack_format.packed_file import PackReader
    from symbol_farm.versions import version_network

    network = version_network(options.version)
    policies = preset(options.preset, network)
    if not options.jitter:
        policies = policies._replace(jitter=replace(policies.jitter, probability=0.0))
    with PackReader(options.pack) as source, _one_opencv_thread():
        bench = Bench(source, sort_records(source, max(options.threads, default=1)), network, policies, options)
        size = f"{bench.input_size}x{bench.input_size}"
        print(f"{options.pack}: {len(source):,} records; {options.version}, {options.preset} preset, {size}")
        results = [bench.rates("threads", count) for count in options.threads]
        results += [bench.rates("processes", count) for count in options.processes]
        stages, crowd = stage_shares(bench.builder(), options.batches), crowd_cost(source, bench.kinds, bench.single)
    _print(results, stages, crowd)
    if options.json:
        last = {name: value for name, value in asdict(results[-1]).items() if name not in ("workers", "count")}
        values = {**asdict(options), "pack": str(options.pack), "input_size": bench.input_size, **last}
        values |= {"json": str(options.json), "results": [asdict(rates) for rates in results]}
        options.json.write_text(json.dumps({**values, "stages": stages, "crowd": crowd}, indent=2) + "\n")


def _print(results: list[Rates], stages: dict[str, float], crowd: dict[str, float]) -> None:
    """Print the measurements as a user reads them."""
    print("workers        batches: images/s   decoding only: images/s   ratio (lowest–highest)")
    for rates in results:
        spread = f"{rates.ratio:.2f} ({rates.ratio_low:.2f}–{rates.ratio_high:.2f})"
        workers = f"{rates.count} {rates.workers if rates.count > 1 else SINGULAR[rates.workers]}"
        print(f"{workers:12s}{rates.images_per_second:20.0f}{rates.decode_images_per_second:26.0f}   {spread}")
    print("one thread's time: " + ", ".join(f"{name} {share:.0%}" for name, share in stages.items()))
    print(
        f"the record with most boxes ({crowd['boxes']:,}): {crowd['milliseconds']:.1f} ms per crop, "
        f"{crowd['ratio']:.1f} times the median record"
    )


if __name__ == "__main__":
    run(main)
