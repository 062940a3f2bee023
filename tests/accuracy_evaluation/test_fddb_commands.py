from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from accuracy_evaluation import evaluation_on_fddb, fddb_roc
from tests.accuracy_evaluation.made_up import run_command, write_onnx


@pytest.fixture
def folds(tmp_path: Path) -> Path:
    """Two folds with one 300×200 image each; the second face reaches over the right border."""
    folder = tmp_path / "annotations"
    folder.mkdir()
    (folder / "FDDB-fold-01-ellipseList.txt").write_text("d/one\n1\n50 50 0 100 100 1\n")
    (folder / "FDDB-fold-02-ellipseList.txt").write_text("d/two\n1\n50 50 0 300 100  1\n")
    for name in ("one", "two"):
        path = tmp_path / f"images/d/{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((200, 300, 3), np.uint8))
    return folder


RESULT = "d/two\n1\n250 50 50 100 0.9\nd/one\n2\n50 50 100 100 0.8\n0 0 9 9 0.3\n"


def test_a_published_detector_has_its_published_curve(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shared / "data/fddb"
    out = tmp_path / "roc.json"
    code, text, _ = run_command(
        capsys, fddb_roc.main, folder / "example/fddb_faceboxes_result.txt", folder, "--json", out
    )
    assert code == 0
    assert "slight under-estimates" in text
    figures = json.loads(out.read_text())
    assert (figures["images"], figures["faces"], figures["detections"]) == (2845, 5171, 14844)
    assert len(figures["folds"]) == 10
    for kind, name in (("discrete", "DiscROC"), ("continuous", "ContROC")):
        published = np.loadtxt(folder / f"example/fddb_faceboxes_{name}.txt", usecols=(0, 1))
        for count in (100, 500, 1000):
            rate = max(rate for false_positives, rate in figures[kind] if false_positives <= count)
            expected = published[published[:, 1] <= count, 0].max()
            assert expected - 0.012 <= rate <= expected + 0.001


@pytest.mark.parametrize(
    ("options", "exact", "overlap_of_two"),
    [
        ([], False, 2500 * np.pi / 2 / (5000 + 2500 * np.pi / 2)),
        (["--images", "images"], True, np.pi / 4),
        (["--image-sizes", "sizes.txt"], True, np.pi / 4),
    ],
)
def test_with_image_sizes_the_clip_is_exact(
    tmp_path: Path,
    folds: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    exact: bool,
    overlap_of_two: float,
) -> None:
    (tmp_path / "result.txt").write_text(RESULT)
    (tmp_path / "sizes.txt").write_text("d/one 300 200\nd/two 300 200\n")
    paths = [part if part.startswith("--") else str(tmp_path / part) for part in options]
    out = tmp_path / "roc.json"
    code, text, _ = run_command(capsys, fddb_roc.main, tmp_path / "result.txt", folds, "--json", out, *paths)
    assert code == 0
    assert ("slight under-estimates" in text) != exact
    figures = json.loads(out.read_text())
    assert figures["clipped_at_image_border"] == exact
    assert figures["continuous"][-1][1] == pytest.approx((np.pi / 4 + overlap_of_two) / 2)
    assert figures["discrete"] == ([[0, 1], [1, 1]] if exact else [[0, 0], [1, 0.5], [2, 0.5]])


def test_wrong_requests_are_refused(tmp_path: Path, folds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = tmp_path / "result.txt"
    result.write_text(RESULT)
    for options, message in [
        (("--images", tmp_path, "--image-sizes", result), "not both"),
        (("--images", tmp_path), "2 of 2 images are missing"),
        (("--image-sizes", result), "result.txt:1: expected an image's name, width and height"),
    ]:
        code, _, fault = run_command(capsys, fddb_roc.main, result, folds, *options)
        assert code == 2
        assert message in fault


def test_plots_are_drawn(tmp_path: Path, folds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "result.txt").write_text(RESULT)
    run_command(capsys, fddb_roc.main, tmp_path / "result.txt", folds, "--plot-dir", tmp_path / "plots")
    names = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert names == ["roc_continuous.png", "roc_discrete.png"]


@pytest.fixture
def evaluation(tmp_path: Path, folds: Path) -> list[str | Path]:
    """The command on a detector that finds one box in the middle of the left half of every image."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    outputs = {"scores": np.zeros((1, 4420, 2)), "boxes": np.zeros((1, 4420, 4))}
    outputs["scores"][0, 0, 1], outputs["boxes"][0, 0] = 0.75, (1 / 6, 0.25, 0.5, 0.75)
    model = write_onnx(tmp_path / "slim.onnx", outputs, (1, 3, 240, 320))
    paths = {"images": tmp_path / "images", "annotations": folds, "output-dir": tmp_path / "out"}
    return [part for name, path in paths.items() for part in (f"--{name}", path)] + [
        "--model",
        f"peer:slim-320={model}",
    ]


def test_evaluation_writes_result_files_and_curves(
    tmp_path: Path, evaluation: list[str | Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, _ = run_command(capsys, evaluation_on_fddb.main, *evaluation, "--json", tmp_path / "roc.json")
    assert code == 0
    box = "50.000 50.000 100.000 100.000 0.75\n"
    assert (tmp_path / "out/fold-02-out.txt").read_text() == f"d/two\n1\n{box}"
    assert (tmp_path / "out/results.txt").read_text() == f"d/one\n1\n{box}d/two\n1\n{box}"
    figures = json.loads((tmp_path / "roc.json").read_text())
    assert figures["discrete"] == [[0, 0], [1, 0.5]]
    assert figures["continuous"][-1][1] == pytest.approx(np.pi / 8)
    assert figures == json.loads((tmp_path / "out/report.json").read_text())
    assert (tmp_path / "out/roc_discrete.png").is_file()
    (tmp_path / "out/fold-01-out.txt").write_text("d/one\n1\n")
    assert "1 of 2 folds already have results" in run_command(capsys, evaluation_on_fddb.main, *evaluation)[1]
    code, _, fault = run_command(capsys, evaluation_on_fddb.main, *evaluation, "--ellipses")
    assert code == 2
    assert "ellipses was False, now True" in fault
    assert run_command(capsys, evaluation_on_fddb.main, *evaluation, "--ellipses", "--overwrite")[0] == 0
    ellipse = "50.000 50.000 1.570796 100.000 100.000 0.75\n"
    assert (tmp_path / "out/fold-01-out.txt").read_text() == f"d/one\n1\n{ellipse}"


def test_a_missing_image_is_named_before_the_work(
    tmp_path: Path, evaluation: list[str | Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images/d/two.jpg").unlink()
    code, _, fault = run_command(capsys, evaluation_on_fddb.main, *evaluation)
    assert code == 2
    assert "1 of 2 images are missing, the first is" in fault
    assert not (tmp_path / "out").exists()
