"""Average precision over large faces, against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest

from accuracy_evaluation.widerface.ground_truth import ImageTruth
from accuracy_evaluation.widerface.large_faces import precision_over
from accuracy_evaluation.widerface.protocol import match


def _truth(name: str, *boxes: tuple[float, float, float, float]) -> ImageTruth:
    array = np.array(boxes, float).reshape(-1, 4)
    return ImageTruth("event", name, array, np.zeros((3, len(array)), bool))


def _rows(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, float).reshape(-1, 5)


IMAGES = [_truth("one", (0, 0, 100, 100), (200, 0, 64, 100), (300, 0, 70, 65)), _truth("two", (0, 0, 80, 80))]
RESULTS = [
    _rows(
        (0, 0, 100, 100, 0.9),  # finds the first
        (200, 0, 64, 100, 0.8),  # only 64 wide: ignored, neither right nor wrong
        (500, 500, 90, 90, 0.7),  # wrong
        (1, 1, 100, 100, 0.6),  # the first once more: wrong
        (300, 0, 70, 65, 0.5),  # finds the third
    ),
    _rows((400, 400, 9, 9, 0.95)),  # wrong, though small
]


def test_only_faces_beyond_the_limit_both_ways_count() -> None:
    found = precision_over(IMAGES, match(IMAGES, RESULTS), 64)
    # In order of scores: wrong, right (1/2), wrong, wrong, right (2/5); the last of three faces is never found.
    assert (found.over, found.faces) == (64, 3)
    assert found.average_precision == pytest.approx((1 / 2 + 2 / 5) / 3)


def test_a_limit_of_0_counts_every_face() -> None:
    found = precision_over(IMAGES, match(IMAGES, RESULTS), 0)
    # wrong, right, right, wrong, wrong, right: precision 1/2, 2/3, 3/6, made monotone 2/3, 2/3, 1/2.
    assert found.faces == 4
    assert found.average_precision == pytest.approx((2 / 3 + 2 / 3 + 1 / 2) / 4)


def test_without_large_faces_there_is_no_figure() -> None:
    found = precision_over(IMAGES, match(IMAGES, RESULTS), 500)
    assert found.faces == 0
    assert np.isnan(found.average_precision)
