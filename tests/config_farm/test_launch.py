"""Two workers and one server on loopback equal one worker with the double batch; a failure stops all."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from config_farm.launch import Options, start_all
from lffd.errors import UsageError
from lffd.training.checkpoint import newest_checkpoint
from lffd.training.run_log import read_metrics
from tests.config_farm.ports import family, listening
from tests.conftest import PROJECT

SCRIPT = Path(__file__).parent / "tiny_config.py"
# Batch statistics are a worker's own, and mining is a batch's own; everything else adds up over workers.
ADDING_UP = ("--no-batch-norm", "--iterations", "4", "--train-data", "synthetic:12", "--log-every", "1",
             "--engine", "mxnet")  # fmt: skip


def _launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "config_farm.launch", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT, timeout=120)


def test_two_workers_equal_one_with_the_double_batch(tmp_path: Path) -> None:
    run = [sys.executable, str(SCRIPT), *ADDING_UP]
    done = _launch("--workers", "2", "--", *run, "--kvstore", "dist_sync", "--batch-size", "2",
                   "--output-dir", str(tmp_path / "two"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    one = subprocess.run([*run, "--batch-size", "4", "--output-dir", str(tmp_path / "one")], check=False, cwd=PROJECT)
    assert one.returncode == 0
    (first, _), (second, _) = (newest_checkpoint(tmp_path / name / "checkpoints") for name in ("one", "two"))
    assert first is not None
    assert second is not None
    losses = [[e["loss"] for e in read_metrics(tmp_path / name / "metrics.jsonl")] for name in ("one", "two")]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    for name, value in first.arrays.items():
        np.testing.assert_allclose(second.arrays[name], value, atol=2e-5, err_msg=name)


def test_a_failing_worker_stops_everything_within_seconds() -> None:
    started = time.monotonic()
    done = _launch("--workers", "2", "--", sys.executable, "-c", "import sys; sys.exit(3)")
    assert done.returncode == 3
    assert "ended with code 3; stopping the others" in done.stderr
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(command=("x",), workers=0), "at least 1"),
        (Options(command=("x",), workers=2, local_workers=3), "at most --workers"),
        (Options(command=("x",), workers=2, local_workers=1), "give the same --port"),
        (Options(command=("x",), main=False), "give the same --port"),
        (Options(command=()), "give the training command after --"),
        (Options(command=("x",), address="10.0.0.5"), "--interface lo reaches no other machine"),
        (Options(command=("/no/such/python",)), "cannot be started: No such file"),
    ],
)
def test_plans_that_cannot_work_are_refused(options: Options, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        start_all(options)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends the children of a killed parent")
def test_a_killed_launcher_leaves_no_orphans(tmp_path: Path) -> None:
    """Workers, server and scheduler write their numbers; all of them are gone soon after the launcher."""
    code = f"import os, time; open(r'{tmp_path}/' + str(os.getpid()), 'w').close(); time.sleep(300)"
    command = [sys.executable, "-m", "config_farm.launch", "--workers", "2", "--", sys.executable, "-c", code]
    process = subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 4
    process.kill()
    process.wait()
    while any(_alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [child for child in children if _alive(child)]


def _alive(number: str) -> bool:
    status = Path(f"/proc/{number}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_setting_is_in_the_log_of_the_first_worker_only(tmp_path: Path) -> None:
    run = [sys.executable, str(SCRIPT), *ADDING_UP, "--kvstore", "dist_sync", "--output-dir", str(tmp_path)]
    done = _launch("--workers", "2", "--", *run)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("engine: mxnet on cpu, 2 worker(s)") == 1
    entries = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [entry["iteration"] for entry in entries] == [1, 2, 3, 4]


def test_a_signal_stops_all_workers_at_one_step_with_a_checkpoint(tmp_path: Path) -> None:
    run = [sys.executable, str(SCRIPT), *ADDING_UP, "--iterations", "100000", "--kvstore", "dist_sync"]
    command = [sys.executable, "-m", "config_farm.launch", "--workers", "2", "--", *run, "--output-dir", str(tmp_path)]
    process = subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE, text=True)
    log, deadline = tmp_path / "metrics.jsonl", time.monotonic() + 60
    while not (log.exists() and '"iteration": 3,' in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    if sys.platform == "linux":
        assert not listening(family(process.pid))  # strangers' bytes would end the run
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, errors
    checkpoint, _ = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    assert f"at iteration {checkpoint.facts['iteration']}; go on with --resume" in errors


def test_early_stop_stops_all_workers(tmp_path: Path) -> None:
    flags = ["--val-data", "synthetic:1", "--validate-every", "1", "--patience", "1", "--iterations", "1000"]
    run = [sys.executable, str(SCRIPT), *ADDING_UP, *flags, "--kvstore", "dist_sync", "--output-dir", str(tmp_path)]
    done = _launch("--workers", "2", "--", *run)
    assert done.returncode == 0, done.stderr
    assert "finished at iteration" in done.stderr
