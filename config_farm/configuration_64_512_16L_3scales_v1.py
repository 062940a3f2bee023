r"""Licence plates of 64–512 px, 3 branches.

Train:     python config_farm/configuration_64_512_16L_3scales_v1.py \
               --train-data train.rec --val-data val.rec --output-dir runs/plate
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
from symbol_farm.symbol_64_512_16L_3scales_v1 import NETWORK

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
        loss=LossOptions(branch_weights=(0.8, 1.4, 2.3)),
        schedule=ScheduleOptions(learning_rate=0.0015),
    )


if __name__ == "__main__":
    start(NETWORK, declare)
