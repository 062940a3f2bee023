"""A run killed with SIGKILL and resumed ends with the same parameters, bit for bit, as one that never stopped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lffd.checkpoint import checkpoint_files
from tests.conftest import PROJECT

SCRIPT = Path(__file__).parent / "tiny_config.py"

KILLED_WHILE_WRITING = """
import os, runpy, signal, sys
import lffd.checkpoint
whole = lffd.checkpoint.write_atomic

def half(path, data):
    if "iteration_00000008" in str(path):  # the second checkpoint: half of it reaches the disk under a temporary name
        with open(path.with_name(f".{path.name}.{os.getpid()}.tmp"), "wb") as stream:
            stream.write(data[: len(data) // 2])
            stream.flush()
            os.fsync(stream.fileno())
        os.kill(os.getpid(), signal.SIGKILL)
    whole(path, data)

lffd.checkpoint.write_atomic = half
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def _command(folder: Path, *more: str) -> list[str]:
    return [sys.executable, str(SCRIPT), "--output-dir", str(folder), *more]


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT, timeout=120)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("unbroken")
    done = _run(_command(folder))
    assert done.returncode == 0, done.stderr
    return (folder / "model" / "model.params").read_bytes()


def _kill_at(folder: Path, seen: str) -> None:
    """Start a run and kill it as soon as its log holds `seen`."""
    process = subprocess.Popen(_command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=PROJECT)
    log, deadline = folder / "metrics.jsonl", time.monotonic() + 60
    while not (log.exists() and seen in log.read_text()):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("moment", ["before the first checkpoint", "between checkpoints", "during a checkpoint"])
def test_killed_and_resumed_is_the_run_that_never_stopped(moment: str, unbroken: bytes, tmp_path: Path) -> None:
    if moment == "before the first checkpoint":
        _kill_at(tmp_path, '"iteration": 2')
    elif moment == "between checkpoints":
        _kill_at(tmp_path, '"iteration": 6')
    else:
        done = _run([sys.executable, "-c", KILLED_WHILE_WRITING, *_command(tmp_path)[1:]])
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert [path.name for path in checkpoint_files(tmp_path / "checkpoints")] == ["iteration_00000004.npz"]
        assert any(path.name.endswith(".tmp") for path in (tmp_path / "checkpoints").iterdir())
    assert not (tmp_path / "model").exists()
    resumed = _run(_command(tmp_path, "--resume"))
    assert resumed.returncode == 0, resumed.stderr
    assert (tmp_path / "model" / "model.params").read_bytes() == unbroken
    start = re.search(r"start: iteration (\d+) of 12", resumed.stderr)
    assert start is not None
    assert int(start[1]) == {"before": 0, "between": 4, "during": 4}[moment.split(maxsplit=1)[0]]


def test_sigterm_writes_a_checkpoint_and_says_how_to_go_on(unbroken: bytes, tmp_path: Path) -> None:
    process = subprocess.Popen(_command(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=PROJECT)
    log = tmp_path / "metrics.jsonl"
    while not (log.exists() and '"iteration": 2' in log.read_text()) and process.poll() is None:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert b"go on with --resume" in errors
    resumed = _run(_command(tmp_path, "--resume"))
    assert resumed.returncode == 0, resumed.stderr
    assert (tmp_path / "model" / "model.params").read_bytes() == unbroken
