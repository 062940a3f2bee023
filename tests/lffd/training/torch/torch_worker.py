"""One worker of the two that `test_torch_training` starts through `torchrun`: a part of every batch is its own."""

from __future__ import annotations

import os
import sys

import numpy as np

from lffd.training.initialization import initial_arrays
from lffd.training.options import LossOptions, OptimizerOptions
from lffd.training.torch.engine import TorchTrainingEngine
from tests.training_batches import NETWORK, make_batch


def main(output: str) -> None:
    optimizer = OptimizerOptions(name="sgd", weight_decay=0.01, ema=0.9)
    # Workers come with different parameters: those of rank 0 must win.
    initial = initial_arrays(NETWORK, batch_norm=False, seed=3 + int(os.environ["RANK"]), style="xavier")
    engine = TorchTrainingEngine(NETWORK, initial, loss=LossOptions(), optimizer=optimizer)
    reports = []
    for seed in range(3):
        whole = make_batch(4, seed)
        part = whole.part(2 * engine.rank, 2 * engine.rank + 2)
        report = engine.step([part], 0.05).wait()
        reports.append([report.loss, report.gradient_norm, *np.ravel([*report.statistics.values()])])
    np.savez(f"{output}/rank{engine.rank}.npz", reports=np.array(reports), **engine.state())


if __name__ == "__main__":
    main(sys.argv[1])
