"""ONNX Runtime on devices that are, and are not, there; nothing here runs on a GPU."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lffd.engines.onnxruntime_engine import OnnxRuntimeEngine, open_session
from lffd.errors import EngineError
from lffd.graphs.onnx_graph import maps_onnx
from tests.factories import random_model

pytest.importorskip("onnxruntime")


def _runtime(available: list[str], working: list[str]) -> Any:
    """A stand-in for a build with `available` providers of which `working` start."""
    made: list[Any] = []
    seen: list[Any] = []

    def open_it(content: bytes, options: Any, providers: list[Any]) -> Any:
        made.append(providers)
        seen.append(options)
        return SimpleNamespace(get_providers=lambda: working)

    return SimpleNamespace(
        SessionOptions=SimpleNamespace,
        InferenceSession=open_it,
        get_available_providers=lambda: available,
        made=made,
        options=seen,
    )


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Put a stand-in in the place of ONNX Runtime."""

    def put(available: list[str], used: list[str]) -> Any:
        runtime = _runtime(available, used)
        monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
        return runtime

    return put


def test_cuda_takes_the_card_of_that_number(install: Callable[..., Any]) -> None:
    runtime = install(["CUDAExecutionProvider"], ["CUDAExecutionProvider", "CPUExecutionProvider"])
    open_session(b"", "gpu:2")
    assert runtime.made == [[("CUDAExecutionProvider", {"device_id": 2})]]


def test_cpu_never_serves_what_was_asked_of_a_gpu(install: Callable[..., Any]) -> None:
    install(["CUDAExecutionProvider"], ["CPUExecutionProvider"])
    with pytest.raises(EngineError, match="fell back to CPU"):
        open_session(b"", "gpu:0")
    install(["CPUExecutionProvider"], [])
    with pytest.raises(EngineError, match="pip install onnxruntime-gpu"):
        open_session(b"", "gpu:0")


def test_a_file_that_is_no_graph() -> None:
    with pytest.raises(EngineError, match="ONNX Runtime refuses the graph: "):
        open_session(b"not a graph")


def test_threads_are_handed_over(install: Callable[..., Any]) -> None:
    runtime = install([], ["CPUExecutionProvider"])
    open_session(b"", threads=3)
    open_session(b"")
    assert runtime.options[0].intra_op_num_threads == 3
    assert not hasattr(runtime.options[1], "intra_op_num_threads")


def test_a_failure_while_running_names_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = OnnxRuntimeEngine(random_model())
    graph = maps_onnx(random_model(), "nchw-float").SerializeToString()
    monkeypatch.setattr(engine, "_session", open_session(graph))
    with pytest.raises(EngineError, match=r"failed on images of shape \(1, 140, 150, 3\)"):
        engine.run(np.zeros((1, 140, 150, 3), np.uint8))
