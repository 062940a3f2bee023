"""Pedestrians of 30–320 px, 4 branches, trained on crops of 480 px.

Train:     lffd train pedestrian --train-data train.rec --val-data val.rec
Run time:  not measured to the end.
Score:     not trained to the end yet.
"""

import sys
from pathlib import Path

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config_farm.run.script import Script

OURS = {"batch_size": 16, "loss.branch_weights": (0.6, 0.82, 1.36, 2.3), "schedule.learning_rate": 0.0015}
SCRIPT = Script("pedestrian", __doc__, ours=OURS, published={"batch_size": 32})

if __name__ == "__main__":
    SCRIPT.start()
