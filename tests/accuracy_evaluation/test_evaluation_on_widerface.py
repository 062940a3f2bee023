from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from accuracy_evaluation.evaluation_on_widerface import main
from detection.detections import Detections, ImageDetector
from detection.load import ModelFacts
from lffd.graphs.model import save_model
from symbol_farm.versions import version_network
from tests.accuracy_evaluation.made_up import run_command, write_truth
from tests.factories import random_model

EVERYTHING = ([1], [1], [1])


class FindsBrightest:
    """Finds the 20×20 square at the corner of each image, and a square that is not there."""

    name = "brightest"
    has_landmarks = False

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, image: np.ndarray, /) -> Detections:
        self.calls += 1
        x, y = (int(value) for value in image[0, 0, :2])
        boxes = np.array([[x, y, x + 20, y + 20], [200, 200, 215.5, 215.5]], np.float32)
        return Detections(boxes, np.array([0.9, 0.1], np.float32), None, np.array([1, 0], np.int8))


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> FindsBrightest:
    found = FindsBrightest()

    def load(*options: object) -> ImageDetector:
        return found

    def facts(spec: str) -> ModelFacts:
        return ModelFacts(spec, "10_160_17L_4scales_v1", spec * 8, version_network("head"))

    monkeypatch.setattr("accuracy_evaluation.evaluation_on_widerface.load_detector", load)
    monkeypatch.setattr("accuracy_evaluation.evaluation_on_widerface.model_facts", facts)
    return found


@pytest.fixture
def arguments(tmp_path: Path) -> list[str | Path]:
    """Two images of which the second is missing; a 20×20 face each."""
    truth = {"a": {"one": ([[30, 40, 20, 20]], EVERYTHING)}, "b": {"two": ([[50, 60, 20, 20]], EVERYTHING)}}
    write_truth(tmp_path / "truth", truth)
    save_image(tmp_path, "a/one", (30, 40))
    paths = {"images": "images", "ground-truth": "truth", "output-dir": "out", "json": "figures.json"}
    return [part for name, path in paths.items() for part in (f"--{name}", tmp_path / path)] + ["--model", "m"]


def save_image(root: Path, name: str, corner: tuple[int, int]) -> None:
    path = root / f"images/{name}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((100, 120, 3), np.uint8)
    pixels[..., :2] = corner
    cv2.imwrite(str(path.with_suffix(".png")), pixels)  # a PNG keeps the numbers exact; decoders go by content
    path.with_suffix(".png").rename(path)


def test_results_figures_plots_and_tables_are_written(
    tmp_path: Path, detector: FindsBrightest, arguments: list[str | Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, text, _ = run_command(capsys, main, *arguments, "--events")
    assert code == 0
    out = tmp_path / "out"
    expected = "one\n2\n30.000 40.000 20.000 20.000 0.899999976\n200.000 200.000 15.500 15.500 0.100000001\n"
    assert (out / "a/one.txt").read_text() == expected
    assert (out / "branches/a/one.txt").read_text() == "one\n2\n1\n0\n"
    assert (out / "precision_recall.png").is_file()
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert json.loads((out / "report.json").read_text()) == figures
    assert [figures[name] for name in ("easy", "medium", "hard", "images", "images_total")] == [1, 1, 1, 1, 2]
    assert figures["recall_by_branch"][2] == {
        "branch": 1,
        "low": 20,
        "high": 40,
        "faces": 1,
        "recall": 1,
        "working_recall": 1,
        "found_by": [0, 1, 0, 0],
    }
    assert "only the 1 images present of 2" in text
    assert "  a (1)" in text


def test_a_run_goes_on_where_it_stopped(
    tmp_path: Path, detector: FindsBrightest, arguments: list[str | Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run_command(capsys, main, *arguments)
    save_image(tmp_path, "b/two", (50, 60))
    code, text, _ = run_command(capsys, main, *arguments)
    assert (code, detector.calls) == (0, 2)
    assert "1 of 2 images already have results" in text
    for damaged in (tmp_path / "out/a/one.txt", tmp_path / "out/branches/b/two.txt"):
        damaged.write_text(damaged.read_text()[:-12])
    run_command(capsys, main, *arguments)
    assert detector.calls == 4
    assert json.loads((tmp_path / "figures.json").read_text())["hard"] == 1


def test_a_model_that_cannot_be_loaded_leaves_nothing_behind(
    tmp_path: Path, arguments: list[str | Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "a.onnx").write_bytes(b"not a model")
    code, _, fault = run_command(capsys, main, *arguments, "--model", f"peer:yunet={tmp_path / 'a.onnx'}")
    assert code == 2
    assert "a.onnx" in fault
    assert not (tmp_path / "out").exists()


def test_results_of_another_model_or_format_are_not_mixed(
    tmp_path: Path, detector: FindsBrightest, arguments: list[str | Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run_command(capsys, main, *arguments)
    for change in (["--model", "n"], ["--published-format"], ["--score-threshold", "0.3"]):
        code, _, fault = run_command(capsys, main, *arguments, *change)
        assert code == 2
        assert "holds results of another run" in fault
    assert detector.calls == 1
    stale = tmp_path / "out/b/two.txt"  # of an image that is no longer there
    stale.parent.mkdir()
    stale.touch()
    assert run_command(capsys, main, *arguments, "--model", "n", "--overwrite")[0] == 0
    assert detector.calls == 2
    assert not stale.exists()


def test_one_of_our_networks_is_evaluated_with_its_branches(
    tmp_path: Path, arguments: list[str | Path], capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(random_model("plate_small"), tmp_path / "model")
    code, text, fault = run_command(
        capsys, main, *arguments, "--model", tmp_path / "model", "--score-threshold", "0", "--max-detections", "20"
    )
    assert code == 0, fault
    boxes, branches = (len((tmp_path / f"out/{part}a/one.txt").read_text().split("\n")) for part in ("", "branches/"))
    assert boxes == branches > 3
    assert len(json.loads((tmp_path / "figures.json").read_text())["recall_by_branch"]) == 5
    assert "range of the responsible branch" in text


@pytest.mark.parametrize(
    ("published", "asked", "floor"), [(False, 0.02, 0.02), (True, 0.02, 0.11), (True, 0.3, 0.3), (False, 0.3, 0.3)]
)
def test_the_published_format_raises_the_floor(
    tmp_path: Path,
    detector: FindsBrightest,
    arguments: list[str | Path],
    capsys: pytest.CaptureFixture[str],
    published: bool,
    asked: float,
    floor: float,
) -> None:
    more = ["--published-format"] if published else []
    assert run_command(capsys, main, *arguments, "--score-threshold", str(asked), *more)[0] == 0
    assert json.loads((tmp_path / "out/run.json").read_text())["selection"]["score_threshold"] == floor


def test_our_networks_reach_the_precision_of_the_files_that_they_load(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Slim-320's numbers in our network, on images that are stretched to 320×240."""
    pytest.importorskip("onnxruntime")
    expected = json.loads((shared / "peers/reference_ap.json").read_text())["slim_320"]
    code, _, fault = run_command(
        capsys,
        main,
        *("--model", f"slim_320={shared / 'peers/slim_320.onnx'}", "--faces-over", "64"),
        *("--images", shared / "data/widerface/WIDER_val/images"),
        *("--ground-truth", shared / "data/widerface/wider_face_split"),
        *("--output-dir", tmp_path / "out", "--json", tmp_path / "figures.json", "--threads", "1"),
    )
    assert code == 0, fault
    figures = json.loads((tmp_path / "figures.json").read_text())
    for subset, precision in expected.items():
        assert figures[subset] == pytest.approx(precision, abs=1e-3)
    assert figures["faces_over"][0]["faces"] == 370
    assert figures["faces_over"][0]["average_precision"] > figures["hard"]


def test_peers_reach_their_independently_measured_precision(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    expected = json.loads((shared / "peers/reference_ap.json").read_text())["yunet_s"]
    code, _, fault = run_command(
        capsys,
        main,
        *("--model", f"peer:yunet={shared / 'peers/yunet_s_dynamic.onnx'}"),
        *("--images", shared / "data/widerface/WIDER_val/images"),
        *("--ground-truth", shared / "data/widerface/wider_face_split"),
        *("--output-dir", tmp_path / "out", "--json", tmp_path / "figures.json", "--threads", "1"),
    )
    assert code == 0, fault
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["images"] == 308
    for subset, precision in expected.items():
        assert figures[subset] == pytest.approx(precision, abs=0.002)
