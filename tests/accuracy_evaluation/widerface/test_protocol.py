from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accuracy_evaluation.widerface.ground_truth import ImageTruth
from accuracy_evaluation.widerface.protocol import THRESHOLDS, curve, match, match_image

FACE, FAR, AWAY = [0, 0, 19, 19], [100, 100, 19, 19], [500, 500, 19, 19]
"""With the border pixel: 20×20, at three places."""


def truth(faces: list[list[int]], *chosen: int) -> ImageTruth:
    evaluated = np.zeros((3, len(faces)), bool)
    evaluated[:, list(chosen)] = True
    return ImageTruth("event", "image", np.array(faces, float).reshape(-1, 4), evaluated)


def found(*rows: tuple[list[int], float]) -> np.ndarray:
    return np.array([[*box, score] for box, score in rows], float).reshape(-1, 5)


def average_precision(images: list[ImageTruth], results: list[np.ndarray]) -> float:
    return curve(match(images, results), 0).average_precision


@pytest.mark.parametrize(
    ("images", "results", "expected"),
    [
        pytest.param([truth([FACE], 0)], [found()], 0, id="no detections"),
        pytest.param([truth([])], [found((AWAY, 0.9))], np.nan, id="no faces"),
        pytest.param([truth([])], [found()], np.nan, id="nothing at all"),
        pytest.param([truth([FACE, FAR])], [found((FACE, 0.9), (AWAY, 0.8))], np.nan, id="all ignored"),
        pytest.param([truth([FACE], 0)], [found((FACE, 0.9))], 1, id="one found"),
        pytest.param([truth([FACE, FAR], 0, 1)], [found((FACE, 0.9))], 0.5, id="one of two found"),
        pytest.param([truth([FACE], 0)], [found((AWAY, 0.9), (FACE, 0.8))], 0.5, id="false one first"),
        pytest.param([truth([FACE], 0)], [found((FACE, 0.9), (AWAY, 0.8))], 1, id="false one last"),
        pytest.param([truth([FACE], 0)], [found((AWAY, 0.9), (FACE, 0.9))], 0.5, id="a tie counts as a whole"),
        pytest.param([truth([FACE], 0)], [found((FACE, 0.9), (AWAY, 0.9))], 0.5, id="a tie in any order"),
        pytest.param(
            [truth([FACE, FAR], 0)], [found((FAR, 0.9), (FACE, 0.8))], 1, id="on an ignored face: not counted"
        ),
        pytest.param(
            [truth([FACE, FAR], 0)], [found((FAR, 0.9), (FAR, 0.85), (FACE, 0.8))], 1, id="twice on an ignored face"
        ),
        pytest.param(
            [truth([FACE, FAR], 0, 1)],
            [found((FACE, 0.9), (FACE, 0.8), (FAR, 0.7))],
            0.5 * 1 + 0.5 * 2 / 3,
            id="the second on a face is false",
        ),
        pytest.param(
            [truth([FACE], 0), truth([])],
            [found((FACE, 0.5)), found((AWAY, 0.9))],
            1,
            id="image without faces left out",
        ),
        pytest.param(
            [truth([FACE], 0), truth([FAR])],
            [found((FACE, 0.5)), found((AWAY, 0.9))],
            0.5,
            id="image with only ignored faces counts",
        ),
        pytest.param([truth([FACE], 0)], [found((FACE, -7), (AWAY, -9))], 1, id="any range of scores"),
    ],
)
def test_hand_made_cases(images: list[ImageTruth], results: list[np.ndarray], expected: float) -> None:
    assert average_precision(images, results) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    ("width", "meets"),
    [(9, True), (8, False)],  # (9 + 1) × 20 of 20 × 20 is half; without the border pixel it would be less
)
def test_the_border_pixel_counts_and_half_is_enough(width: int, meets: bool) -> None:
    nearest, first = match_image(np.array([[0.0, 0, width, 19]]), np.array([FACE], float))
    assert (nearest[0] == 0) == meets
    assert first[0] == meets


def test_a_detection_looks_only_at_the_face_that_it_overlaps_most() -> None:
    faces = np.array([[0, 0, 19, 19], [4, 0, 19, 19]], float)
    boxes = np.array([[0, 0, 19, 19], [1, 0, 19, 19], [2, 0, 19, 19]], float)  # the last lies half way: the first wins
    nearest, first = match_image(boxes, faces)
    assert nearest.tolist() == [0, 0, 0]
    assert first.tolist() == [True, False, False]


def test_scores_are_normalised_over_the_whole_set() -> None:
    matches = match([truth([FACE], 0), truth([FAR], 0)], [found((FACE, 6), (AWAY, 3)), found((FAR, 2))])
    assert matches.scores.tolist() == [1, 0.25, 0]
    assert matches.raw_scores.tolist() == [6, 3, 2]
    part = matches.of_images(1, 2)
    assert part.scores.tolist() == [0]
    assert part.faces.tolist() == [0]
    assert curve(part, 0).average_precision == 1


def test_precision_and_recall_at_the_thresholds() -> None:
    found_one, false_one = (FACE, 1.0), (AWAY, 0.0)
    points = curve(match([truth([FACE, FAR], 0, 1)], [found(found_one, false_one)]), 0)
    assert THRESHOLDS[[0, -1]].tolist() == [0.999, 0]
    assert points.precision[[0, 500, -2, -1]].tolist() == [1, 1, 1, 0.5]
    assert points.recall.tolist() == [0.5] * 1000
    assert points.faces == 2


def literal_protocol(images: list[ImageTruth], results: list[np.ndarray], subset: int) -> float:
    """The official program's loops, one detection and one threshold at a time."""
    scores = np.concatenate([rows[:, 4] for rows in results])
    low, high = (scores.min(), scores.max()) if scores.size else (0, 1)
    counts = np.zeros((1000, 2))
    faces = 0
    for image, rows in zip(images, results, strict=True):
        keep = image.evaluated[subset]
        faces += int(keep.sum())
        if not len(image.boxes) or not len(rows):
            continue
        recalled, proposal, recall = np.zeros(len(keep)), np.ones(len(rows)), np.zeros(len(rows))
        for index, (x, y, width, height, _) in enumerate(rows):
            gx, gy, gw, gh = image.boxes.T
            w = np.minimum(gx + gw, x + width) - np.maximum(gx, x) + 1
            h = np.minimum(gy + gh, y + height) - np.maximum(gy, y) + 1
            overlap = w * h / ((gw + 1) * (gh + 1) + (width + 1) * (height + 1) - w * h)
            overlap[(w <= 0) | (h <= 0)] = 0
            best = int(overlap.argmax())
            if overlap[best] >= 0.5:
                if not keep[best]:
                    recalled[best] = proposal[index] = -1
                elif recalled[best] == 0:
                    recalled[best] = 1
            recall[index] = np.count_nonzero(recalled == 1)
        normal = (rows[:, 4] - low) / (high - low) if high > low else np.ones(len(rows))
        for number in range(1000):
            over = np.flatnonzero(normal >= 1 - (number + 1) / 1000)
            if over.size:
                counts[number] += np.count_nonzero(proposal[: over[-1] + 1] == 1), recall[over[-1]]
    if not faces:
        return float("nan")
    precision = np.divide(counts[:, 1], counts[:, 0], out=np.zeros(1000), where=counts[:, 0] > 0)
    steps = np.concatenate([[0], counts[:, 1] / faces, [1]])
    heights = np.concatenate([[0], precision, [0]])
    for index in range(len(heights) - 2, -1, -1):
        heights[index] = max(heights[index], heights[index + 1])
    return float(sum((steps[i + 1] - steps[i]) * heights[i + 1] for i in range(len(steps) - 1)))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_equal_to_the_official_loops(seed: int) -> None:
    generator = np.random.default_rng(seed)
    images, results = [], []
    for _ in range(generator.integers(1, 5)):
        faces = generator.integers([0, 0, 4, 4], 44, (generator.integers(0, 6), 4))
        near = faces[generator.integers(0, max(len(faces), 1), 4 if len(faces) else 0)] + generator.normal(0, 3, (1, 4))
        boxes = np.concatenate([near, generator.integers([0, 0, 2, 2], 42, (3, 4))])
        scores = np.sort(generator.integers(0, 8, len(boxes)) / 7)[::-1]
        images.append(ImageTruth("e", "i", faces.astype(float), generator.random((3, len(faces))) < 0.6))
        results.append(np.column_stack([generator.permutation(boxes), scores]))
    matches = match(images, results)
    for subset in range(3):
        expected = literal_protocol(images, results, subset)
        assert curve(matches, subset).average_precision == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_many_detections_are_matched_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    faces = np.concatenate([generator.uniform(0, 500, (30, 2)), generator.uniform(10, 60, (30, 2))], axis=1)
    boxes = np.concatenate([faces[generator.integers(0, 30, 300)] + generator.normal(0, 3, (300, 4))])
    whole = match_image(boxes, faces)
    monkeypatch.setattr("accuracy_evaluation.widerface.protocol._PAIRS_AT_ONCE", 100)
    for one, other in zip(whole, match_image(boxes, faces), strict=True):
        np.testing.assert_array_equal(one, other)
