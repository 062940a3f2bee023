"""A run's data: what may be written where it is asked for, its records, and its batches."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial

import numpy as np

from config_farm.run.experiment import Experiment
from data_iterator_farm.batch import Batch, BatchPlan
from data_iterator_farm.batch_loader import BatchLoader
from data_iterator_farm.decoding import CachedSource
from data_iterator_farm.policies import Policies
from data_iterator_farm.process_loader import ProcessLoader
from data_iterator_farm.record_order import sort_records
from data_provider_farm.pack_format.packed_file import PackReader
from detection.dense_teacher import DenseTeacher
from lffd.errors import UsageError
from lffd.graphs.network import Network
from lffd.records import RecordSource
from lffd.training.engine import TrainingBatch

_SAMPLE = 64


def open_records(spec: str, size: int, seed: int) -> AbstractContextManager[RecordSource]:
    """Open the pack of that path, or, for `synthetic:COUNT`, draw faces on images with sides of `size` pixels."""
    if drawn := re.fullmatch(r"synthetic:(\d+)", spec):
        from data_provider_farm.drawn_faces.pictures import synthetic_records

        return nullcontext(synthetic_records(int(drawn[1]), size=size, seed=seed))
    return PackReader(spec)


@contextmanager
def training_records(experiment: Experiment) -> Iterator[RecordSource]:
    """Open what a run learns from; decoded images stay in memory as far as the run's `cache_gib` goes."""
    if experiment.train_data is None:
        raise UsageError("--train-data is missing: give a pack (lffd pack makes one)")
    share = int(experiment.cache_gib * 2**30) // max(1, experiment.processes)  # each process keeps its own
    with open_records(experiment.train_data, experiment.input_size, experiment.seed) as source:
        yield CachedSource(source, share) if share else source


def data_sample(source: RecordSource, network: Network) -> str:
    """Return a digest of up to 64 records spread over a source: their names, images and boxes, and points if learnt."""
    digest = hashlib.sha256()
    for index in np.linspace(0, len(source), min(_SAMPLE, len(source)), endpoint=False).astype(int).tolist():
        record = source[index]
        for part in (record.name.encode(), record.image, record.boxes.tobytes(), record.ignored.tobytes()):
            digest.update(part)
        if record.landmarks is not None and "landmarks" in network.outputs:
            digest.update(record.landmarks.tobytes())
    return digest.hexdigest()


@contextmanager
def open_batches(
    network: Network,
    experiment: Experiment,
    source: RecordSource,
    start: int,
    *,
    worker: tuple[int, int] = (0, 1),
    teacher: DenseTeacher | None = None,
) -> Iterator[Iterator[TrainingBatch]]:
    """Open a run's batches from index `start`, for the worker `(rank, number of workers)`.

    Where the run learns from another detector, that teacher's view of each crop is among the targets.
    """
    kinds = sort_records(source, experiment.threads, experiment.skip_bad_records)
    policies = Policies(experiment.sampling, experiment.jitter, experiment.labels)
    size, seed, skip = experiment.input_size, experiment.seed, experiment.skip_bad_records
    plan = BatchPlan(network, policies, experiment.batch_size, size, seed, *worker, skip_bad_records=skip)
    loader: AbstractContextManager[Iterator[Batch]]
    if experiment.processes:
        opening = partial(training_records, experiment)
        loader = ProcessLoader(opening, kinds, plan, processes=experiment.processes, start=start)
    else:
        loader = BatchLoader(source, plan, threads=experiment.threads, start=start, kinds=kinds)
    with loader as batches:
        if teacher is None:
            yield batches
        else:
            yield (replace(batch, targets=teacher.teach(batch)) for batch in batches)
