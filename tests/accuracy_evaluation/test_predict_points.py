"""Points on the command line: tables, aligned faces, and models that have none."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from accuracy_evaluation.predict import main
from lffd.files import RECORD
from lffd.graphs.landmarks import with_landmarks
from lffd.graphs.model import make_model, save_model
from lffd.training.initialization import initial_arrays
from symbol_farm.versions import version_network
from tests.accuracy_evaluation.made_up import run_command
from tests.detection.peers.test_detector import scrfd, ultra_light


def _picture(path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    cv2.imwrite(str(path), pixels)
    return path


def test_a_peers_points_are_written_and_align_its_faces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, model = _picture(tmp_path / "a.png"), f"peer:scrfd={scrfd(tmp_path / 'scrfd.onnx', 'side', 64, 96)}"
    faces = tmp_path / "faces"
    outputs = ("--save-aligned", faces, "--json", tmp_path / "a.json", "--csv", tmp_path / "a.csv")
    for _ in range(2):  # its own files may be replaced
        code, text, _ = run_command(capsys, main, picture, "--model", model, *outputs)
        assert code == 0
    assert f"aligned faces: {faces}" in text
    assert sorted(path.name for path in faces.rglob("*") if path.name != RECORD) == ["0000.png", "a.png"]
    assert cv2.imread(str(faces / "a.png" / "0000.png")).shape == (112, 112, 3)
    (entry,) = json.loads((tmp_path / "a.json").read_text())
    assert entry["detections"][0]["landmarks"] == [[24, 16]] * 5
    (row,) = csv.DictReader((tmp_path / "a.csv").read_text().splitlines())
    assert (row["left_eye_x"], row["right_mouth_y"]) == ("24.0", "16.0")
    assert not (tmp_path / "predictions").exists()


def test_a_model_of_ours_with_points(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = with_landmarks(version_network("nano"))
    arrays = initial_arrays(network, batch_norm=False, seed=0, style="prior")
    params = {name.removeprefix("arg:"): value for name, value in arrays.items()}
    params |= {name: np.zeros_like(value) for name, value in params.items() if name.endswith("_box_weight")}
    save_model(make_model(network, params), tmp_path / "model")
    picture = _picture(tmp_path / "a.png")
    flags = ("--save-aligned", tmp_path / "faces", "--score-threshold", "0", "--max-detections", "3")
    code, _, fault = run_command(capsys, main, picture, "--model", tmp_path / "model", *flags)
    assert (code, fault.count("error")) == (0, 0)
    assert len(list((tmp_path / "faces").rglob("0*.png"))) == 3


def test_models_without_points_are_refused_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, folder = _picture(tmp_path / "a.png"), tmp_path / "out"
    for model in (f"peer:slim-320={ultra_light(tmp_path / 'slim.onnx', [], [])}", "face_light"):
        flags = ("--save-aligned", tmp_path / "faces", "--output-dir", folder)
        code, _, fault = run_command(capsys, main, picture, "--model", model, *flags)
        assert code == 2
        assert "finds no points" in fault
    code, _, fault = run_command(capsys, main, picture, "--save-aligned", folder, "--output-dir", folder)
    assert "needs a folder of its own" in fault
    assert not folder.exists()
    assert not (tmp_path / "faces").exists()
