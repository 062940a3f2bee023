"""Light face v3: faces of 10–320 px, 5 branches, a fifth of v2's operations.

Train:     lffd train v3 --train-data train.rec --val-data val.rec
Run time:  105 minutes on one core of a Xeon with AMX (PyTorch, bf16); on a GPU train ten times as long.
Score:     .845 / .834 / .766 easy / medium / hard on 308 WIDER FACE val images (docs/training_log.md).
"""

import sys
from pathlib import Path

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config_farm.run.script import Script

OURS = {"iterations": 14_000, "loss.branch_weights": (0.6, 0.82, 1.36, 2.3, 4.0)}
SCRIPT = Script("v3", __doc__, both={"batch_size": 16}, ours=OURS)

if __name__ == "__main__":
    SCRIPT.start()
