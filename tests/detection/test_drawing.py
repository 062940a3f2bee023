"""Drawing leaves the picture alone where nothing was found, and marks what was."""

from __future__ import annotations

import numpy as np
import pytest

from detection.detections import Detections
from detection.drawing import BOX_COLOR, LANDMARK_COLORS, draw_detections


def _found(*boxes: tuple[float, float, float, float], landmarks: np.ndarray | None = None) -> Detections:
    scores = np.linspace(0.9, 0.5, len(boxes)).astype(np.float32)
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), scores, landmarks)


def test_nothing_found_is_an_equal_copy() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    drawn = draw_detections(image, _found())
    np.testing.assert_array_equal(drawn, image)
    assert drawn is not image


@pytest.mark.parametrize(("height", "width"), [(120, 160), (1600, 2000)])
def test_boxes_are_where_they_were_found(height: int, width: int) -> None:
    box = (0.25 * width, 0.4 * height, 0.5 * width, 0.8 * height)
    image = np.zeros((height, width, 3), np.uint8)
    drawn = draw_detections(image, _found(box), scores=False)
    assert not image.any()
    rows, columns = np.nonzero(drawn.any(axis=2))
    thickness = max(1, round(height / 400))
    for found, expected in zip((columns.min(), rows.min(), columns.max(), rows.max()), box, strict=True):
        assert abs(found - expected) <= thickness + 1
    np.testing.assert_allclose(drawn[int(0.6 * height), int(0.25 * width)], BOX_COLOR, atol=30)  # smoothed
    assert not drawn[int(0.6 * height), int(0.35 * width)].any()


def test_scores_stand_at_large_boxes_only() -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    for box, labelled in (((50, 60, 120, 150), True), ((50, 60, 62, 72), False), ((50, 0, 120, 90), True)):
        with_score, without = (draw_detections(image, _found(box), scores=flag) for flag in (True, False))
        assert np.array_equal(with_score, without) is not labelled


def test_boxes_beyond_the_picture_do_not_matter() -> None:
    draw_detections(np.zeros((10, 12, 3), np.uint8), _found((-50, -50, 500, 500), (20, 20, 30, 30)))


def test_landmarks_have_their_colours() -> None:
    points = np.array([[[30, 30], [60, 30], [45, 45], [34, 60], [56, 60]]], np.float32)
    drawn = draw_detections(np.zeros((100, 100, 3), np.uint8), _found((20, 20, 70, 70), landmarks=points))
    for (x, y), color in zip(points[0].astype(int), LANDMARK_COLORS, strict=True):
        assert drawn[y, x].tolist() == list(color)


def test_the_name_of_what_was_found_stands_beside_the_score() -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    widths = []
    for label in ("", "plate"):
        drawn = draw_detections(image, _found((50, 60, 220, 150)), label=label)
        widths.append(np.flatnonzero(drawn[50].any(axis=1)).max())
    assert widths[1] > widths[0] + 20
