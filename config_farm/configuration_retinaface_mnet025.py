"""RetinaFace on a quarter of MobileNet v1; five points are learnt where the data has them.

Train:     lffd train retinaface_mnet025 --train-data train.rec --val-data val.rec
Run time:  not measured to the end.
Score:     not trained to the end yet.
"""

import sys
from pathlib import Path

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config_farm.run.anchor_training import ANCHOR_TRAINING
from config_farm.run.script import Script

RECIPE = {
    "batch_size": 32,
    "iterations": 100_000,  # 250 times the 12,880 training images
    "loss.box_weight": 2.0,
    "loss.negatives_per_positive": 7.0,
    "schedule.learning_rate": 0.001,
    "schedule.milestones": (0.76, 0.88),
}
SCRIPT = Script("retinaface_mnet025", __doc__, both={**ANCHOR_TRAINING, **RECIPE})

if __name__ == "__main__":
    SCRIPT.start()
