"""How fast batches are made, where the time goes, and how that compares with only decoding the same images.

    python -m benchmarks.batches train.rec --version v1 --threads 1 2

Decoding alone, at full size, is the limit of a loader that keeps no image in memory. Both are timed in turns.
"""

from __future__ import annotations

import cProfile
import json
import pstats
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from data_iterator_farm.batch import BatchPlan
from data_iterator_farm.batch_builder import BatchBuilder
from data_iterator_farm.batch_loader import BatchLoader
from data_iterator_farm.decoding import BadRecordError, decode_image
from data_iterator_farm.jitter import jitter
from data_iterator_farm.label_maps import LabelMaker
from data_iterator_farm.policies import PresetName, preset
from data_iterator_farm.process_loader import ProcessLoader
from data_iterator_farm.record_order import RecordKinds, sort_records
from data_iterator_farm.rendering import draw_window
from data_provider_farm.pack_format.packed_file import PackReader
from lffd.cli import run
from lffd.errors import UsageError
from lffd.files import check_output, write_atomic
from lffd.limits import check_batch_memory, check_limits
from lffd.records import Record, RecordSource
from symbol_farm.versions import version_network

WARM_UP = 6
CROWD_SAMPLES = 40

FIGURES = ("images_per_second", "decode_images_per_second", "ratio", "ratio_low", "ratio_high")

Workers = Literal["threads", "processes"]


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
    preset: PresetName = "published"
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
        check_limits(self, "threads", "processes", "batches", "repeats", "batch_size", "input_size", "seed")
        check_batch_memory(self.batch_size, self.input_size or 1)
        if not self.threads + self.processes or 0 in self.processes:
            raise UsageError("give numbers of threads or processes, each at least 1")


class Bench:
    """The things that every measurement needs."""

    def __init__(self, source: RecordSource, kinds: RecordKinds, plan: BatchPlan, options: Options) -> None:
        self.source, self.kinds, self.plan, self.options = source, kinds, plan, options

    def loader(self, workers: Workers, count: int, start: int) -> BatchLoader | ProcessLoader:
        """Return a loader that begins at batch `start`."""
        if workers == "processes":
            opening = partial(PackReader, self.options.pack)
            return ProcessLoader(opening, self.kinds, self.plan, processes=count, start=start)
        return BatchLoader(self.source, self.plan, threads=count, start=start, kinds=self.kinds)

    def rates(self, workers: Workers, count: int) -> dict[str, Any]:
        """Measure batches and decoding in turns, on the same records, which the system's cache holds by then.

        Returns:
            Kind and number of workers, images per second of both and the ratio of the two rates: medians over the
            turns, and of the ratio also the extremes.
        """
        # Processes make several batches ahead and finish several at a time: they need more of both.
        more = 0 if workers == "threads" else count
        warm_up, timed = WARM_UP + 2 * more, max(self.options.batches, 4 * more)
        order = BatchBuilder(self.source, self.kinds, self.plan).order
        size = self.options.batch_size
        pairs = []
        for turn in range(self.options.repeats):
            first = turn * (WARM_UP + self.options.batches)
            places = range((first + warm_up) * size, (first + warm_up + timed) * size)
            records = [self.source[order.at(place)] for place in places]
            with self.loader(workers, count, first) as loader:
                for _ in range(warm_up):
                    next(loader)
                start = time.perf_counter()
                made = sum(len(next(loader).names) for _ in range(timed))
                pairs.append((made / (time.perf_counter() - start), _time_decoding(records, count)))
        rates = np.array(pairs)
        ratios = rates[:, 0] / rates[:, 1]
        figures = (*np.median(rates, axis=0), np.median(ratios), ratios.min(), ratios.max())
        return {"workers": workers, "count": count} | dict(zip(FIGURES, map(float, figures), strict=True))

    def stages(self) -> dict[str, float]:
        """Return the share of one thread's time that each stage takes, from a profile of single calls."""
        builder, profile = BatchBuilder(self.source, self.kinds, self.plan), cProfile.Profile()
        for index in range(WARM_UP):
            builder.build(index)
        for index in range(self.options.batches):
            profile.runcall(builder.build, index)
        stats: dict[tuple[str, int, str], tuple[Any, ...]] = pstats.Stats(profile).stats  # type: ignore[attr-defined]

        def spent(function: Any) -> float:
            code = function.__code__
            return float(stats.get((code.co_filename, code.co_firstlineno, code.co_name), (0,) * 4)[3])

        whole = spent(BatchBuilder.build)
        shares = {"decode": spent(decode_image), "resize": spent(draw_window) - spent(decode_image)}
        shares |= {"jitter": spent(jitter), "labels": spent(LabelMaker.write)}
        shares["reading, sampling, the rest"] = whole - sum(shares.values())
        return {name: share / whole for name, share in shares.items()}

    def crowd(self) -> dict[str, float]:
        """Compare the record with the most boxes with others: `boxes`, milliseconds per crop of both, their ratio."""
        faces = self.kinds.faces
        crowded = max(faces.tolist(), key=lambda index: len(self.source[index].boxes))
        others = faces[np.linspace(0, faces.size - 1, min(CROWD_SAMPLES, faces.size)).astype(int)].tolist()
        cost, median = self._record_cost(crowded), float(np.median([self._record_cost(index) for index in others]))
        boxes = len(self.source[crowded].boxes)
        return {"boxes": boxes, "milliseconds": cost, "median_milliseconds": median, "ratio": cost / median}

    def _record_cost(self, index: int) -> float:
        """Return the median milliseconds that one thread takes for a crop of one record."""
        none = np.zeros(0, np.int64)
        alone = RecordKinds(np.array([index]), none, none, bad={})
        builder = BatchBuilder(self.source, alone, replace(self.plan, batch_size=1))
        times = []
        for number in range(CROWD_SAMPLES):
            start = time.perf_counter()
            builder.build(number)
            times.append(time.perf_counter() - start)
        return float(np.median(times)) * 1e3


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


def main(options: Options) -> None:
    """Measure how fast batches are made from a pack, and where the time goes."""
    import cv2

    check_output(options.json, [options.pack], ('{"pack":',))
    cv2.setNumThreads(1)  # with threads of its own, OpenCV would make one thread look like several
    network = version_network(options.version)
    policies = preset(options.preset, network)
    if not options.jitter:
        policies = policies._replace(jitter=replace(policies.jitter, probability=0.0))
    with PackReader(options.pack) as source:
        side = options.input_size or network.train_input
        plan = BatchPlan(network, policies, options.batch_size, side, options.seed)
        bench = Bench(source, sort_records(source, max(options.threads, default=1)), plan, options)
        print(f"{options.pack}: {len(source):,} records; {options.version}, {options.preset} preset, {side}x{side}")
        results = [bench.rates("threads", count) for count in options.threads]
        results += [bench.rates("processes", count) for count in options.processes]
        stages, crowd = bench.stages(), bench.crowd()
    _print(results, stages, crowd)
    if options.json:
        last = {name: results[-1][name] for name in FIGURES}
        values = {**vars(options), "input_size": side, **last, "results": results, "stages": stages, "crowd": crowd}
        write_atomic(options.json, (json.dumps(values, indent=2, default=str) + "\n").encode())


def _print(results: list[dict[str, Any]], stages: dict[str, float], crowd: dict[str, float]) -> None:
    """Print the measurements as a user reads them."""
    print("workers        batches: images/s   decoding only: images/s   ratio (lowest–highest)")
    for rates in results:
        one = {"threads": "thread", "processes": "process"}[rates["workers"]]
        workers = f"{rates['count']} {rates['workers'] if rates['count'] > 1 else one}"
        images, decoded, *ratios = (rates[name] for name in FIGURES)
        print("{:12s}{:20.0f}{:26.0f}   {:.2f} ({:.2f}–{:.2f})".format(workers, images, decoded, *ratios))
    print("one thread's time: " + ", ".join(f"{name} {share:.0%}" for name, share in stages.items()))
    print(
        f"the record with most boxes ({crowd['boxes']:,}): {crowd['milliseconds']:.1f} ms per crop, "
        f"{crowd['ratio']:.1f} times the median record"
    )


if __name__ == "__main__":
    run(main)
