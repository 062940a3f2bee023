"""Box arithmetic, and suppression against its plain definition."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lffd import boxes as bx
from lffd.boxes import Overlap
from lffd.errors import UsageError

EMPTY = np.zeros((0, 4), np.float32)


def _boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


@pytest.mark.parametrize("value", [[], np.zeros((0, 4)), np.zeros((0,), np.int64)])
def test_as_boxes_makes_nothing_an_empty_array_of_boxes(value: object) -> None:
    result = bx.as_boxes(value)  # type: ignore[arg-type]
    assert result.shape == (0, 4)
    assert result.dtype == np.float32


def test_as_boxes_takes_lists_and_refuses_other_shapes() -> None:
    assert bx.as_boxes([[1, 2, 3, 4]]).tolist() == [[1, 2, 3, 4]]
    for wrong in ([1, 2, 3, 4], [[1, 2, 3]], np.ones((1, 2, 4))):
        with pytest.raises(ValueError, match=r"boxes must have shape \(N, 4\)"):
            bx.as_boxes(wrong)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (bx.longer_sides(EMPTY), []),
        (bx.longer_sides(_boxes((0, 0, 3, 7), (1, 1, 9, 2))), [7, 8]),
        (bx.areas(EMPTY), []),
        (bx.areas(_boxes((0, 0, 3, 7), (5, 5, 5, 9), (9, 9, 1, 1))), [21, 0, 0]),
        (bx.areas(_boxes((0, 0, 3, 7)), border=1), [32]),
        (bx.clip(EMPTY, 10, 10), []),
        (bx.clip(_boxes((-5, -5, 5, 50), (20, 20, 30, 30)), 10, 8), [[0, 0, 5, 8], [10, 8, 10, 8]]),
        (bx.shift(EMPTY, 1, 1), []),
        (bx.shift(_boxes((0, 1, 2, 3)), 10, -1), [[10, 0, 12, 2]]),
        (bx.scale(EMPTY, 2), []),
        (bx.scale(_boxes((1, 2, 3, 4)), 2), [[2, 4, 6, 8]]),
        (bx.scale(_boxes((1, 2, 3, 4)), 2, 0.5), [[2, 1, 6, 2]]),
        (bx.flip_horizontal(EMPTY, 10), []),
        (bx.flip_horizontal(_boxes((1, 2, 4, 6)), 10), [[6, 2, 9, 6]]),
        (bx.intersections(EMPTY, _boxes((0, 0, 1, 1))), []),
        (bx.intersections(_boxes((0, 0, 4, 4)), _boxes((2, 2, 6, 6), (4, 4, 5, 5), (8, 8, 9, 9))), [[4, 0, 0]]),
        (bx.intersections(_boxes((0, 0, 4, 4)), _boxes((4, 4, 5, 5)), border=1), [[1]]),
        (bx.iou(_boxes((0, 0, 2, 2)), _boxes((0, 0, 2, 2), (1, 0, 3, 2), (5, 5, 6, 6))), [[1, 1 / 3, 0]]),
        (bx.iou(_boxes((1, 1, 1, 1)), _boxes((1, 1, 1, 1))), [[0]]),
    ],
)
def test_arithmetic(result: np.ndarray, expected: list[Any]) -> None:
    np.testing.assert_allclose(result.reshape(np.shape(expected)), expected, rtol=1e-6)
    assert result.dtype == np.float32


def test_flipping_twice_changes_nothing() -> None:
    boxes = _boxes((1, 2, 4, 6), (-3, 0, 12, 5))
    np.testing.assert_allclose(bx.flip_horizontal(bx.flip_horizontal(boxes, 10), 10), boxes)


def _suppress_by_definition(boxes: np.ndarray, scores: np.ndarray, threshold: float, overlap: Overlap) -> list[int]:
    """Take the best box, drop what it overlaps too much, again and again; in float64."""
    left = sorted(range(len(scores)), key=lambda i: -scores[i])
    rows = boxes.astype(float)
    border = 1 if overlap == "own-area" else 0
    kept = []
    while left:
        best, *left = left
        kept.append(best)
        survivors = []
        for i in left:
            width = min(rows[best, 2], rows[i, 2]) - max(rows[best, 0], rows[i, 0]) + border
            height = min(rows[best, 3], rows[i, 3]) - max(rows[best, 1], rows[i, 1]) + border
            shared = max(width, 0) * max(height, 0)
            own, other = (max(r[2] - r[0], 0) * max(r[3] - r[1], 0) for r in (rows[i], rows[best]))
            whole = own if overlap == "own-area" else own + other - shared
            if shared <= threshold * whole:
                survivors.append(i)
        left = survivors
    return kept


OVERLAPS: tuple[Overlap, ...] = ("iou", "own-area")


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_nothing_and_one_box(overlap: Overlap) -> None:
    assert bx.suppress(EMPTY, np.zeros(0, np.float32), 0.5, overlap).tolist() == []
    assert bx.suppress(_boxes((0, 0, 5, 5)), np.ones(1, np.float32), 0.5, overlap).tolist() == [0]


def test_the_rules_differ_as_published() -> None:
    """A small box inside a large one: its IoU is low, but all of its own area is covered."""
    boxes = _boxes((0, 0, 100, 100), (10, 10, 30, 30), (200, 200, 220, 220))
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    assert bx.suppress(boxes, scores, 0.4, "iou").tolist() == [0, 1, 2]
    assert bx.suppress(boxes, scores, 0.4, "own-area").tolist() == [0, 2]
    # The other way round the small one's area is the divisor of the large one's own share: 4 % of it.
    assert bx.suppress(boxes, scores[[1, 0, 2]], 0.4, "own-area").tolist() == [1, 0, 2]


def test_own_area_counts_one_more_pixel_on_the_overlap_only() -> None:
    boxes = _boxes((0, 0, 9, 10), (4, 0, 14, 10))  # overlap 5 x 10, counted as 6 x 11 = 66 of 100
    scores = np.array([1, 0.5], np.float32)
    assert bx.suppress(boxes, scores, 0.65, "own-area").tolist() == [0]
    assert bx.suppress(boxes, scores, 0.67, "own-area").tolist() == [0, 1]


def test_exactly_the_threshold_is_not_more_than_it() -> None:
    boxes = _boxes((0, 0, 2, 2), (1, 0, 3, 2), (0, 0, 2, 4))  # IoU with the first: 1/3 and 1/2
    scores = np.array([3, 2, 1], np.float32)
    assert bx.suppress(boxes, scores, 0.5).tolist() == [0, 1, 2]
    assert bx.suppress(boxes, scores, 0.49).tolist() == [0, 1]


def test_ties_keep_the_earlier_box() -> None:
    boxes = _boxes((0, 0, 10, 10), (0, 0, 10, 10), (50, 0, 60, 10), (50, 0, 60, 10))
    assert bx.suppress(boxes, np.full(4, 0.5, np.float32), 0.5).tolist() == [0, 2]


def test_a_dropped_box_drops_nobody() -> None:
    boxes = _boxes((0, 0, 10, 10), (4, 0, 14, 10), (8, 0, 18, 10))  # each overlaps the next by IoU 3/7
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    assert bx.suppress(boxes, scores, 0.4).tolist() == [0, 2]


@pytest.mark.parametrize("limit", [0, 1, 7, 1000])
def test_the_limit_keeps_the_best(limit: int) -> None:
    boxes, scores = _crowd(np.random.default_rng(5), 300, 40)
    everything = bx.suppress(boxes, scores, 0.4)
    assert bx.suppress(boxes, scores, 0.4, limit=limit).tolist() == everything[:limit].tolist()


def _crowd(rng: np.random.Generator, count: int, faces: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes in clusters, as branches find them around faces of 8–200 px."""
    sides = np.exp(rng.uniform(np.log(8), np.log(200), faces))
    centers = rng.uniform(0, 600, (faces, 2))
    pick = rng.integers(0, faces, count)
    side = sides[pick] * rng.normal(1, 0.1, count)
    center = centers[pick] + rng.normal(0, 0.1, (count, 2)) * side[:, None]
    half = np.stack([side, side * rng.uniform(0.8, 1.3, count)], axis=1) / 2
    return np.concatenate([center - half, center + half], axis=1).astype(np.float32), rng.random(count).astype("f")


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize(("offset", "pairs"), [(0, 1 << 18), (0, 2000), (25_000, 1 << 18)])
def test_crowds_are_suppressed_as_defined(
    overlap: Overlap, threshold: float, offset: int, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one block and in many, near the origin and at the far corner of a very large picture."""
    monkeypatch.setattr(bx, "_PAIRS", pairs)
    boxes, scores = _crowd(np.random.default_rng(7), 400, 60)
    boxes = bx.shift(boxes, offset, offset)
    expected = _suppress_by_definition(boxes, scores, threshold, overlap)
    assert bx.suppress(boxes, scores, threshold, overlap).tolist() == expected


@given(
    st.lists(st.tuples(*[st.integers(0, 24)] * 2, *[st.integers(-2, 12)] * 2, st.integers(1, 4)), max_size=40),
    st.sampled_from([0.0, 0.25, 0.5]),
    st.sampled_from(OVERLAPS),
)
def test_small_whole_numbers_make_ties_and_degenerate_boxes(
    rows: list[tuple[int, int, int, int, int]], threshold: float, overlap: Overlap
) -> None:
    boxes = _boxes(*[(x, y, x + w, y + h) for x, y, w, h, _ in rows])
    scores = np.array([row[4] for row in rows], np.float32)
    kept = bx.suppress(boxes, scores, threshold, overlap).tolist()
    assert kept == _suppress_by_definition(boxes, scores, threshold, overlap)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="choose iou or own-area"):
        bx.suppress(EMPTY, np.zeros(0, np.float32), 0.5, "giou")  # type: ignore[arg-type]
    for threshold in (-0.1, 1.5):
        with pytest.raises(UsageError, match="must lie between 0 and 1"):
            bx.suppress(EMPTY, np.zeros(0, np.float32), threshold)


@pytest.mark.parametrize("overlap", ["iou", "own-area"])
@pytest.mark.parametrize("seed", range(8))
def test_many_boxes_in_lanes_are_suppressed_as_defined(
    overlap: Overlap, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lanes begin at few boxes here, and what counts as a crowd is small: both ways, and the change between them."""
    monkeypatch.setattr(bx, "_MANY", 50)
    monkeypatch.setattr(bx, "_MIN_BLOCK", 2)
    monkeypatch.setattr(bx, "_PAIRS", 400)
    monkeypatch.setattr(bx, "_CROWD", 100 if seed % 2 else 10_000)
    rng = np.random.default_rng(seed)
    corners = np.concatenate([rng.uniform(0, 300, (300, 2)), rng.normal(50, 3, (100, 2))])
    sides = np.exp(rng.uniform(0, 4.5, (400, 2)))
    boxes = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
    boxes[::40, 2:] = boxes[::40, :2] - 0.5
    scores = rng.integers(0, 50, 400).astype(np.float32) / 50
    assert bx.suppress(boxes, scores, 0.3, overlap).tolist() == _suppress_by_definition(boxes, scores, 0.3, overlap)


@pytest.mark.parametrize("overlap", ["iou", "own-area"])
def test_a_hundred_thousand_sparse_boxes_take_about_a_second(overlap: Overlap) -> None:
    rng = np.random.default_rng(0)
    corners, sides = rng.uniform(0, 20_000, (100_000, 2)), rng.uniform(10, 40, (100_000, 1))
    boxes = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
    started = time.process_time()
    kept = bx.suppress(boxes, rng.random(100_000).astype(np.float32), 0.4, overlap)
    assert len(kept) > 90_000
    assert time.process_time() - started < 5, "13 s and more when all are compared with all"
