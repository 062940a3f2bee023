"""RetinaFace on a quarter of MobileNet v1; five points are learnt where the data has them.

Train:     python config_farm/configuration_retinaface_mnet025.py --train-data train.rec --val-data val.rec
Run time:  not measured to the end.
Score:     not trained to the end yet.
"""

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
