"""Two workers that `torchrun` starts: one run, one result, and none lost when they are stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from lffd.training.checkpoint import newest_checkpoint
from tests.config_farm.ports import family, listening, send_noise
from tests.config_farm.test_configurations import run_config
from tests.conftest import PROJECT

SCRIPT = Path(__file__).parent / "tiny_config.py"
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT))
# Batch statistics are a worker's own; everything else adds up over workers.
SHARED = ("--engine", "torch", "--precision", "fp32", "--no-batch-norm", "--train-data", "synthetic:12",
          "--log-every", "1")  # fmt: skip
pytestmark = pytest.mark.skipif(find_spec("torch") is None, reason="needs PyTorch: pip install torch")


def _start(*flags: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    command = [*TORCHRUN, *SHARED, *flags]
    return subprocess.Popen(command, cwd=PROJECT, env=environment, stderr=subprocess.PIPE, text=True)


def _losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_two_workers_equal_one_with_the_double_batch(tmp_path: Path) -> None:
    flags = ("--iterations", "4", "--output-dir")
    process = _start(*flags, str(tmp_path / "two"), "--batch-size", "2", "--val-data", "synthetic:4")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert errors.count("2 worker(s)") >= 1
    assert errors.count("finished at iteration 4") == 1
    assert run_config("tiny", *SHARED, *flags, str(tmp_path / "one"), "--batch-size", "4") == 0
    np.testing.assert_allclose(_losses(tmp_path / "two"), _losses(tmp_path / "one"), rtol=1e-4)
    (one, _), (two, _) = (newest_checkpoint(tmp_path / name / "checkpoints") for name in ("one", "two"))
    assert one is not None
    assert two is not None
    for name, value in one.arrays.items():
        np.testing.assert_allclose(two.arrays[name], value, atol=2e-5, err_msg=name)


def _wait_for(iteration: int, log: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 100
    while not (log.exists() and f'"iteration": {iteration},' in log.read_text()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_strangers_change_nothing_and_a_signal_stops_both_at_one_step(tmp_path: Path) -> None:
    process = _start("--iterations", "100000", "--output-dir", str(tmp_path), "--batch-size", "2")
    log = tmp_path / "metrics.jsonl"
    _wait_for(3, log, process)
    if sys.platform == "linux":
        ports = listening(family(process.pid))
        assert ports
        for port in ports:
            send_noise(port)
        _wait_for(len(log.read_text().splitlines()) + 20, log, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=100)
    checkpoint, _ = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None, errors
    assert f"at iteration {checkpoint.facts['iteration']}; go on with --resume" in errors
    assert "Connection closed by peer" not in errors
