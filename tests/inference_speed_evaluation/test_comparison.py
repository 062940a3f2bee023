"""The table of detectors: every figure in it is the one that the command for it gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from inference_speed_evaluation.comparison import Options, main, size_of
from lffd.errors import UsageError
from lffd.model import save_model
from tests.accuracy_evaluation.made_up import write_onnx, write_truth
from tests.accuracy_evaluation.test_evaluation_on_widerface import EVERYTHING, save_image
from tests.factories import random_model

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def slim(path: Path) -> str:
    """A detector that finds the face of the first image, and nothing else."""
    boxes, scores = np.zeros((1, 4420, 4), np.float32), np.zeros((1, 4420, 2), np.float32)
    boxes[0, 0], scores[0, 0, 1] = (30 / 120, 40 / 100, 50 / 120, 60 / 100), 0.9
    return f"peer:slim-320={write_onnx(path, {'scores': scores, 'boxes': boxes}, (1, 3, 240, 320))}"


def test_accuracy_size_and_latency_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = {"a": {"one": ([[30, 40, 20, 20]], EVERYTHING)}, "b": {"two": ([[50, 60, 20, 20]], EVERYTHING)}}
    write_truth(tmp_path / "truth", truth)
    save_image(tmp_path, "a/one", (30, 40))
    model = random_model("plate_small")
    save_model(model, tmp_path / "mine")
    output = tmp_path / "out"
    options = Options(
        model=(str(tmp_path / "mine"), slim(tmp_path / "slim.onnx")),
        images=tmp_path / "images",
        ground_truth=tmp_path / "truth",
        output_dir=output,
        resolution="160x128",
        seconds=0.1,
    )
    main(options)
    mine, peer = json.loads((output / "comparison.json").read_text())["rows"]
    assert mine["parameters"] == 486_866
    assert mine["megabytes"] == pytest.approx(4 * 486_866 / 1e6, rel=0.01)
    assert mine["gmac"] == pytest.approx(sum(model.network.multiply_adds(128, 160).values()) / 1e9)
    report = json.loads((output / "mine" / "report.json").read_text())
    assert [mine[name] for name in ("easy", "medium", "hard")] == [report[name] for name in ("easy", "medium", "hard")]
    assert peer["hard"] == 1, "it finds the only face of the images that are there"
    assert min(mine["milliseconds"], peer["milliseconds"]) > 0
    table = (output / "comparison.md").read_text()
    assert table in capsys.readouterr().out
    lines = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert [line.split(" | ")[0] for line in lines] == ["| slim-320:slim.onnx", "| mine"], "best first"


def test_models_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="same name"):
        Options(model=("v2", "v2"), images=tmp_path, ground_truth=tmp_path, output_dir=tmp_path)


def test_size_of_a_published_checkpoint(tmp_path: Path) -> None:
    model = random_model("plate_small")
    save_model(model, tmp_path / "mine")
    file = tmp_path / "x.params"
    file.write_bytes((tmp_path / "mine" / "model.params").read_bytes())
    assert size_of(f"plate_small={file}", 640, 480) == size_of(str(tmp_path / "mine"), 640, 480)
