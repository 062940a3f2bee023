from __future__ import annotations

import numpy as np
import pytest

from detection.detections import Detections
from lffd.errors import UsageError


def make(count: int) -> Detections:
    boxes = np.arange(4 * count, dtype=np.float32).reshape(count, 4)
    scores = np.linspace(0.9, 0.1, count, dtype=np.float32) if count else np.zeros(0, np.float32)
    return Detections(boxes, scores, np.zeros((count, 5, 2), np.float32), np.arange(count, dtype=np.int8))


@pytest.mark.parametrize(("count", "top", "left"), [(0, 3, 0), (5, 0, 0), (5, 3, 3), (5, 9, 5), (5, -1, 0)])
def test_top_keeps_the_best_of_every_field(count: int, top: int, left: int) -> None:
    kept = make(count).top(top)
    assert len(kept) == left
    assert kept.landmarks is not None
    assert kept.branches is not None
    assert kept.boxes.shape == (left, 4)
    assert kept.landmarks.shape == (left, 5, 2)
    assert kept.branches.tolist() == list(range(left))


@pytest.mark.parametrize(("threshold", "left"), [(0.0, 5), (0.5, 2), (0.95, 0)])
def test_above_is_strict(threshold: float, left: int) -> None:
    detections = make(5)
    assert detections.scores[2] == np.float32(0.5)
    assert len(detections.above(threshold)) == left


def test_optional_fields_stay_absent() -> None:
    kept = Detections(np.zeros((2, 4), np.float32), np.array([0.5, 0.5], np.float32)).top(1)
    assert kept.landmarks is None
    assert kept.branches is None


@pytest.mark.parametrize(
    ("boxes", "scores", "branches"),
    [
        (np.zeros((2, 4)), np.zeros(3), None),
        (np.zeros((2, 5)), np.zeros(2), None),
        (np.zeros((2, 4)), np.zeros((2, 1)), None),
        (np.zeros((2, 4)), np.zeros(2), np.zeros(1, np.int8)),
        (np.zeros((2, 4)), np.array([0.1, 0.2]), None),
        (np.zeros((2, 4)), np.array([0.1, np.nan]), None),
    ],
)
def test_disagreeing_shapes_and_rising_scores_are_refused(
    boxes: np.ndarray, scores: np.ndarray, branches: np.ndarray | None
) -> None:
    with pytest.raises(UsageError):
        Detections(boxes, scores, None, branches)
