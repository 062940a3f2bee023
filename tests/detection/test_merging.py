"""Several looks at one image: places come back to the image's own pixels, and what most looks see comes first."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from detection.detections import Detections
from detection.merging import Look, merge


class Finder:
    """Finds the bright rectangle of a dark picture, with points whose places in it differ on the left and right."""

    name, has_landmarks = "finder", True

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []

    def __call__(self, image: NDArray[np.uint8], /) -> Detections:
        self.sizes.append(image.shape[:2])
        rows, columns = np.nonzero(image[..., 0] > 128)
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32)
        left_is_red = image[int(box[1]) + 2, int(box[0]) + 2, 2] > 128
        shares = np.array([[0.2, 0.2], [0.8, 0.2], [0.4, 0.5], [0.3, 0.8], [0.7, 0.8]])
        if left_is_red:
            shares[2, 0] = 0.6
        points = box[:2] + shares * (box[2:] - box[:2])
        return Detections(box[None], np.array([0.9], np.float32), points[None].astype(np.float32))


def _picture() -> NDArray[np.uint8]:
    """A bright rectangle, with red in its left half."""
    image = np.zeros((80, 120, 3), np.uint8)
    image[20:60, 30:70, :2] = 255
    image[20:60, 30:50, 2] = 255
    return image


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_a_look_answers_in_pixels_of_the_image(scale: float, mirrored: bool) -> None:
    finder = Finder()
    found = Look(scale, mirrored)(finder, _picture())
    assert finder.sizes == [(80 * scale, 120 * scale)]
    np.testing.assert_allclose(found.boxes, [[30, 20, 70, 60]], atol=1)
    assert found.landmarks is not None
    expected = [[38, 28], [62, 28], [54, 40], [42, 52], [58, 52]]
    np.testing.assert_allclose(found.landmarks[0], expected, atol=1.5)


def _said(*objects: tuple[float, tuple[float, float, float, float]]) -> Detections:
    scores, boxes = zip(*objects, strict=True)
    return Detections(np.array(boxes, np.float32), np.array(scores, np.float32))


def test_what_all_see_comes_before_what_one_is_sure_of() -> None:
    here, there = (0, 0, 10, 10), (50, 50, 60, 60)
    merged = merge([_said((0.9, there), (0.6, here)), _said((0.6, here)), _said((0.6, here))])
    np.testing.assert_allclose(merged.scores, [0.6, 0.3], atol=1e-6)
    np.testing.assert_array_equal(merged.boxes, [here, there])
    assert merged.landmarks is None


def test_a_box_is_the_mean_by_score_and_each_look_counts_once() -> None:
    merged = merge([_said((0.8, (0, 0, 10, 10)), (0.4, (0, 0, 10, 9))), _said((0.4, (0, 0, 13, 10)))])
    assert len(merged) == 1
    np.testing.assert_allclose(merged.boxes[0], [0, 0, 11, 10], atol=1e-5)
    np.testing.assert_allclose(merged.scores, [0.6], atol=1e-6)


def test_points_come_from_the_looks_that_have_them() -> None:
    points = np.arange(10, dtype=np.float32).reshape(1, 5, 2)
    box = np.array([[0, 0, 10, 10]], np.float32)
    with_points = Detections(box, np.array([0.5], np.float32), points)
    merged = merge([_said((0.9, (0, 0, 10, 10))), with_points])
    assert merged.landmarks is not None
    np.testing.assert_allclose(merged.landmarks, points)
    assert len(merge([Detections(box[:0], np.zeros(0, np.float32))])) == 0
