from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accuracy_evaluation.fddb.files import FddbImage
from accuracy_evaluation.fddb.protocol import match_images, match_prefixes, overlaps, rate_at, roc
from lffd.errors import UsageError

CIRCLE = [10.0, 10, 0, 50, 50]


def image(*ellipses: list[float], name: str = "a/one", fold: int = 1) -> FddbImage:
    return FddbImage(name, fold, np.array(ellipses, float).reshape(-1, 5))


def rectangles(*rows: list[float]) -> np.ndarray:
    return np.array(rows, float).reshape(-1, 5)


def test_overlap_with_rectangles_and_ellipses() -> None:
    found = overlaps(np.array([CIRCLE]), rectangles([40, 40, 20, 20, 0.9], [50, 40, 20, 20, 0.8], [80, 80, 5, 5, 0.7]))
    half = 50 * np.pi
    np.testing.assert_allclose(found[:, 0], [np.pi / 4, half / (400 + 2 * half - half), 0])
    same, half_size, beside = overlaps(
        np.array([CIRCLE]), np.array([[*CIRCLE, 0.9], [5, 10, 0, 50, 50, 0.8], [10, 10, 0, 90, 50, 0.7]])
    )[:, 0]
    assert [same, half_size, beside] == pytest.approx([1, 0.5, 0], abs=2e-4)


def test_both_regions_are_cut_off_at_the_image() -> None:
    face, box = np.array([[10.0, 10, 0, 0, 50]]), rectangles([-10, 40, 20, 20, 0.9])
    np.testing.assert_allclose(overlaps(face, box), np.pi / 4)  # both lose their left halves
    right, box = np.array([[10.0, 10, 0, 100, 50]]), rectangles([90, 40, 10, 20, 0.9])
    np.testing.assert_allclose(overlaps(right, box, (100, 100)), np.pi / 4)
    assert overlaps(right, box)[0, 0] == pytest.approx(50 * np.pi / (200 + 50 * np.pi))  # unknown: the circle is whole
    corner, box = np.array([[10.0, 10, 0, 100, 80]]), rectangles([90, 70, 60, 60, 0.9])
    np.testing.assert_allclose(overlaps(corner, box, (100, 80)), np.pi / 4)
    outside = np.array([[10.0, 10, 0, 200, 200]])
    assert overlaps(outside, rectangles([190, 190, 20, 20, 0.9]), (100, 80)).tolist() == [[0]]


@pytest.mark.parametrize(("detections", "faces"), [(0, 0), (0, 2), (2, 0)])
def test_empty_sides(detections: int, faces: int) -> None:
    ellipses = np.array([CIRCLE] * faces).reshape(-1, 5)
    rows = np.array([[40, 40, 20, 20, 0.5]] * detections).reshape(-1, 5)
    overlap = overlaps(ellipses, rows)
    assert overlap.shape == (detections, faces)
    assert match_prefixes(overlap, rows[:, 4]).tolist() == [[0, 0]] * detections


def test_matching_is_one_to_one_with_the_largest_sum() -> None:
    overlap = np.array([[0.9, 0.6], [0.8, 0.1]])
    scores = np.array([0.9, 0.8])
    # alone the first takes face 0; together it must leave it to the second: .6 + .8 > .9 + .1
    np.testing.assert_allclose(match_prefixes(overlap, scores), [[1, 0.9], [2, 1.4]])
    np.testing.assert_allclose(match_prefixes(overlap, np.array([0.9, 0.9])), [[2, 1.4], [2, 1.4]])


def test_the_largest_sum_may_cost_a_hit() -> None:
    overlap = np.array([[0.6, 0], [0.98, 0.51]])
    np.testing.assert_allclose(match_prefixes(overlap, np.array([0.9, 0.8])), [[1, 0.6], [2, 1.11]])
    overlap = np.array([[0.51, 0.9], [0, 0.45]])
    np.testing.assert_allclose(match_prefixes(overlap, np.array([0.9, 0.8])), [[1, 0.9], [1, 0.96]])


def brute_force(overlap: np.ndarray) -> float:
    """The largest sum over every one-to-one matching."""
    padded = np.zeros((max(overlap.shape),) * 2)
    padded[: overlap.shape[0], : overlap.shape[1]] = overlap
    side = range(len(padded))
    return max(float(padded[side, list(order)].sum()) for order in itertools.permutations(side))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_equal_to_trying_every_matching(seed: int) -> None:
    generator = np.random.default_rng(seed)
    overlap = generator.random((generator.integers(1, 6), generator.integers(1, 5)))
    overlap *= generator.random(overlap.shape) < 0.6
    scores = np.sort(generator.integers(0, 4, len(overlap)))[::-1].astype(float)
    values = match_prefixes(overlap, scores)
    for threshold in np.unique(scores):
        count = int(np.count_nonzero(scores >= threshold))
        assert values[count - 1, 1] == pytest.approx(brute_force(overlap[:count]))


def test_curves_of_a_known_set() -> None:
    images = [image(CIRCLE, [10, 10, 0, 150, 50]), image(CIRCLE, name="b/two", fold=2)]
    results = [
        rectangles([40, 40, 20, 20, 0.9], [40, 40, 20, 10, 0.6], [140, 40, 20, 20, 0.5]),
        rectangles([300, 300, 20, 20, 0.8], [40, 40, 20, 20, 0.5]),
    ]
    steps = match_images(images, results)
    together = roc(steps)
    assert (together.faces, together.detections) == (3, 5)
    quarter = np.pi / 4
    np.testing.assert_allclose(together.discrete, [[0, 1 / 3], [1, 1 / 3], [2, 1.0]])
    np.testing.assert_allclose(together.continuous, [[0, quarter / 3], [1, quarter / 3], [2, quarter]])
    np.testing.assert_allclose(roc(steps, 1).discrete, [[0, 0.5], [1, 1.0]])
    np.testing.assert_allclose(roc(steps, 2).discrete, [[0, 0], [1, 1]])
    assert [rate_at(together.discrete, count) for count in (0, 1, 1.5, 2, 1000)] == pytest.approx(
        [1 / 3, 1 / 3, 1 / 3, 1, 1]
    )
    with pytest.raises(UsageError, match="no annotated face to find in fold 3"):
        roc(steps, 3)


def test_no_detections_find_nothing() -> None:
    found = roc(match_images([image(CIRCLE)], [rectangles()]))
    assert found.discrete.tolist() == found.continuous.tolist() == [[0, 0]]


def test_an_overlap_of_exactly_half_is_no_hit() -> None:
    assert match_prefixes(np.array([[0.5]]), np.array([1.0])).tolist() == [[0, 0.5]]


def test_equal_scores_enter_together() -> None:
    rows = rectangles([300, 300, 20, 20, 0.7], [40, 40, 20, 20, 0.7])
    np.testing.assert_allclose(roc(match_images([image(CIRCLE)], [rows])).discrete, [[0, 0], [1, 1]])


def test_sizes_must_be_complete() -> None:
    with pytest.raises(UsageError, match="the sizes of 1 of 1 images are missing, the first is a/one"):
        match_images([image(CIRCLE)], [rectangles()], {"b/two": (10, 10)})
