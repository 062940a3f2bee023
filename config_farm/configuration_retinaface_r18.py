"""RetinaFace on ResNet-18 at 480×480: SGD at 0.001, times 0.7 every five of thirty epochs.

Train:     lffd train retinaface_r18 --train-data train.rec --val-data val.rec
Run time:  not measured to the end; made for a GPU.
Score:     not trained to the end yet.
"""

import sys
from pathlib import Path

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config_farm.run.anchor_training import ANCHOR_TRAINING
from config_farm.run.script import Script

RECIPE = {
    "batch_size": 8,
    "iterations": 48_300,  # 30 times the 12,880 training images
    "loss.box_weight": 2.0,
    "loss.negatives_per_positive": 7.0,
    "schedule.learning_rate": 0.001,
    "schedule.milestones": (1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6),
    "schedule.factor": 0.7,
}
SCRIPT = Script("retinaface_r18", __doc__, both={**ANCHOR_TRAINING, **RECIPE})

if __name__ == "__main__":
    SCRIPT.start()
