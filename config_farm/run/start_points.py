"""Where a run's parameters come from: random numbers, or a model to fine-tune."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from config_farm.run.experiment import Experiment
from lffd.engines.graph_outputs import node_outputs
from lffd.errors import UsageError
from lffd.graphs import batch_norm
from lffd.graphs.network import Network
from lffd.training.checkpoint import newest_checkpoint, read_checkpoint
from lffd.training.initialization import initial_arrays
from symbol_farm.trained_models import resolve_model

Arrays = dict[str, NDArray[Any]]


def initial_state(
    network: Network, experiment: Experiment, sample: Callable[[], NDArray[np.uint8]]
) -> tuple[Arrays, list[str]]:
    """Return the first `arg:NAME` and `aux:NAME` arrays, and lines that say where they came from.

    A model to start from may be of another version: parameters of the same name and shape are taken, and everything
    that did not match is listed.

    Args:
        network: what is trained.
        experiment: its `init_from`, `initialization`, `batch_norm` and `seed` are read.
        sample: returns a few training crops `(B, S, S, 3)` uint8 BGR; called only where a model is fine-tuned with
            batch normalisation.
    """
    arrays = initial_arrays(network, experiment.batch_norm, experiment.seed, experiment.initialization)
    if experiment.init_from is None:
        return arrays, [f"parameters: random ({experiment.initialization}, seed {experiment.seed})"]
    if Path(experiment.init_from).name == "checkpoints" or experiment.init_from.endswith(".npz"):
        return _from_checkpoint(arrays, Path(experiment.init_from))
    model = resolve_model(experiment.init_from)
    asked = network.parameter_shapes
    taken = {name: value for name, value in model.params.items() if asked.get(name) == value.shape}
    arrays |= {f"arg:{name}": np.asarray(value, np.float32) for name, value in taken.items()}
    if not taken:
        raise UsageError(f"--init-from {experiment.init_from}: none of its parameters fits {network.name}")
    if experiment.batch_norm:
        arrays |= identity_batch_norm(network, arrays, sample())
    lines = [f"parameters: {len(taken)} of {len(asked)} from {experiment.init_from}"]
    return arrays, lines + _unmatched(asked, model.params)


def _from_checkpoint(arrays: Arrays, path: Path) -> tuple[Arrays, list[str]]:
    """Return the parameters of a checkpoint, or of the newest one in a folder, batch normalisation and all."""
    checkpoint = newest_checkpoint(path)[0] if path.is_dir() else read_checkpoint(path)
    if checkpoint is None:
        raise UsageError(f"--init-from {path}: there is no whole checkpoint")
    found = checkpoint.arrays
    taken = {name: found[name] for name in arrays if name in found and found[name].shape == arrays[name].shape}
    if not taken:
        raise UsageError(f"--init-from {checkpoint.path}: none of its parameters fits this network")
    lines = [f"parameters: {len(taken)} of {len(arrays)} from {checkpoint.path}"]
    fresh = [name.partition(":")[2] for name in arrays if name not in taken]
    return arrays | taken, lines + ([f"  start random: {', '.join(fresh)}"] if fresh else [])


def identity_batch_norm(network: Network, arrays: Mapping[str, NDArray[Any]], images: NDArray[np.uint8]) -> Arrays:
    """Return batch normalisation that changes nothing, for a network whose own was folded into its weights.

    Gain and offset are the standard deviation and mean that each convolution has on `images`, so a batch like them
    leaves the normalisation as it came in, and a fine-tuned network starts from what the model knew.

    Args:
        network: the declaration.
        arrays: the plain parameters as `arg:NAME`.
        images: `(B, S, S, 3)` uint8 BGR.
    """
    layers = [name for name in network.gains if f"arg:{name}_weight" in arrays]
    params = {name.removeprefix("arg:"): value for name, value in arrays.items()}
    outputs = node_outputs(network.graph, layers, params, images)
    found: Arrays = {}
    for name, output in zip(layers, outputs, strict=True):
        values = output.astype(np.float64)
        mean, variance = values.mean(axis=(0, 2, 3)), values.var(axis=(0, 2, 3))
        found[f"arg:{name}_bn_gamma"] = np.sqrt(variance + batch_norm.EPSILON).astype(np.float32)
        found[f"arg:{name}_bn_beta"] = mean.astype(np.float32)
        found[f"aux:{name}_bn_moving_mean"] = mean.astype(np.float32)
        found[f"aux:{name}_bn_moving_var"] = variance.astype(np.float32)
    return found


def _unmatched(asked: Mapping[str, tuple[int, ...]], given: Mapping[str, NDArray[Any]]) -> list[str]:
    """Return one line for each kind of misfit between a network's parameters and a model's."""
    both = {name: (given[name].shape, shape) for name, shape in asked.items() if name in given}
    kinds = (
        ("not in the model, start random", [name for name in asked if name not in given]),
        ("in the model, not in this network", [name for name in given if name not in asked]),
        (
            "of another shape, start random",
            [f"{n} {old} instead of {new}" for n, (old, new) in both.items() if old != new],
        ),
    )
    return [f"  {what}: {', '.join(names)}" for what, names in kinds if names]
