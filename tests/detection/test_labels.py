"""Texts beside boxes do not collide and stay inside the picture."""

from __future__ import annotations

import numpy as np
import pytest

from detection.detections import Detections
from detection.drawing import draw_detections, track_color
from detection.labels import place_labels
from lffd.boxes import intersections


def _rectangles(places: list[tuple[int, int] | None], size: tuple[int, int]) -> np.ndarray:
    found = [(x, y, x + size[0], y + size[1]) for x, y in filter(None, places)]
    return np.array(found, np.float32).reshape(-1, 4)


@pytest.mark.parametrize("seed", range(5))
def test_labels_of_a_crowd_stay_apart_and_inside(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 1, (60, 2)) * [600, 440]
    boxes = np.concatenate([corners, corners + rng.uniform(20, 60, (60, 1))], axis=1).astype(np.float32)
    places = place_labels(boxes, [(50, 12)] * 60, (640, 480))
    texts = _rectangles(places, (50, 12))
    assert len(texts) > 40
    overlaps = intersections(texts, texts)
    assert np.count_nonzero(overlaps) == len(texts)
    assert (texts[:, :2] >= 0).all()
    assert (texts[:, 2:] <= (640, 480)).all()
    everywhere = place_labels(boxes, [(50, 12)] * 60, (640, 480), everywhere=True)
    assert None not in everywhere


def test_the_first_place_is_above_then_below_then_inside() -> None:
    def place(*box: float) -> tuple[int, int] | None:
        return place_labels(np.array([box], np.float32), [(30, 10)], (100, 100))[0]

    assert place(20, 40, 60, 70) == (20, 30)
    assert place(20, 5, 60, 70) == (20, 70)
    assert place(0, 0, 100, 100) == (0, 0)
    assert place(90, 40, 99, 50) == (70, 30)
    assert place(0, 0, 8, 100) == (8, 0)
    assert place_labels(np.array([[2, 2, 20, 8]], np.float32), [(300, 10)], (100, 100)) == [None]


def test_a_label_avoids_the_next_face_when_it_can() -> None:
    boxes = np.array([[20, 40, 60, 70], [20, 10, 60, 39]], np.float32)
    assert place_labels(boxes, [(30, 10), None], (100, 100)) == [(20, 70), None]


def test_ids_are_written_and_coloured() -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    found = Detections(np.array([[50, 60, 120, 150]], np.float32), np.array([0.9], np.float32))
    one, two = (draw_detections(image, found, scores=False, tracks=np.array([number])) for number in (1, 2))
    for drawn, number in ((one, 1), (two, 2)):
        np.testing.assert_allclose(drawn[100, 50], track_color(number), atol=60)  # smoothed
        assert drawn[50:60].any()
    assert min(max(track_color(number)) for number in range(1, 50)) == 255


def test_small_boxes_are_labelled_when_asked_for() -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    found = Detections(np.array([[50, 60, 62, 72]], np.float32), np.array([0.9], np.float32))
    few, every = (draw_detections(image, found, every_label=flag).any(axis=2).sum() for flag in (False, True))
    assert every > few + 100
