"""Choosing an engine: names, precisions, what is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lffd.engines import Engine, factory
from lffd.engines.factory import AUTO_ORDER, ENGINES, EngineKind, create_engine, install_command
from lffd.engines.runtime import Runtime
from lffd.errors import EngineError, UsageError
from lffd.graphs.model import Model
from tests.factories import random_model


class _Fake:
    def __init__(self, name: str, device: str) -> None:
        self.name, self.device = name, device

    def run(self, images: object) -> list[object]:
        raise AssertionError("not for running")


def _kind(name: str, *, installed: bool = True, fails: str = "") -> EngineKind:
    """A stand-in for an engine that is there, missing, or there but broken."""

    def build(model: Model, runtime: Runtime) -> Engine:
        if fails:
            raise EngineError(fails)
        return _Fake(name, runtime.device)  # type: ignore[return-value]

    real = ENGINES[name]
    packages = ("json",) if installed else ("no_such_package",)
    return EngineKind(packages, real.extra, real.precisions, real.devices, build)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace all engines by stand-ins: `install(onnxruntime=True, openvino="reason it fails")`."""

    def replace(**engines: bool | str) -> None:
        table = {}
        for name in ENGINES:
            state = engines.get(name, False)
            table[name] = _kind(name, installed=bool(state), fails=state if isinstance(state, str) else "")
        monkeypatch.setattr(factory, "ENGINES", table)

    return replace


@pytest.mark.parametrize(
    ("installed", "precision", "device", "expected"),
    [
        ({"mxnet": True}, "fp32", "cpu", "mxnet"),
        ({"mxnet": True, "onnxruntime": True, "openvino": True}, "fp32", "cpu", "onnxruntime"),
        ({"mxnet": True, "openvino": True}, "fp32", "cpu", "openvino"),
        ({"mxnet": True, "onnxruntime": "its library is missing"}, "fp32", "cpu", "mxnet"),
        ({"mxnet": True, "onnxruntime": True, "openvino": True}, "int8", "cpu", "openvino"),
        ({"mxnet": True, "ncnn": True}, "bf16", "cpu", "ncnn"),
        ({"onnxruntime": "has no CUDA", "tensorrt": True}, "fp32", "gpu:0", "tensorrt"),
    ],
)
def test_auto_takes_the_first_that_works(
    install: Callable[..., None], installed: dict[str, bool | str], precision: str, device: str, expected: str
) -> None:
    install(**installed)
    assert create_engine(random_model(), Runtime(device=device, precision=precision)).name == expected


def test_auto_says_why_nothing_works(install: Callable[..., None]) -> None:
    install(openvino="no bf16 here")
    with pytest.raises(
        EngineError, match=r"no engine can run bf16 on cpu: openvino: no bf16 here; ncnn is not"
    ) as info:
        create_engine(random_model(), Runtime(precision="bf16"))
    assert "pip install -e '.[ncnn]'" in str(info.value)


@pytest.mark.parametrize("name", [name for name in ENGINES if name != "mxnet"])
def test_a_missing_engine_says_how_to_install_it(install: Callable[..., None], name: str) -> None:
    install(mxnet=True)
    command = rf"pip install -e '\.\[{ENGINES[name].extra}" if ENGINES[name].extra else r"pip install -e \."
    with pytest.raises(EngineError, match=f"engine {name} is not installed.*{command}"):
        create_engine(random_model(), Runtime(name))


def test_install_commands_name_extras_of_the_project(project: Path) -> None:
    text = (project / "pyproject.toml").read_text()
    for name, kind in ENGINES.items():
        assert not kind.extra or f"\n{kind.extra} = [" in text
        assert install_command(name).startswith("pip install ")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"engine": "onxruntime"}, UsageError, "did you mean onnxruntime"),
        ({"engine": "x"}, UsageError, "Choose auto or one of mxnet"),
        ({"precision": "fp64"}, UsageError, "unknown precision"),
        ({"threads": 0}, UsageError, "at least 1"),
        ({"engine": "mxnet", "precision": "int8"}, EngineError, "for int8 choose openvino or onnxruntime"),
        ({"engine": "ncnn", "device": "gpu:0"}, EngineError, "CPU only"),
        ({"engine": "onnxruntime", "device": "tpu"}, EngineError, "unknown device 'tpu'"),
        ({"engine": "onnxruntime", "device": "gpu:0"}, EngineError, "onnxruntime-gpu"),
        ({"engine": "openvino", "device": "gpu:7"}, EngineError, "OpenVINO sees CPU"),
        ({"engine": "onnxruntime", "precision": "int8"}, EngineError, "lffd quantize"),
        ({"engine": "openvino", "precision": "int8"}, EngineError, "lffd quantize"),
    ],
)
def test_requests_that_cannot_be_met(options: dict[str, object], error: type[Exception], message: str) -> None:
    name = options.get("engine")
    if error is EngineError and isinstance(name, str) and not ENGINES[name].installed:
        pytest.skip(f"{name} is not installed")
    with pytest.raises(error, match=message):
        create_engine(random_model(), Runtime(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize("failure", [ValueError("it broke\nin a stack"), KeyError(), EngineError("it broke")])
@pytest.mark.parametrize("name", ENGINES)
def test_every_failure_of_an_engine_names_the_model(
    name: str, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not ENGINES[name].installed or "cpu" not in ENGINES[name].devices:
        pytest.skip(f"{name} cannot run here")
    model = random_model()
    engine = create_engine(model, Runtime(name))

    def fail(images: object) -> None:
        raise failure

    monkeypatch.setattr(engine, "_forward", fail)
    with pytest.raises(EngineError, match=f"model {model.network.name}: .* failed on images of shape") as caught:
        engine.run(np.zeros((1, 200, 210, 3), np.uint8))
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("KeyError" if isinstance(failure, KeyError) else "it broke")


def test_every_precision_has_engines_that_know_it() -> None:
    for precision, order in AUTO_ORDER.items():
        assert order
        assert all(precision in ENGINES[name].precisions for name in order)


def test_mxnet_takes_its_threads_before_it_is_imported(monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    """In a fresh process the number is set; in one that has MXNet already, another number is refused."""
    code = (
        "import os; from lffd.engines.factory import create_engine; from lffd.engines.runtime import Runtime; "
        "from tests.factories import random_model; "
        "create_engine(random_model(), Runtime('mxnet', threads=1)); print(os.environ['OMP_NUM_THREADS'])"
    )
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=project, env=environment, check=True)
    assert done.stdout.strip() == "1"
    create_engine(random_model(), Runtime("mxnet"))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with pytest.raises(EngineError, match="OMP_NUM_THREADS=3"):
        create_engine(random_model(), Runtime("mxnet", threads=3))


def test_what_a_backend_raises_names_the_engine_and_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise KeyError("parameter name can't contain")

    monkeypatch.setattr("lffd.engines.onnxruntime_engine.OnnxRuntimeEngine.__init__", refuse)
    with pytest.raises(EngineError, match=r"engine onnxruntime cannot take model .*parameter name can't contain"):
        create_engine(random_model(), Runtime("onnxruntime"))
