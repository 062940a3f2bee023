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
    that did not match is listed. A checkpoint, or the newest one in a folder, brings its batch normalisation along;
    for a model's, `sample` is asked for a few training crops `(B, S, S, 3)` uint8 BGR.
    """
    arrays = initial_arrays(network, experiment.batch_norm, experiment.seed, experiment.initialization)
    given, rate = experiment.init_from, experiment.schedule.learning_rate
    if given is None:
        return arrays, [f"parameters: random ({experiment.initialization}, seed {experiment.seed})"]
    if is_checkpoint := Path(given).name == "checkpoints" or given.endswith(".npz"):
        checkpoint = newest_checkpoint(Path(given))[0] if Path(given).is_dir() else read_checkpoint(Path(given))
        if checkpoint is None:
            raise UsageError(f"--init-from {given}: there is no whole checkpoint")
        source, asked = str(checkpoint.path), dict(arrays)
        found = {name: value for name, value in checkpoint.arrays.items() if name.startswith(("arg:", "aux:"))}
    else:
        found = {f"arg:{name}": np.asarray(value, np.float32) for name, value in resolve_model(given).params.items()}
        source, asked = given, {f"arg:{name}": arrays[f"arg:{name}"] for name in network.parameter_shapes}
    taken = {name: found[name] for name, value in asked.items() if name in found and found[name].shape == value.shape}
    share = sum(value.size for value in taken.values()) / sum(value.size for value in asked.values())
    if not taken:
        raise UsageError(f"--init-from {given}: none of its parameters fits {network.name}")
    if share < LEAST_SHARE and not experiment.init_partial:
        raise UsageError(
            f"--init-from {given}: only {len(taken)} of {len(asked)} parameters ({share:.0%} of the numbers) fit "
            f"{network.name}, so it is another network; start without it, or add --init-partial"
        )
    arrays |= taken
    if experiment.batch_norm and not is_checkpoint:
        arrays |= identity_batch_norm(network, arrays, sample())
    learning = f"learning rate: {rate:g}; with --init-from it is {FINE_TUNING:g} of the default unless it is given"
    return arrays, [f"parameters: {len(taken)} of {len(asked)} from {source}", *_unmatched(asked, found), learning]


def identity_batch_norm(network: Network, arrays: Mapping[str, NDArray[Any]], images: NDArray[np.uint8]) -> Arrays:
    """Return batch normalisation that changes nothing, for a network whose own was folded into its weights.

    Gain and offset are the standard deviation and mean that each convolution has on `images`, so a batch like them
    leaves the normalisation as it came in, and a fine-tuned network starts from what the model knew.
    `arrays` are the plain parameters as `arg:NAME`, `images` is `(B, S, S, 3)` uint8 BGR.
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


def _unmatched(asked: Arrays, given: Arrays) -> list[str]:
    """Return one line for each kind of misfit between a network's parameters and a model's."""
    shapes = {name: (given[name].shape, value.shape) for name, value in asked.items() if name in given}
    kinds = {
        "not in the model, start random": [name for name in asked if name not in given],
        "in the model, not in this network": [name for name in given if name not in asked],
        "of another shape, start random": [f"{n} {a} instead of {b}" for n, (a, b) in shapes.items() if a != b],
    }
    lines = {what: ", ".join(name.partition(":")[2] for name in names) for what, names in kinds.items()}
    return [f"  {what}: {names}" for what, names in lines.items() if names]
