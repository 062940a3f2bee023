r"""Nano: faces of 9–400 px, 3 branches, below YuNet-n's cost.

Train:     python config_farm/configuration_9_400_nano.py \
               --train-data train.rec --val-data val.rec --output-dir runs/nano
"""

from __future__ import annotations

from dataclasses import replace

from config_farm.run.command_line import start
from config_farm.run.experiment import Experiment, Preset, recipe
from lffd.training.options import LossOptions, ScheduleOptions
from symbol_farm.symbol_9_400_nano import NETWORK


def declare(preset: Preset) -> Experiment:
    """Return this version's run under a preset."""
    base = replace(recipe(NETWORK, preset), batch_size=16)
    if preset == "published":
        return base
    return replace(
        base,
        iterations=14_000,
        loss=LossOptions(branch_weights=(1.0, 1.5, 2.5)),
        schedule=ScheduleOptions(learning_rate=0.003),
    )


if __name__ == "__main__":
    start(NETWORK, declare)
