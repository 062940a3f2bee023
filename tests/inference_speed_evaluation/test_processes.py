"""Worker processes: orders, answers, and everything that can go wrong with them."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detection.selection import Selection
from inference_speed_evaluation import processes
from inference_speed_evaluation.processes import WorkerProcess, serve
from inference_speed_evaluation.worker import Worker
from lffd.engines.runtime import Runtime
from lffd.errors import EngineError
from lffd.graphs.model import save_model
from tests.factories import random_model

pytest.importorskip("onnxruntime")


@pytest.fixture
def load(tmp_path: Path) -> dict[str, Any]:
    """An order to load a small model and two images."""
    save_model(random_model("plate_small"), tmp_path / "model")
    np.save(tmp_path / "images.npy", np.zeros((2, 140, 160, 3), np.uint8))
    return {
        "do": "load",
        "model": str(tmp_path / "model"),
        "images": str(tmp_path / "images.npy"),
        "runtime": asdict(Runtime("onnxruntime", threads=1)),
        "selection": asdict(Selection(score_threshold=0.5)),
    }


def _answers(*orders: dict[str, Any]) -> list[dict[str, Any]]:
    stream = io.StringIO()
    serve(io.StringIO("".join(json.dumps(order) + "\n" for order in orders)), stream, Worker().answer)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_pass_is_split_into_phases(load: dict[str, Any]) -> None:
    loaded, first, second = _answers(load, {"do": "pass"}, {"do": "pass"})
    assert loaded == {}
    for phases in (first, second):
        assert 0 < phases["forward"] < phases["total"]
        assert min(phases["decode"], phases["suppression"]) > 0
        assert phases["memory_mb"] > 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runtime": {"engine": "onnxruntime", "precision": "int8"}}, "lffd quantize"),
        ({"model": "nowhere"}, "not a model directory"),
        ({"runtime": {"engine": "nothing"}}, "unknown engine"),
        ({"model": "peer:nothing=x.onnx"}, "nothing"),
    ],
)
def test_what_cannot_be_loaded_is_answered(load: dict[str, Any], change: dict[str, Any], message: str) -> None:
    answer = _answers({**load, **change})[0]
    assert message in answer["error"]


def test_orders_in_the_wrong_order() -> None:
    assert "first order must be load" in _answers({"do": "pass"})[0]["error"]


def test_a_process_of_its_own(load: dict[str, Any]) -> None:
    with WorkerProcess(1, "mine") as worker:
        assert worker.ask(**load) == {}
        assert worker.ask(do="pass")["total"] > 0
        with pytest.raises(EngineError, match="mine: unknown order 'dance'"):
            worker.ask(do="dance")
        assert worker.ask(do="pass")["total"] > 0


def test_a_process_that_dies_says_how() -> None:
    with WorkerProcess(1, "mine") as worker, pytest.raises(EngineError, match=r"mine: its process ended with code 1: "):
        worker.ask(do="load", model="x", images="there is no such file")


def test_a_killed_process_is_reported() -> None:
    with WorkerProcess(1, "mine") as worker:
        worker._process.kill()
        with pytest.raises(EngineError, match="killed, probably for memory"):
            worker.ask(do="pass")


def test_a_silent_process_is_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "silent.py"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(processes, "ANSWER_SECONDS", 0.2)
    with WorkerProcess(1, "mine") as worker:
        with pytest.raises(EngineError, match=r"mine: no answer in 0\.2 s"):
            worker.ask(do="pass")
        assert worker._process.poll() is not None
