from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accuracy_evaluation.fddb.ellipses import (
    clip_polygons,
    ellipse_corners,
    polygon_areas,
    rectangle_corners,
    shared_with_ellipse,
)


def shared(ellipse: list[float], rectangle: list[float]) -> float:
    corners = rectangle_corners(np.array([rectangle], float))
    return float(shared_with_ellipse(np.array([ellipse], float), corners)[0])


HALF_CHORD = np.sqrt(3) / 2
CASES = [
    ([10, 10, 0, 0, 0], [-20, -20, 20, 20], 100 * np.pi, "circle inside"),
    ([10, 10, 0, 0, 0], [-3, -4, 3, 4], 48, "rectangle inside"),
    ([10, 10, 0, 0, 0], [0, 0, 20, 20], 25 * np.pi, "quarter"),
    ([10, 10, 0, 0, 0], [-20, 0, 20, 20], 50 * np.pi, "half"),
    ([10, 10, 0, 0, 0], [5, -20, 20, 20], 100 * (np.pi / 3 - HALF_CHORD / 2), "segment from half the radius"),
    ([10, 10, 0, 0, 0], [-5, -20, 5, 20], 100 * (np.pi / 3 + HALF_CHORD), "strip"),
    ([10, 10, 0, 0, 0], [11, -20, 20, 20], 0, "beside"),
    ([10, 10, 0, 0, 0], [10, 10, 20, 20], 0, "at the corner of its frame"),
    ([10, 10, 0, 0, 0], [10, -5, 20, 5], 0, "touching"),
    ([10, 10, 0, 0, 0], [3, 3, 3, 9], 0, "no width"),
    ([5, 5, 0, 1e-120, 5e-24], [0, 0, 1, 1], 1, "centre a rounding away from a corner"),
    ([20, 10, 0, 50, 30], [50, 30, 99, 99], 50 * np.pi, "quarter of an ellipse"),
    ([20, 10, np.pi / 2, 50, 30], [30, 30, 99, 99], 100 * np.pi, "half of an upright ellipse"),
    ([20, 10, 0.7, 50, 30], [50, -99, 199, 199], 100 * np.pi, "half of a turned ellipse"),
    ([20, 10, 0.7, 50, 30], [0, 0, 99, 99], 200 * np.pi, "turned ellipse inside"),
]


@pytest.mark.parametrize(
    ("ellipse", "rectangle", "area"), [case[:3] for case in CASES], ids=[case[3] for case in CASES]
)
def test_known_areas(ellipse: list[float], rectangle: list[float], area: float) -> None:
    assert shared(ellipse, rectangle) == pytest.approx(area, abs=1e-9)


def strips(ellipse: np.ndarray, rectangle: np.ndarray, count: int = 200_000) -> float:
    """The shared area as a sum over thin horizontal strips."""
    major, minor, angle, x, y = ellipse
    x0, y0, x1, y1 = rectangle
    dy = y0 + (np.arange(count) + 0.5) * (y1 - y0) / count - y
    cos, sin = np.cos(angle), np.sin(angle)
    square = cos**2 / major**2 + sin**2 / minor**2
    middle = -dy * cos * sin * (1 / major**2 - 1 / minor**2) / square
    rest = (dy**2 * (sin**2 / major**2 + cos**2 / minor**2) - 1) / square
    reach = np.sqrt(np.maximum(middle**2 - rest, 0))
    return float(
        np.maximum(np.minimum(x + middle + reach, x1) - np.maximum(x + middle - reach, x0), 0).sum() * (y1 - y0) / count
    )


@settings(deadline=None)
@given(
    st.tuples(st.floats(5, 100), st.floats(5, 100), st.floats(-4, 4), st.floats(-100, 100), st.floats(-100, 100)),
    st.tuples(st.floats(-150, 150), st.floats(-150, 150), st.floats(1, 200), st.floats(1, 200)),
)
def test_equal_to_thin_strips(ellipse: tuple[float, ...], rectangle: tuple[float, ...]) -> None:
    x, y, width, height = rectangle
    corners = [x, y, x + width, y + height]
    expected = strips(np.array(ellipse), np.array(corners))
    found = shared(list(ellipse), corners)
    assert found == pytest.approx(expected, abs=1e-3)
    assert found <= min(width * height, np.pi * ellipse[0] * ellipse[1]) + 1e-6


def test_none_are_none() -> None:
    assert shared_with_ellipse(np.zeros((0, 5)), np.zeros((0, 4, 2))).shape == (0,)
    assert ellipse_corners(np.zeros((0, 5)), 8).shape == (0, 8, 2)
    assert polygon_areas(np.zeros((0, 4, 2))).shape == (0,)


def test_polygons_of_ellipses_have_their_area_and_place() -> None:
    ellipses = np.array([[20, 10, 0.7, 50, 30], [5, 5, 0, 0, 0]])
    polygons = ellipse_corners(ellipses)
    np.testing.assert_allclose(polygon_areas(polygons), [200 * np.pi, 25 * np.pi])
    np.testing.assert_allclose(polygons.mean(axis=1), [[50, 30], [0, 0]], atol=1e-9)
    np.testing.assert_allclose(shared_with_ellipse(ellipses, polygons), [200 * np.pi, 25 * np.pi], rtol=1e-4)
    tip = polygons[0, 0] - [50, 30]
    assert np.arctan2(tip[1], tip[0]) == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("rectangle", "size", "area"),
    [
        ([10, 10, 30, 40], (100, 100), 600),
        ([-10, -10, 30, 40], (100, 100), 1200),
        ([10, 10, 30, 40], (20, 15), 50),
        ([-10, -20, 300, 400], (20, 15), 300),
        ([50, 50, 60, 60], (20, 15), 0),
        ([-10, -10, 30, 40], (np.inf, np.inf), 1200),
    ],
)
def test_rectangles_are_cut_off_at_the_border(rectangle: list[float], size: tuple[float, float], area: float) -> None:
    clipped = clip_polygons(rectangle_corners(np.array([rectangle], float)), *size)
    assert polygon_areas(clipped).tolist() == [area]


def test_ellipses_are_cut_off_at_the_border() -> None:
    ellipse = np.array([[40, 20, 0.5, 5, 90.0]])
    exact = shared_with_ellipse(ellipse, rectangle_corners(np.array([[0, 0, 30, 100.0]])))
    clipped = polygon_areas(clip_polygons(ellipse_corners(ellipse), 30, 100))
    assert clipped[0] == pytest.approx(exact[0], rel=1e-4)
