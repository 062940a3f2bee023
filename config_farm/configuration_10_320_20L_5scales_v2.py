r"""Face v2: faces of 10–320 px, 5 branches.

Train:     python config_farm/configuration_10_320_20L_5scales_v2.py \
               --train-data train.rec --val-data val.rec --output-dir runs/v2
Go on:     the same command with --resume; Ctrl-C stops at a whole step.
See all:   --print-config shows the whole run, --help lists every option.
Recipes:   --preset ours (default) or --preset published (the paper's losses, sampling and schedule).
Run time:  123 minutes on one core of a Xeon with AMX (PyTorch, bf16); on a GPU train ten times as long.
Score:     .822 / .825 / .797 easy / medium / hard on 308 WIDER FACE val images (docs/training_log.md).
"""

from __future__ import annotations

from dataclasses import replace

from config_farm.run.command_line import start
from config_farm.run.experiment import Experiment, Preset, recipe
from lffd.training.options import LossOptions, ScheduleOptions
from symbol_farm.symbol_10_320_20L_5scales_v2 import NETWORK

BATCH_SIZE = 16


def declare(preset: Preset) -> Experiment:
    """Return this version's run under a preset.

    Any field can be overridden on the command line by its name.
    """
    base = replace(recipe(NETWORK, preset), batch_size=BATCH_SIZE)
    if preset == "published":
        return base
    return replace(
        base,
        # Small crops with mosaics teach more per minute than the paper's 640 px.
        input_size=320,
        iterations=6500,
        # Deep branches see fewer positives per crop; these weights even that out in part.
        loss=LossOptions(branch_weights=(0.6, 0.82, 1.36, 2.3, 4.0)),
        schedule=ScheduleOptions(learning_rate=0.0015),
    )


if __name__ == "__main__":
    start(NETWORK, declare)
