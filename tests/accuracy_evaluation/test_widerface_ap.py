from __future__ import annotations

import json
from pathlib import Path

import pytest

from accuracy_evaluation.widerface_ap import main
from tests.accuracy_evaluation.made_up import run_command, write_truth


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    everything = ([1], [1], [1])
    write_truth(
        tmp_path / "truth", {"a": {"one": ([[0, 0, 20, 20]], everything), "two": ([[5, 5, 20, 20]], everything)}}
    )
    (tmp_path / "results/a").mkdir(parents=True)
    (tmp_path / "results/a/one.txt").write_text("one\n1\n0 0 20 20 0.9\n")
    return tmp_path


def test_a_folder_with_every_file_is_scored(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folders / "results/a/two.txt").write_text("two\n0\n")
    out = folders / "new/figures.json"
    code, text, _ = run_command(
        capsys, main, folders / "results", folders / "truth", "--json", out, "--plot", folders / "curve.png"
    )
    assert code == 0
    assert "all 2 images" in text
    figures = json.loads(out.read_text())
    assert [figures[name] for name in ("easy", "medium", "hard", "images")] == [0.5, 0.5, 0.5, 2]
    assert (folders / "curve.png").is_file()


def test_missing_files_need_one_of_two_options(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folders / "out.json"
    arguments = (folders / "results", folders / "truth", "--json", out)
    code, _, fault = run_command(capsys, main, *arguments)
    assert code == 2
    assert "error: 1 of 2 result files are missing" in fault
    assert not out.exists()
    assert run_command(capsys, main, *arguments, "--missing-as-empty")[0] == 0
    assert json.loads(out.read_text())["hard"] == 0.5
    (folders / "images/a").mkdir(parents=True)
    (folders / "images/a/one.jpg").touch()
    assert run_command(capsys, main, *arguments, "--images-present", folders / "images")[0] == 0
    figures = json.loads(out.read_text())
    assert (figures["hard"], figures["images"], figures["images_total"]) == (1, 1, 2)


def test_a_plot_that_cannot_be_is_refused_before_the_work(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, fault = run_command(capsys, main, folders / "nowhere", folders / "truth", "--plot", "curve.bmp")
    assert code == 2
    assert "cannot plot to .bmp" in fault
