from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from accuracy_evaluation.evaluation_on_pack import main
from data_provider_farm.pack_format.packed_file import PackWriter
from lffd.records import Record
from tests.accuracy_evaluation.made_up import run_command, write_onnx


def write_pack(path: Path, objects: list[list[list[float]]]) -> Path:
    """Write a pack of black 300×200 images with the given objects."""
    image = cv2.imencode(".jpg", np.zeros((200, 300, 3), np.uint8))[1].tobytes()
    with PackWriter(path) as writer:
        for number, boxes in enumerate(objects):
            array = np.array(boxes, np.float32).reshape(-1, 4)
            writer.add(Record(f"{number}.jpg", image, 300, 200, array, np.zeros(len(array), bool)))
    return path


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A detector that finds one box in the left half of every image."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    outputs = {"scores": np.zeros((1, 4420, 2)), "boxes": np.zeros((1, 4420, 4))}
    outputs["scores"][0, 0, 1], outputs["boxes"][0, 0] = 0.75, (1 / 6, 0.25, 0.5, 0.75)
    return f"peer:slim-320={write_onnx(tmp_path / 'slim.onnx', outputs, (1, 3, 240, 320))}"


def test_a_pack_is_evaluated(tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    here, there = [50.0, 50, 150, 150], [200.0, 20, 290, 120]
    pack = write_pack(tmp_path / "made_up.rec", [[here], [here, there], []])
    out, folder = tmp_path / "figures.json", tmp_path / "coco"
    options = ("--model", model, "--json", out, "--coco-dir", folder, "--counted-detections", "1")
    code, text, _ = run_command(capsys, main, "--pack", pack, *options)
    assert code == 0
    figures = json.loads(out.read_text())
    assert figures["ap50"] == pytest.approx(67 / 101)  # two of three objects, found before the false one
    assert (figures["images"], figures["objects"], figures["crowded_images"]) == (3, 3, 1)
    assert figures["ap_small"] is None
    assert "1 images have more than the 1 objects" in text
    truth, found = (json.loads((folder / name).read_text()) for name in ("ground_truth.json", "detections.json"))
    assert [image["file_name"] for image in truth["images"]] == ["0.jpg", "1.jpg", "2.jpg"]
    np.testing.assert_allclose([row["bbox"] for row in found], [[50, 50, 100, 100]] * 3, rtol=1e-6)


def test_an_empty_pack_and_a_missing_one_are_refused(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = write_pack(tmp_path / "empty.rec", [])
    for path, message in [(pack, "the pack holds no image"), (tmp_path / "none.rec", "none")]:
        code, _, fault = run_command(capsys, main, "--pack", path, "--model", model)
        assert code == 2
        assert message in fault
