"""The command on a pack, with a detector that always finds the same face."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from accuracy_evaluation.landmark_error import main
from data_provider_farm.pack_format.packed_file import PackWriter
from lffd.points import SEEN
from lffd.records import Record
from tests.accuracy_evaluation.made_up import run_command
from tests.detection.peers.test_detector import scrfd, ultra_light

BOX, PLACE = (8, 0, 32, 32), (24, 16)
"""What `scrfd` finds: a box of 24×32 pixels, and five points at one place."""


def _pack(path: Path, boxes: list[tuple[float, ...]], places: list[list[tuple[float, float]] | None]) -> Path:
    image = cv2.imencode(".jpg", np.zeros((64, 96, 3), np.uint8))[1].tobytes()
    points = [[(0, 0, 0)] * 5 if each is None else [(x, y, SEEN) for x, y in each] for each in places]
    landmarks = np.array(points, np.float32).reshape(-1, 5, 3)
    ignored = np.zeros(len(boxes), np.bool_)
    with PackWriter(path) as writer:
        writer.add(Record("a.jpg", image, 96, 64, np.array(boxes, np.float32), ignored, landmarks))
        writer.add(Record("b.jpg", image, 96, 64, np.zeros((0, 4), np.float32), np.zeros(0, np.bool_)))
    return path


def test_a_detector_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = PLACE
    face = [(x - 9.0, y), (x + 9.0, y), (x, y), (x, y + 3.0), (x, y - 4.0)]  # off by 9, 9, 0, 3, 4 pixels
    pack = _pack(tmp_path / "a.rec", [BOX, (50, 10, 90, 60), (40, 0, 49, 9)], [face, face, None])
    model, out = f"peer:scrfd={scrfd(tmp_path / 'scrfd.onnx', 'side', 64, 96)}", tmp_path / "figures.json"
    code, text, _ = run_command(capsys, main, "--pack", pack, "--model", model, "--json", out)
    assert code == 0
    figures = json.loads(out.read_text())["sizes"]
    assert list(figures) == ["all", "32–64 px"]
    assert (figures["all"]["faces"], figures["all"]["found"]) == (2, 1)
    assert figures["all"]["nme_box"] == pytest.approx(5 / np.sqrt(24 * 32))
    assert figures["all"]["nme_eyes"] == pytest.approx(5 / 18)
    assert figures["all"]["failure_rate"] == 1
    assert "0.1804" in text


def test_what_cannot_be_measured_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack = _pack(tmp_path / "a.rec", [BOX], [None])
    with_points = f"peer:scrfd={scrfd(tmp_path / 'scrfd.onnx', 'side', 64, 96)}"
    without = f"peer:slim-320={ultra_light(tmp_path / 'slim.onnx', [], [])}"
    for model, flags, message in (
        (without, (), "finds no points"),
        (with_points, (), "no face of at least 0 px has five points"),
        (with_points, ("--least-iou", "0"), "--least-iou must"),
    ):
        code, _, fault = run_command(capsys, main, "--pack", pack, "--model", model, *flags)
        assert code == 2
        assert message in fault
