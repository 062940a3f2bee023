"""The benchmark of training engines: every figure asked for, GPU watching, and clear refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.engine_speed import Options, Rates, describe, parse_subject
from benchmarks.engine_speed_worker import watch_gpu
from lffd.errors import UsageError
from tests.conftest import PROJECT

MODULE = (sys.executable, "-m", "benchmarks.engine_speed")
SMALL = ("--versions", "plate_small", "--input-size", "256", "--batch-size", "1", "--rounds", "1", "--steps", "1",
         "--threads", "1")  # fmt: skip


def _run(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MODULE, *flags], capture_output=True, text=True, check=False, cwd=PROJECT, timeout=240)


def test_steps_batches_and_loop_of_what_is_installed(tmp_path: Path) -> None:
    figures = tmp_path / "speed.json"
    flags = (*SMALL, "--subjects", "mxnet:fp32", "mxnet:bf16", "--train-data", "synthetic:2", "--json", str(figures))
    done = _run(*flags)
    assert done.returncode == 0, done.stderr
    assert "left out: mxnet:bf16: precision bf16 needs --engine torch" in done.stdout
    (rates,) = json.loads(figures.read_text())["rates"]["plate_small"]
    assert rates["subject"] == "mxnet:fp32"
    assert all(len(rates[kind]) == 1 and rates[kind][0] > 0 for kind in ("steps", "batches", "loop"))
    assert rates["busy_steps"] == []
    assert "batches alone" in done.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--versions", "v9"), "unknown version 'v9'"),
        (("--subjects", "caffe:fp32"), "'caffe:fp32' is not ENGINE:PRECISION"),
        (("--steps", "0"), "error: steps must be at least 1"),
    ],
)
def test_mistakes_end_in_one_line(flags: tuple[str, ...], message: str) -> None:
    done = _run(*flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mxnet:fp32", {"engine": "mxnet", "precision": "fp32", "compiled": False}),
        ("torch:bf16:compiled", {"engine": "torch", "precision": "bf16", "compiled": True}),
    ],
)
def test_subjects_by_name(text: str, expected: dict[str, object]) -> None:
    assert parse_subject(text) == expected


@pytest.mark.parametrize("text", ["", "torch", "torch:int8", "torch:bf16:fast", "torch:bf16:compiled:more"])
def test_subjects_spelt_wrong_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not ENGINE:PRECISION\[:compiled\]"):
        parse_subject(text)


def test_the_report_compares_round_by_round() -> None:
    slow, fast = Rates("mxnet:fp32", steps=[10.0, 5.0, 10.0]), Rates("torch:bf16", steps=[30.0, 10.0, 20.0])
    fast.busy_steps, fast.loop = [90.0, 80.0], [19.0, 9.0, 18.0]
    fast.batches, fast.busy_loop = [50.0], [75.0]
    first, second = describe([slow, fast]).splitlines()
    assert first.split() == ["mxnet:fp32", "10.0", "images/s", "1.00", "×", "(1.00–1.00)"]
    assert "20.0 images/s   2.00 × (2.00–3.00)  GPU busy 85 %" in second
    assert second.endswith("batches alone 50.0, loop 18.0 (0.90 of steps), GPU busy 75 %")
    assert describe([]) == "  nothing of this can run here"


def test_the_gpu_is_watched_through_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\necho "$@" >&2\nprintf "90\\n70\\n[N/A]\\n"\nexec sleep 60\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with watch_gpu("cuda:1") as samples:
        subprocess.run(["sleep", "0.5"], check=True)
    assert samples == [90.0, 70.0]
    with watch_gpu("cpu") as samples:
        pass
    assert samples == []


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match="must be at least 1"):
        Options(rounds=0)
    with pytest.raises(UsageError, match="threads must be at least 1 and at most 1,024, not 9999999999"):
        Options(threads=9_999_999_999)
