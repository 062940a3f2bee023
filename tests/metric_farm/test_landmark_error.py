"""The error of points by hand: matching, both normalisations, misses, size classes."""

from __future__ import annotations

import numpy as np
import pytest

from metric_farm.landmark_error import face_errors, join, match, summarise


def _points(x: float, y: float, side: float) -> np.ndarray:
    shares = np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)])
    return (np.array([x, y]) + side * shares).astype(np.float32)


def _known(points: np.ndarray) -> np.ndarray:
    return np.concatenate((points, np.full((*points.shape[:-1], 1), 2)), axis=-1).astype(np.float32)


def test_each_find_belongs_to_one_face() -> None:
    truth = np.array([[0, 0, 10, 10], [2, 0, 12, 10], [50, 50, 60, 60]], np.float32)
    found = np.array([[1.8, 0, 11.8, 10], [90, 90, 99, 99]], np.float32)
    assert match(truth, found, 0.5).tolist() == [-1, 0, -1]
    assert match(truth, found[:0], 0.5).tolist() == [-1, -1, -1]
    assert match(truth[:0], found, 0.5).tolist() == []


def test_the_mean_distance_over_the_box_and_over_the_eyes() -> None:
    boxes = np.array([[0, 0, 40, 10], [100, 100, 120, 120], [0, 50, 30, 80]], np.float32)
    truth = np.stack([_points(0, 0, 40), _points(100, 100, 20), _points(0, 50, 30)])
    places = truth[[1, 0]].copy()
    places[1] += (3, 4)  # five pixels
    places[0, 2] += (0, 10)  # two pixels in the mean of five
    errors = face_errors(boxes, _known(truth), places, np.array([1, 0, -1]))
    np.testing.assert_allclose(errors.by_box, [5 / 20, 2 / 20, np.nan], rtol=1e-6)
    np.testing.assert_allclose(errors.by_eyes, [5 / 16, np.nan, np.nan], rtol=1e-6)  # the others' eyes are too near
    figures = summarise(errors)
    assert (figures.faces, figures.found, figures.eyes) == (3, 2, 1)
    assert figures.nme_box == pytest.approx(0.175)
    assert figures.nme_eyes == pytest.approx(5 / 16)
    assert figures.failure_rate == 0.5
    assert summarise(errors, 40).nme_box == pytest.approx(0.25)
    assert np.isnan(summarise(errors, 41).nme_box)


def test_faces_without_any_find_are_missed() -> None:
    boxes = np.array([[0, 0, 40, 40]], np.float32)
    errors = face_errors(boxes, _known(_points(0, 0, 40)[None]), np.zeros((0, 5, 2), np.float32), np.array([-1]))
    figures = summarise(join([errors, errors]))
    assert (figures.faces, figures.found) == (2, 0)
    assert np.isnan(figures.nme_box)
