"""Licence plates of 64–512 px, 3 branches.

Train:     lffd train plate --train-data train.rec --val-data val.rec
Run time:  not measured to the end.
Score:     not trained to the end yet.
"""

import sys
from pathlib import Path

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config_farm.run.script import Script

OURS = {"loss.branch_weights": (0.8, 1.4, 2.3), "schedule.learning_rate": 0.0015}
SCRIPT = Script("plate", __doc__, both={"batch_size": 32}, ours=OURS)

if __name__ == "__main__":
    SCRIPT.start()
