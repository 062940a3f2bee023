"""Slim-320 on square crops of 320 px; its cells then lie where a square image has them.

Train:     lffd train slim_320 --train-data train.rec --val-data val.rec
Run time:  not measured to the end.
Score:     not trained to the end yet.
"""

import sys
from pathlib import Path

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config_farm.run.anchor_training import ULTRA_LIGHT
from config_farm.run.script import Script
from symbol_farm.slim import ultra_light

NETWORK = ultra_light("slim_320", receptive_block=False, height=320)
SCRIPT = Script(NETWORK, __doc__, both=ULTRA_LIGHT)

if __name__ == "__main__":
    SCRIPT.start()
