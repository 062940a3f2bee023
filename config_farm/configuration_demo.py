"""Demo: a small network on drawn (synthetic) faces of 10–160 px, from nothing to pictures with boxes.

Train:     lffd train demo --output-dir runs/demo      (what `make demo` runs)
Run time:  about two minutes of CPU time (2026-11-20; 4:20 on two cores that other work shared).
Score:     AP50 about 0.9 on 100 held-out drawn pictures.

The faces are drawn, so the figure says that training, saving, loading and predicting work — nothing about real faces.
"""

import sys
from pathlib import Path

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config_farm.run.script import Script
from lffd.graphs.branches import Branch
from symbol_farm.lffd_network import Stage, lffd_network

NETWORK = lffd_network(
    name="demo_10_160",
    stem=(16,),
    stages=(Stage(16, pairs=2), Stage(32, pairs=1), Stage(48, pairs=1), Stage(64, pairs=1)),
    branches=(
        Branch("conv6", (10, 20)),
        Branch("conv9", (20, 40)),
        Branch("conv12", (40, 80)),
        Branch("conv15", (80, 160)),
    ),
    head_channels=32,
    train_input=192,
)

SCRIPT = Script(
    NETWORK,
    __doc__,
    both={
        "train_data": "synthetic:1500",
        "val_data": "synthetic:100",
        "output_dir": Path("runs/demo"),
        "iterations": 700,
        "val_pictures": 8,
        "validate_every": 350,
        "checkpoint_every": 100,
    },
    ours={"schedule.learning_rate": 6e-3, "schedule.warm_up": 20, "optimizer.ema": 0.98},
)

if __name__ == "__main__":
    SCRIPT.start()
