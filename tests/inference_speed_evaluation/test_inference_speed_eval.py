"""The command from options to files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference_speed_evaluation.inference_speed_eval import Options, engine_pairs, load_weights, main, make_images
from lffd.engines.factory import ENGINES
from lffd.errors import EngineError, ModelError, UsageError
from lffd.graphs.model import save_model
from tests.factories import random_model

pytest.importorskip("onnxruntime")


def _options(**changes: Any) -> Options:
    settings: dict[str, Any] = {"model": ("plate_small",), "resolutions": ("160x140",), "rounds": 3, "seconds": 1.0}
    return Options(**{**settings, **changes})


def test_a_whole_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(random_model("plate_small"), tmp_path / "mine")
    files = {name: tmp_path / f"speed.{name}" for name in ("json", "csv", "plot")}
    files["plot"] = files["plot"].with_suffix(".png")
    main(
        _options(
            model=("plate_small", str(tmp_path / "mine")),
            engines=("mxnet", "onnxruntime"),
            precisions=("fp32", "int8"),
            batches=(2,),
            markdown=tmp_path / "speed.md",
            **files,
        )
    )
    content = json.loads(files["json"].read_text())
    rows = content["rows"]
    assert [(row["model"], row["engine"], row["precision"]) for row in rows] == [
        (model, *pair)
        for model in ("plate_small", "mine")
        for pair in (("mxnet", "fp32"), ("onnxruntime", "fp32"), ("onnxruntime", "int8"))
    ]
    assert [row["weights"] for row in rows] == ["random weights"] * 3 + ["mine"] * 3
    for row in rows[:5]:
        assert (row["resolution"], row["threads"], row["batch"], row["rounds"]) == ("160x140", 1, 2, 3)
        assert 0 < row["forward_ms"] < row["total_ms"]
        assert row["ratio_to_mxnet"] > 0
        assert row["peak_memory_mb"] > 20
    assert "lffd quantize" in rows[5]["error"]
    assert content["machine"]["matrix_gflops"]["1"] > 0
    assert files["csv"].read_text().count("\n") == 7
    assert "plate_small (random weights) mxnet fp32 |" in (tmp_path / "speed.md").read_text()
    assert "FPS)" in capsys.readouterr().out


def test_versions_without_trained_weights_are_labelled() -> None:
    for name in ("pedestrian", "30_320_20L_4scales_v1"):
        model, weights = load_weights(name)
        assert (model.network.name, weights) == ("30_320_20L_4scales_v1", "random weights")
    with pytest.raises(ModelError, match="unknown model"):
        load_weights("nothing-like-it")


def test_engines_take_part_in_what_they_can() -> None:
    pairs = engine_pairs(_options(precisions=("fp32", "int8")))
    assert ("mxnet", "fp32") in pairs
    assert ("mxnet", "int8") not in pairs
    assert all(ENGINES[name].installed and "cpu" in ENGINES[name].devices for name, _ in pairs)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"engines": ("mxnett",)}, UsageError, "did you mean mxnet"),
        ({"engines": ("tensorrt",)}, EngineError, "pip install"),
        ({"engines": ("mxnet",), "precisions": ("bf16",)}, UsageError, "add openvino or ncnn"),
        ({"resolutions": ("640*480",)}, UsageError, "is not a size"),
        ({"resolutions": ("640x480", "300x127")}, UsageError, "300x127: prediction enlarges images under 128 px"),
        ({"device": "gpu:0"}, EngineError, "nvidia-smi"),
        ({"model": ("peer:nothing=x.onnx",)}, UsageError, "nothing"),
    ],
)
def test_requests_that_cannot_be_met(
    changes: dict[str, Any], error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if changes.get("engines") == ("tensorrt",) and ENGINES["tensorrt"].installed:
        pytest.skip("tensorrt is installed")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(error, match=message):
        main(_options(**changes))


@pytest.mark.parametrize("changes", [{"threads": (0,)}, {"batches": (-1,)}, {"rounds": 0}, {"plot": Path("x.bmp")}])
def test_options_are_checked_before_any_work(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        _options(**changes)


def test_a_picture_is_stretched_to_every_size(tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), np.full((30, 40, 3), 77, np.uint8))
    images = make_images(_options(image=tmp_path / "a.png"), 64, 32, 3)
    assert images.shape == (3, 32, 64, 3)
    assert np.all(images == 77)
    noise = make_images(_options(), 64, 32, 2)
    assert noise.shape == (2, 32, 64, 3)
    assert noise.std() > 60
