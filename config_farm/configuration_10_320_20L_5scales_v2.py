"""Face v2: faces of 10–320 px, 5 branches.

Train:     lffd train v2 --train-data train.rec --val-data val.rec
Run time:  123 minutes on one core of a Xeon with AMX (PyTorch, bf16); on a GPU train ten times as long.
Score:     .822 / .825 / .797 easy / medium / hard on 308 WIDER FACE val images (docs/training_log.md).
"""

import sys
from pathlib import Path

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config_farm.run.script import Script

OURS = {
    "input_size": 320,  # small crops with mosaics teach more per minute than the paper's 640 px
    "iterations": 6500,
    "loss.branch_weights": (0.6, 0.82, 1.36, 2.3, 4.0),
    "schedule.learning_rate": 0.0015,
}
SCRIPT = Script("v2", __doc__, both={"batch_size": 16}, ours=OURS)

if __name__ == "__main__":
    SCRIPT.start()
