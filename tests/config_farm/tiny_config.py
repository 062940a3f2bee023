"""A config script like the shipped ones, for a network small enough that tests can train it."""

from __future__ import annotations

from config_farm.run.script import Script
from lffd.graphs.branches import Branch
from lffd.training.options import ScheduleOptions
from symbol_farm.lffd_network import Stage, lffd_network

NETWORK = lffd_network(
    name="tiny",
    stem=(8,),
    stages=(Stage(8, pairs=1), Stage(8, pairs=1)),
    branches=(Branch("conv4", (8, 16)), Branch("conv7", (16, 32))),
    head_channels=8,
    train_input=64,
)

SCRIPT = Script(
    NETWORK,
    "Tiny.",
    both={
        "train_data": "synthetic:12",
        "batch_size": 4,
        "iterations": 12,
        "checkpoint_every": 4,
        "validate_every": 0,
        "log_every": 2,
        "schedule": ScheduleOptions(learning_rate=1e-3, warm_up=2),
    },
)

if __name__ == "__main__":
    SCRIPT.start()
