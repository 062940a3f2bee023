"""A run killed with SIGKILL and resumed ends with the same parameters, bit for bit, as one that never stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lffd.training.checkpoint import checkpoint_files, newest_checkpoint
from tests.conftest import PROJECT

SCRIPT = Path(__file__).parent / "tiny_config.py"

KILLER = """
import os, runpy, signal, sys
import lffd.training.checkpoint as checkpoint, lffd.training.loop as loop
moment = sys.argv[1]
whole, step, check = checkpoint.write_atomic, loop.Trainer._step, loop.Trainer._check

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def half(path, data):
    if moment == "during a checkpoint" and "iteration_00000008" in str(path):
        with open(path.with_name(f".{path.name}.{os.getpid()}.tmp"), "wb") as stream:
            stream.write(data[: len(data) // 2])
            stream.flush()
            os.fsync(stream.fileno())
        die()
    whole(path, data)

def counted(self, batches):
    step(self, batches)
    if self.progress.iteration == {"before the first checkpoint": 2, "between checkpoints": 6}.get(moment):
        die()

def checked(self):
    save = self._save
    if moment == "after keeping the best" and self.progress.iteration == 6:
        self._save = die
    check(self)
    self._save = save

checkpoint.write_atomic, loop.Trainer._step, loop.Trainer._check = half, counted, checked
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

VALIDATED = ("--val-data", "synthetic:3", "--validate-every", "3")


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


@pytest.mark.parametrize(
    ("moment", "start"),
    [("before the first checkpoint", 0), ("between checkpoints", 4), ("during a checkpoint", 4)],
)
def test_killed_and_resumed_is_the_run_that_never_stopped(
    moment: str, start: int, unbroken: bytes, tmp_path: Path
) -> None:
    killed = _run([sys.executable, "-c", KILLER, moment, *_command(tmp_path)[1:]])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "model").exists()
    if moment == "during a checkpoint":
        assert [path.name for path in checkpoint_files(tmp_path / "checkpoints")] == ["iteration_00000004.npz"]
        assert any(path.name.endswith(".tmp") for path in (tmp_path / "checkpoints").iterdir())
    resumed = _run(_command(tmp_path, "--resume"))
    assert resumed.returncode == 0, resumed.stderr
    assert (tmp_path / "model" / "model.params").read_bytes() == unbroken
    assert f"start: iteration {start} of 12" in resumed.stderr


def test_killed_between_keeping_the_best_and_saving_that(tmp_path: Path) -> None:
    whole = _run(_command(tmp_path / "whole", *VALIDATED))
    assert whole.returncode == 0, whole.stderr
    killed = _run([sys.executable, "-c", KILLER, "after keeping the best", *_command(tmp_path / "cut", *VALIDATED)[1:]])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = _run(_command(tmp_path / "cut", *VALIDATED, "--resume"))
    assert resumed.returncode == 0, resumed.stderr
    assert "start: iteration 6 of 12" in resumed.stderr
    (first, _), (second, _) = (newest_checkpoint(tmp_path / name / "checkpoints") for name in ("whole", "cut"))
    assert first is not None
    assert second is not None
    for fact in ("best_score", "best_iteration", "without_gain", "validation_owed"):
        assert second.facts[fact] == first.facts[fact]
    for name in ("model", "best"):
        params = [(tmp_path / run / name / "model.params").read_bytes() for run in ("whole", "cut")]
        assert params[0] == params[1]


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
