"""Face v1: faces of 10–560 px, 8 branches.

Train:     lffd train v1 --train-data train.rec --val-data val.rec
Run time:  not measured to the end.
Score:     not trained to the end yet.
"""

import sys
from pathlib import Path

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config_farm.run.script import Script

OURS = {"loss.branch_weights": (0.6, 0.6, 0.82, 0.9, 1.36, 2.0, 3.0, 4.0), "schedule.learning_rate": 0.0015}
SCRIPT = Script("v1", __doc__, both={"batch_size": 32}, ours=OURS)

if __name__ == "__main__":
    SCRIPT.start()
