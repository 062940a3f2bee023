"""Where the time of one thread that makes batches goes: stage by stage, and for the record with the most boxes."""

from __future__ import annotations

import cProfile
import pstats
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from data_iterator_farm import decoding, label_maps, rendering
from data_iterator_farm import jitter as jitter_module
from data_iterator_farm.batch_builder import BatchBuilder
from data_iterator_farm.record_order import RecordKinds
from lffd.records import RecordSource

CROWD_SAMPLES = 40
WARM_UP = 6


def stage_shares(builder: BatchBuilder, batches: int) -> dict[str, float]:
    """Return the share of one thread's time that each stage takes, from a profile of single calls.

    Args:
        builder: makes the batches.
        batches: how many are profiled.
    """
    profile = cProfile.Profile()
    for index in range(WARM_UP):
        builder.build(index)
    for index in range(batches):
        profile.runcall(builder.build, index)
    spent = _cumulative(profile)
    whole = spent(BatchBuilder.build)
    shares = {
        "decode": spent(decoding.decode_image),
        "resize": spent(rendering.draw_window) - spent(decoding.decode_image),
        "jitter": spent(jitter_module.jitter),
        "labels": spent(label_maps.LabelMaker.write),
    }
    shares["reading, sampling, the rest"] = whole - sum(shares.values())
    return {name: share / whole for name, share in shares.items()}


def crowd_cost(
    source: RecordSource, kinds: RecordKinds, make_builder: Callable[[RecordKinds], BatchBuilder]
) -> dict[str, float]:
    """Compare the record with the most boxes with others.

    Args:
        source: the records.
        kinds: what `sort_records` said about them.
        make_builder: returns a maker of batches of one crop, from the records of its argument alone.

    Returns:
        `boxes`, `milliseconds` and `median_milliseconds` per crop, and their `ratio`.
    """
    faces = kinds.faces
    crowded = max(faces.tolist(), key=lambda index: len(source[index].boxes))
    others = faces[np.linspace(0, faces.size - 1, min(CROWD_SAMPLES, faces.size)).astype(int)].tolist()
    cost = _record_cost(crowded, make_builder)
    median = float(np.median([_record_cost(index, make_builder) for index in others]))
    boxes = len(source[crowded].boxes)
    return {"boxes": boxes, "milliseconds": cost, "median_milliseconds": median, "ratio": cost / median}


def _record_cost(index: int, make_builder: Callable[[RecordKinds], BatchBuilder]) -> float:
    """Return the median milliseconds that one thread takes for a crop of one record."""
    none = np.zeros(0, np.int64)
    builder = make_builder(RecordKinds(np.array([index]), none, none, bad={}))
    times = []
    for number in range(CROWD_SAMPLES):
        start = time.perf_counter()
        builder.build(number)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1e3


def _cumulative(profile: cProfile.Profile) -> Any:
    """Return a function that says how many seconds a profile spent inside a function."""
    stats: dict[tuple[str, int, str], tuple[Any, ...]] = pstats.Stats(profile).stats  # type: ignore[attr-defined]

    def spent(function: Any) -> float:
        code = function.__code__
        entry = stats.get((code.co_filename, code.co_firstlineno, code.co_name))
        return float(entry[3]) if entry else 0.0

    return spent
