r"""Face v1: faces of 10–560 px, 8 branches.

Train:     python config_farm/configuration_10_560_25L_8scales_v1.py \
               --train-data train.rec --val-data val.rec --output-dir runs/v1
Go on:     the same command with --resume; Ctrl-C stops at a whole step.
See all:   --print-config shows the whole run, --help lists every option.
Recipes:   --preset ours (default) or --preset published (the paper's losses, sampling and schedule).
Run time:  not measured to the end.
Score:     not trained to the end yet.
"""

from __future__ import annotations

from dataclasses import replace

from config_farm.run.command_line import start
from config_farm.run.experiment import Experiment, Preset, recipe
from lffd.training.options import LossOptions, ScheduleOptions
from symbol_farm.symbol_10_560_25L_8scales_v1 import NETWORK

BATCH_SIZE = 32


def declare(preset: Preset) -> Experiment:
    """Return this version's run under a preset.

    Any field can be overridden on the command line by its name.
    """
    base = replace(recipe(NETWORK, preset), batch_size=BATCH_SIZE)
    if preset == "published":
        return base
    return replace(
        base,
        # Deep branches see fewer positives per crop; these weights even that out in part.
        loss=LossOptions(branch_weights=(0.6, 0.6, 0.82, 0.9, 1.36, 2.0, 3.0, 4.0)),
        schedule=ScheduleOptions(learning_rate=0.0015),
    )


if __name__ == "__main__":
    start(NETWORK, declare)
