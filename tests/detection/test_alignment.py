"""Aligned faces: the closed form against a solver, and pixels that end where the template says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.alignment import TEMPLATE, align_face, similarity


@settings(deadline=None)
@given(st.integers(0, 2**31))
def test_no_other_similarity_is_nearer(seed: int) -> None:
    """The least squares of a·x − b·y + c and b·x + a·y + d, by NumPy's solver."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 500, (5, 2)).astype(np.float32)
    rows, goals = [], []
    for (x, y), (u, v) in zip(points.astype(float), TEMPLATE.astype(float), strict=True):
        rows += [(x, -y, 1, 0), (y, x, 0, 1)]
        goals += [u, v]
    a, b, c, d = np.linalg.lstsq(np.array(rows), np.array(goals), rcond=None)[0]
    np.testing.assert_allclose(similarity(points, TEMPLATE), [[a, -b, c], [b, a, d]], rtol=1e-6, atol=1e-6)


def test_points_at_one_place_are_no_error() -> None:
    face = align_face(np.full((50, 50, 3), 9, np.uint8), np.full((5, 2), 20, np.float32))
    assert face.shape == (112, 112, 3)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.7, 9.3])
@pytest.mark.parametrize("angle", [0, 40, 180])
def test_marks_end_on_the_template(scale: float, angle: float) -> None:
    """Discs drawn at five points of a turned and scaled template are found at its places, however large the face."""
    import cv2

    turn = np.deg2rad(angle)
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = (TEMPLATE @ matrix.T).astype(np.float32)
    points += 40 * scale - points.min(0)
    width, height = (np.ceil(points.max(0)) + 40 * scale).astype(int).tolist()
    for number, goal in enumerate(TEMPLATE):
        image = np.zeros((height, width, 3), np.uint8)
        center = np.rint(points[number] * 16).astype(int).tolist()
        cv2.circle(image, center, round(16 * max(2 * scale, 2)), (255, 255, 255), -1, cv2.LINE_AA, 4)
        face = align_face(image, points)[:, :, 0].astype(float)
        rows, columns = np.mgrid[:112, :112]
        found = np.array([(columns * face).sum(), (rows * face).sum()]) / face.sum()
        assert np.abs(found - goal).max() < 0.25
