"""A run's records and batches: by threads, by processes, with or without decoded images kept in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from config_farm.run.data_sources import open_records
from config_farm.run.experiment import Experiment
from data_iterator_farm.batch_loader import BatchLoader
from data_iterator_farm.decoding import CachedSource
from data_iterator_farm.policies import Preset
from data_iterator_farm.process_loader import ProcessLoader, BatchWork
from data_iterator_farm.record_order import sort_records
from lffd.errors import UsageError
from lffd.graphs.receptive_field import Network
from lffd.records import RecordSource
from lffd.training.engine import TrainingBatch


@contextmanager
def training_records(experiment: Experiment) -> Iterator[RecordSource]:
    """Open what a run learns from; decoded images stay in memory as far as the run's `cache_gib` goes.

    Raises:
        UsageError: when the run names no data.
        DataError: when the pack cannot be read.
    """
    if experiment.train_data is None:
        raise UsageError("--train-data is missing: give a pack (python -m data_provider_farm.pack --help makes one)")
    share = int(experiment.cache_gib * 2**30) // max(1, experiment.processes)  # each process keeps its own
    with open_records(experiment.train_data, experiment.input_size, experiment.seed) as source:
        yield CachedSource(source, share) if share else source


def open_batches(
    network: Network, experiment: Experiment, source: RecordSource, start: int, worker: tuple[int, int] = (0, 1)
) -> AbstractContextManager[Iterator[TrainingBatch]]:
    """Return the loader of a run's batches from index `start`, for the worker `(rank, number of workers)`."""
    kinds = sort_records(source, experiment.threads, experiment.skip_bad_records)
    settings: dict[str, Any] = {
        "batch_size": experiment.batch_size,
        "input_size": experiment.input_size,
        "seed": experiment.seed,
        "rank": worker[0],
        "size": worker[1],
        "skip_bad_records": experiment.skip_bad_records,
    }
    if experiment.processes:
        policies = Preset(experiment.sampling, experiment.jitter, experiment.labels)
        work = BatchWork(partial(training_records, experiment), kinds, network, policies, settings)
        return ProcessLoader(work, processes=experiment.processes, start=start)
    return BatchLoader(
        source,
        network,
        sampling=experiment.sampling,
        jitter=experiment.jitter,
        labels=experiment.labels,
        threads=experiment.threads,
        start=start,
        kinds=kinds,
        **settings,
    )
