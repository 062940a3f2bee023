from __future__ import annotations

import json

import numpy as np
import pytest

from accuracy_evaluation.plots import check_plot_path
from accuracy_evaluation.widerface.ground_truth import ImageTruth
from accuracy_evaluation.widerface.report import Report, build_report, plot, to_json, to_text
from lffd.errors import UsageError


def image(event: str, *faces: tuple[float, float, float, float]) -> ImageTruth:
    boxes = np.array(faces, float).reshape(-1, 4)
    evaluated = np.ones((3, len(boxes)), bool)
    evaluated[0] = boxes[:, 2] >= 50  # easy: only large ones
    return ImageTruth(event, f"image of {event}", boxes, evaluated)


@pytest.fixture
def report() -> Report:
    images = [image("a", (0, 0, 10, 9), (100, 0, 60, 80)), image("b", (0, 0, 20, 20)), image("c")]
    results = [
        np.array([[100, 0, 60, 80, 0.9], [0, 0, 10, 9, 0.8]]),
        np.array([[300, 300, 20, 20, 0.7], [0, 0, 20, 20, 0.6]]),
        np.zeros((0, 5)),
    ]
    return build_report(images, results, images_total=5)


def test_figures_by_set_and_by_event(report: Report) -> None:
    figures = to_json(report)
    assert figures["easy"] == 1
    assert figures["medium"] == figures["hard"] == pytest.approx(2 / 3 + 3 / 4 / 3)
    assert (figures["images"], figures["images_total"]) == (3, 5)
    assert "only the 3 images present of 5" in figures["scope"]
    assert figures["faces"] == {"easy": 1, "medium": 3, "hard": 3}
    assert figures["events"] == {
        "a": {"easy": 1, "medium": 1, "hard": 1, "images": 1},
        "b": {"easy": None, "medium": 0.5, "hard": 0.5, "images": 1},
        "c": {"easy": None, "medium": None, "hard": None, "images": 1},
    }
    json.dumps(figures, allow_nan=False)


def test_recall_by_size_at_all_scores_and_at_the_working_point(report: Report) -> None:
    assert report.working_score == 0.8  # below it precision falls to 2 of 3
    rows = {(row.low, row.high): (row.faces, row.recall, row.working_recall) for row in report.sizes}
    assert rows[8, 12] == (1, 1, 1)
    assert rows[16, 24] == (1, 1, 0)
    assert rows[64, 96] == (1, 1, 1)
    assert sum(faces for faces, _, _ in rows.values()) == 3


def test_a_detector_that_is_never_precise_has_no_working_point() -> None:
    report = build_report([image("a", (0, 0, 20, 20))], [np.array([[300, 300, 20, 20, 0.7]])], 1)
    assert np.isnan(report.working_score)
    figures = to_json(report)
    assert figures["working_point"]["score"] is None
    assert figures["scope"] == "WIDER FACE val, all 1 images"
    assert "never" in to_text(report)


def test_equal_scores_are_one_working_point() -> None:
    rows = np.array([[0, 0, 20, 20, 0.7], [300, 300, 20, 20, 0.7]])
    assert np.isnan(build_report([image("a", (0, 0, 20, 20))], [rows], 1).working_score)


def test_text_shows_what_does_not_exist_as_a_dash(report: Report) -> None:
    text = to_text(report, events=True)
    assert "average precision              1.0000   0.9167   0.9167" in text
    assert [line.split() for line in text.splitlines() if line.startswith("  b")] == [
        ["b", "(1)", "–", "0.5000", "0.5000"]
    ]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_plots_are_written(report: Report, tmp_path_factory: pytest.TempPathFactory, suffix: str) -> None:
    path = tmp_path_factory.mktemp("plots") / f"new/curve{suffix}"
    plot(report, "made up", path)
    assert path.stat().st_size > 3000


@pytest.mark.parametrize("name", ["curve", "curve.txt"])
def test_other_formats_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"use \.png, \.svg, \.pdf"):
        check_plot_path(name)
