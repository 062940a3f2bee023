"""Nano: faces of 9–400 px, 3 branches, below YuNet-n's cost.

Train:     lffd train nano --train-data train.rec --val-data val.rec
Run time:  not measured to the end.
Score:     not trained to the end yet.
"""

import sys
from pathlib import Path

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config_farm.run.script import Script

OURS = {
    "iterations": 400_000,
    "schedule.learning_rate": 0.003,
    "schedule.shape": "trapezoid",
    "loss.branch_weights": (1.0, 1.5, 2.5),
}
SCRIPT = Script("nano", __doc__, both={"batch_size": 16}, ours=OURS)

if __name__ == "__main__":
    SCRIPT.start()
