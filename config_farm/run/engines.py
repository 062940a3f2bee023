"""Which engine trains, and how it is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from config_farm.run.experiment import Experiment
from lffd.graphs.network import Network
from lffd.training.choice import Choice, choose_training_engine
from lffd.training.engine import TrainingEngine


def engine_choice(experiment: Experiment) -> Choice:
    """Return the engine and precision that an experiment means."""
    asked = (experiment.engine, experiment.device, experiment.precision)
    return choose_training_engine(*asked, parameter_server=experiment.kvstore is not None)


def create_training_engine(
    network: Network, experiment: Experiment, initial: Mapping[str, NDArray[Any]]
) -> TrainingEngine:
    """Return the engine that an experiment asks for, holding the `initial` arrays; errors: `choose_training_engine`."""
    choice = engine_choice(experiment)
    shared: Any = {"optimizer": experiment.optimizer, "device": experiment.device}
    if choice.engine == "torch":
        from lffd.training.torch.engine import TorchTrainingEngine

        return TorchTrainingEngine(
            network, initial, loss=experiment.loss, precision=choice.precision, compiled=experiment.compiled, **shared
        )
    from lffd.training.mxnet.engine import MXNetTrainingEngine
    from lffd.training.mxnet.losses import training_symbol

    return MXNetTrainingEngine(
        training_symbol(network, experiment.loss, experiment.batch_norm, experiment.distill is not None).tojson(),
        initial,
        normalizer=experiment.loss.normalizer,
        kvstore=experiment.kvstore,
        **shared,
    )
