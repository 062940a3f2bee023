"""Where a run's parameters come from: random numbers, or a model to fine-tune."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
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

FINE_TUNING = 0.04
"""Share of the default learning rate for a run that starts from a model: at the whole one it forgets what it knew
(`face_light` lost 0.09 AP within 60 steps at 0.0025, and nothing at 0.0001)."""

LEAST_SHARE = 0.5
"""Share of the parameters that a model to start from must bring, unless the user says otherwise."""


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
        return _from_checkpoint(arrays, experiment, network)
    model = resolve_model(experiment.init_from)
    asked = network.parameter_shapes
    taken = {name: value for name, value in model.params.items() if asked.get(name) == value.shape}
    arrays |= {f"arg:{name}": np.asarray(value, np.float32) for name, value in taken.items()}
    _check_share({name: np.prod(shape) for name, shape in asked.items()}, taken, experiment, network)
    if experiment.batch_norm:
        arrays |= identity_batch_norm(network, arrays, sample())
    lines = [f"parameters: {len(taken)} of {len(asked)} from {experiment.init_from}"]
    return arrays, [*lines, *_unmatched(asked, model.params), _rate_line(experiment)]


def _check_share(sizes: Mapping[str, Any], taken: Collection[str], experiment: Experiment, network: Network) -> None:
    """Refuse a model that brings nothing, or less than half where the user did not ask for that.

    Args:
        sizes: how many numbers each parameter of the network has.
        taken: the parameters that the model brings.
        experiment: says where from.
        network: what is trained.
    """
    share = sum(sizes[name] for name in taken) / sum(sizes.values())
    if not taken:
        raise UsageError(f"--init-from {experiment.init_from}: none of its parameters fits {network.name}")
    if share < LEAST_SHARE and not experiment.init_partial:
        raise UsageError(
            f"--init-from {experiment.init_from}: only {len(taken)} of {len(sizes)} parameters ({share:.0%} of the "
            f"numbers) fit {network.name}, so it is another network; start without it, or add --init-partial"
        )


def _rate_line(experiment: Experiment) -> str:
    rate = experiment.schedule.learning_rate
    return f"learning rate: {rate:g}; with --init-from it is {FINE_TUNING:g} of the default unless it is given"


def _from_checkpoint(arrays: Arrays, experiment: Experiment, network: Network) -> tuple[Arrays, list[str]]:
    """Return the parameters of a checkpoint, or of the newest one in a folder, batch normalisation and all."""
    path = Path(str(experiment.init_from))
    checkpoint = newest_checkpoint(path)[0] if path.is_dir() else read_checkpoint(path)
    if checkpoint is None:
        raise UsageError(f"--init-from {path}: there is no whole checkpoint")
    found = checkpoint.arrays
    taken = {name: found[name] for name in arrays if name in found and found[name].shape == arrays[name].shape}
    _check_share({name: value.size for name, value in arrays.items()}, taken, experiment, network)
    lines = [f"parameters: {len(taken)} of {len(arrays)} from {checkpoint.path}"]
    fresh = [name.partition(":")[2] for name in arrays if name not in taken]
    lines += [f"  start random: {', '.join(fresh)}"] if fresh else []
    return arrays | taken, [*lines, _rate_line(experiment)]


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
