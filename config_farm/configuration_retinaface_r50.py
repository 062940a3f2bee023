"""RetinaFace on ResNet-50.

Train:     lffd train retinaface_r50 --train-data train.rec --val-data val.rec --device gpu:0
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
    "batch_size": 24,
    "iterations": 53_700,  # 100 times the 12,880 training images
    "loss.box_weight": 2.0,
    "loss.negatives_per_positive": 7.0,
    "schedule.learning_rate": 0.001,
    "schedule.milestones": (0.7, 0.9),
}
SCRIPT = Script("retinaface_r50", __doc__, both={**ANCHOR_TRAINING, **RECIPE})

if __name__ == "__main__":
    SCRIPT.start()
