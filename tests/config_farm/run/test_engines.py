"""One run, two engines: it goes on with the other one, and its model has the same average precision."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from accuracy_evaluation.evaluation_on_pack import detect_records
from config_farm.run.engines import create_training_engine
from config_farm.run.experiment import recipe
from data_provider_farm.drawn_faces.pictures import synthetic_records
from detection.crew import Crew
from detection.detector import Detector
from lffd.engines.runtime import Runtime
from lffd.errors import EngineError, UsageError
from lffd.graphs.model import load_model
from lffd.training.choice import Choice, choose_training_engine
from lffd.training.initialization import initial_arrays
from metric_farm.average_precision import average_precision
from tests.config_farm import tiny_config
from tests.config_farm.test_configurations import run_config
from tests.conftest import PROJECT

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="needs PyTorch: pip install torch")


@needs_torch
@pytest.mark.parametrize(("first", "second"), [("mxnet", "torch"), ("torch", "mxnet")])
def test_a_run_resumes_with_the_other_engine(first: str, second: str, tmp_path: Path) -> None:
    flags = ("--log-every", "1", "--precision", "fp32", "--output-dir")
    assert run_config("tiny", "--engine", first, *flags, str(tmp_path / "one"), "--iterations", "12") == 0
    broken = tmp_path / "two"
    assert run_config("tiny", "--engine", first, *flags, str(broken), "--iterations", "12") == 0
    for late in ("00000012", "00000008"):
        (broken / "checkpoints" / f"iteration_{late}.npz").unlink()
    assert run_config("tiny", "--engine", second, "--resume", *flags, str(broken), "--iterations", "12") == 0
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)
    models = [load_model(tmp_path / name / "model").params for name in ("one", "two")]
    for name, value in models[0].items():
        np.testing.assert_allclose(models[1][name], value, atol=2e-3 * max(1.0, float(np.abs(value).max())))


@needs_torch
def test_a_model_has_the_same_average_precision_with_both_engines(tmp_path: Path) -> None:
    assert (
        run_config("tiny", "--output-dir", str(tmp_path), "--iterations", "800", "--train-data", "synthetic:60",
                   "--schedule.learning-rate", "0.01", "--checkpoint-every", "0")
        == 0
    )  # fmt: skip
    model, records = load_model(tmp_path / "model"), synthetic_records(40, size=64, seed=77)
    figures = []
    for engine in ("mxnet", "torch"):
        crew = Crew(lambda runtime: Detector(model, runtime=runtime), Runtime(engine))
        truth, found, _ = detect_records(crew, records)
        figures.append(average_precision(truth, found, 1000).ap50)
    assert figures[0] > 0.02, "an average precision of zero would prove nothing"
    assert figures[1] == pytest.approx(figures[0], abs=1e-3)


WITHOUT_MXNET = """
import runpy, sys
sys.modules["mxnet"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@needs_torch
def test_everything_works_where_mxnet_is_missing(tmp_path: Path) -> None:
    def run(*flags: str) -> str:
        command = [sys.executable, "-c", WITHOUT_MXNET, str(Path(tiny_config.__file__)), *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stderr

    common = ("--iterations", "4", "--val-data", "synthetic:4", "--output-dir")
    assert "engine: torch on cpu" in run(*common, str(tmp_path / "first"))
    tuned = run(*common, str(tmp_path / "second"), "--init-from", str(tmp_path / "first" / "model"))
    assert f"from {tmp_path / 'first' / 'model'}" in tuned
    assert load_model(tmp_path / "second" / "model").card["training"]["engine"].startswith("torch")


@pytest.mark.parametrize(
    ("installed", "asked", "expected"),
    [
        ({"mxnet"}, ("auto", "cpu", "auto"), Choice("mxnet", "fp32")),
        ({"mxnet", "torch"}, ("mxnet", "cpu", "auto"), Choice("mxnet", "fp32")),
        ({"mxnet", "torch"}, ("auto", "cpu", "auto", True), Choice("mxnet", "fp32")),
    ],
)
def test_what_auto_means(installed: set[str], asked: tuple, expected: Choice, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(installed, monkeypatch)
    assert choose_training_engine(*asked) == expected


@pytest.mark.parametrize(
    ("installed", "asked", "error", "message"),
    [
        ({"torch"}, ("mxnet", "cpu", "auto"), EngineError, "engine mxnet is not installed; install it with"),
        ({"mxnet"}, ("torch", "cpu", "auto"), EngineError, r"pip install -e '.\[torch\]'"),
        (
            set(),
            ("auto", "cpu", "auto"),
            EngineError,
            "no engine that trains is installed; install one",
        ),
        ({"mxnet"}, ("mxnet", "cpu", "bf16"), UsageError, "precision bf16 needs --engine torch"),
        ({"mxnet", "torch"}, ("torch", "cpu", "auto", True), UsageError, "--kvstore is MXNet's; .* torchrun"),
        ({"mxnet", "torch"}, ("torch", "gpu:0,gpu:1", "auto"), UsageError, "torchrun --nproc-per-node 2"),
    ],
)
def test_what_cannot_train_is_refused(
    installed: set[str], asked: tuple, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pretend(installed, monkeypatch)
    with pytest.raises(error, match=message):
        choose_training_engine(*asked)


def _pretend(installed: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lffd.training.choice._installed", lambda name: name in installed)


@needs_torch
def test_auto_is_torch_where_it_is_installed() -> None:
    from lffd.engines.torch_devices import computes_bf16, parse_device

    fitting = "bf16" if computes_bf16(parse_device("cpu")) else "fp32"
    assert choose_training_engine("auto", "cpu", "auto") == Choice("torch", fitting)
    assert choose_training_engine("auto", "cpu", "fp32") == Choice("torch", "fp32")
    initial = initial_arrays(tiny_config.NETWORK, True, 0, "prior")
    assert create_training_engine(tiny_config.NETWORK, recipe(tiny_config.NETWORK, "ours"), initial).name == "torch"
