"""The table of detectors: every figure in it is the one that the command for it gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from inference_speed_evaluation.comparison import Compared, Options, main, size_of, to_markdown
from lffd.errors import LffdError, UsageError
from lffd.graphs.model import save_model
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
    run = Options(
        model=(str(tmp_path / "mine"), slim(tmp_path / "slim.onnx")),
        images=tmp_path / "images",
        ground_truth=tmp_path / "truth",
        output_dir=output,
        resolution="160x128",
        seconds=0.1,
    )
    main(run)
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
    assert cv2.imread(str(output / "comparison.png")).std() > 5


def test_random_weights_are_marked_and_have_no_accuracy(tmp_path: Path) -> None:
    write_truth(tmp_path / "truth", {"a": {"one": ([[30, 40, 20, 20]], EVERYTHING)}})
    save_image(tmp_path, "a/one", (30, 40))
    output = tmp_path / "out"
    run = Options(
        model=("slim_320", slim(tmp_path / "slim.onnx")),
        images=tmp_path / "images",
        ground_truth=tmp_path / "truth",
        output_dir=output,
        resolution="640x480",
        seconds=0.1,
    )
    main(run)
    mine, peer = json.loads((output / "comparison.json").read_text())["rows"]
    assert mine["name"] == "slim_320 (random weights)"
    assert (mine["hard"], peer["hard"]) == (None, 1)
    assert mine["gmac"] == pytest.approx(0.08141056), "at 320×240, whatever the image's size"
    assert (mine["parameters"], mine["megabytes"]) == (257_916, pytest.approx(1.031664))
    assert not (output / "slim_320").exists()
    assert "slim_320 (random weights) | - / - / - |" in (output / "comparison.md").read_text()


def options(*models: str, **more: Any) -> Options:
    return Options(model=models, images=Path("i"), ground_truth=Path("g"), output_dir=Path("o"), **more)


@pytest.mark.parametrize(("models", "message"), [((), "at least one"), (("v2", "v2"), "named twice")])
def test_models_that_cannot_be_compared_are_refused(models: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        options(*models)


def test_results_stay_in_the_folder_whatever_a_model_is_called(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_model(random_model("plate_small"), tmp_path / name / "model")
    found = options(f"{tmp_path}/a/model", f"{tmp_path}/b/model", "v2=/x/y.params", "../z.params", ".", "face_light")
    assert found.names[0].endswith("a/model"), "two of one name are told apart by where they are"
    assert found.names[-1] == "face_light"
    for folder in found.folders:
        assert (Path("/o") / folder).resolve().parent == Path("/o")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"engine": "nonsense"}, "nonsense"),
        ({"threads": 0}, "threads"),
        ({"seconds": -1.0}, "seconds"),
        ({"resolution": "64x48"}, "64x48"),
        ({"image": Path("missing.png")}, r"missing\.png"),
    ],
)
def test_faults_are_said_before_the_long_work(more: dict[str, Any], message: str) -> None:
    with pytest.raises(LffdError, match=message):
        main(options("face_light", **more))


def test_a_figure_that_does_not_exist_is_a_dash() -> None:
    rows = [
        Compared("a", None, 0.5, None, 1, 1.0, 1.0, None, None),
        Compared("b", 1.0, 1.0, 0.25, 1, 1.0, 1.0, 2.0, 3.0),
    ]
    lines = to_markdown(rows, options("face_light"), "scope", "machine").splitlines()[-2:]
    assert lines[0].startswith("| b | 1.000 / 1.000 / .250 |")
    assert lines[0].endswith("| 2.0 (3.0) |")
    assert lines[1].startswith("| a | - / .500 / - |")
    assert lines[1].endswith("| - |")


def test_size_of_a_published_checkpoint(tmp_path: Path) -> None:
    model = random_model("plate_small")
    save_model(model, tmp_path / "mine")
    file = tmp_path / "rate=0.1" / "x.params"
    file.parent.mkdir()
    file.write_bytes((tmp_path / "mine" / "model.params").read_bytes())
    assert size_of(f"plate_small={file}", 640, 480) == size_of(str(tmp_path / "mine"), 640, 480)
