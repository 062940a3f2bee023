"""The FDDB protocol: regions, matching, discrete and continuous ROC (technical report UM-CS-2010-009).

At every score threshold, the detections of each image are matched with its faces one to one, so that the sum of their
overlaps is largest. Discrete ROC: a match with an overlap over 0.5 is a hit. Continuous ROC: every match counts by its
overlap. False positives are all other detections, in both curves. Overlap is the intersection over union of the two
regions, both cut off at the image's border.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accuracy_evaluation.fddb import ellipses
from accuracy_evaluation.fddb.files import ELLIPSE, FddbImage
from lffd.errors import UsageError

Size = tuple[float, float]
UNKNOWN: Size = (np.inf, np.inf)
"""Size of an image that is cut off at 0 alone."""


@dataclass(frozen=True)
class Steps:
    """What changes where the threshold falls below the score of each detection, `(D,)`, all images together.

    `discrete` is the change of the number of hits, mostly 0 or 1, `continuous` that of the sum of overlaps; `folds` is
    the fold of each detection's image, `faces` the number of annotated faces by fold.
    """

    scores: NDArray[np.float64]
    discrete: NDArray[np.float64]
    continuous: NDArray[np.float64]
    folds: NDArray[np.intp]
    faces: Mapping[int, int]


@dataclass(frozen=True)
class Roc:
    """Both curves, `(N, 2)` false positives, rising from 0, and true-positive rate; numbers of faces and detections."""

    discrete: NDArray[np.float64]
    continuous: NDArray[np.float64]
    faces: int
    detections: int


def overlaps(faces: NDArray[np.float64], detections: NDArray[np.float64], size: Size = UNKNOWN) -> NDArray[np.float64]:
    """Return the intersection over union `(D, F)` of one image's detections and faces, see `files`.

    `size` is width and height at which regions are cut off; they are always cut off at 0.
    """
    if detections.shape[1] == ELLIPSE:
        outlines = ellipses.ellipse_corners(detections[:, :5])
    else:
        outlines = ellipses.rectangle_corners(np.hstack([detections[:, :2], detections[:, :2] + detections[:, 2:4]]))
    regions = ellipses.clip_polygons(outlines, *size)
    region_areas = ellipses.polygon_areas(regions)
    low, high = _bounds(faces)
    frames = ellipses.clip_polygons(ellipses.rectangle_corners(np.hstack([low, high])), *size)
    face_areas = ellipses.shared_with_ellipse(faces, frames)
    apart = (regions.min(axis=1)[:, None] >= high) | (regions.max(axis=1)[:, None] <= low)
    rows, columns = np.nonzero(~apart.any(axis=2))
    shared = np.zeros((len(detections), len(faces)))
    shared[rows, columns] = ellipses.shared_with_ellipse(faces[columns], regions[rows])
    union = region_areas[:, None] + face_areas - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def match_prefixes(overlap: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the matching's value after each detection of an image, `(D, 2)`: hits, and sum of overlaps.

    `overlap` is `(D, F)`, best detection first; the value within a run of equal scores `(D,)` is that of its end.
    """
    from scipy.optimize import linear_sum_assignment

    touching = overlap.any(axis=1)
    known, value = 0, np.zeros(2)
    values = np.zeros((len(scores), 2))
    ends = np.flatnonzero(last_of_equals(scores)) + 1
    for start, end in itertools.pairwise([0, *ends]):
        rows = overlap[:end][touching[:end]]
        if len(rows) > known:  # a detection that touches no face changes nothing
            matched = rows[linear_sum_assignment(rows, maximize=True)]
            known, value = len(rows), np.array([np.count_nonzero(matched > 0.5), matched.sum()])
        values[start:end] = value
    return values


def last_of_equals(scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether each of falling scores is the last of its value, `(N,)`; a threshold takes equal ones together."""
    return np.append(scores[1:] != scores[:-1], True)[: len(scores)]


def match_images(
    images: Sequence[FddbImage], results: Sequence[NDArray[np.float64]], sizes: Mapping[str, Size] | None = None
) -> Steps:
    """Match the detections of every image, best first, at every threshold; without sizes, regions end at 0 alone.

    Raises:
        UsageError: when `sizes` lacks an image.
    """
    if sizes is not None and (missing := [image.name for image in images if image.name not in sizes]):
        count = f"{len(missing):,} of {len(images):,} images"
        raise UsageError(f"the sizes of {count} are missing, the first is {missing[0]}")
    changes, scores, folds = [np.zeros((0, 2))], [np.zeros(0)], [np.zeros(0, np.intp)]
    faces: Counter[int] = Counter()
    for image, rows in zip(images, results, strict=True):
        faces[image.fold] += len(image.ellipses)
        size = sizes[image.name] if sizes is not None else UNKNOWN
        values = match_prefixes(overlaps(image.ellipses, rows, size), rows[:, -1])
        changes.append(np.diff(values, axis=0, prepend=0.0))
        scores.append(rows[:, -1])
        folds.append(np.full(len(rows), image.fold))
    both = np.concatenate(changes)
    return Steps(np.concatenate(scores), both[:, 0], both[:, 1], np.concatenate(folds), faces)


def roc(steps: Steps, fold: int | None = None) -> Roc:
    """Return the curves of one fold, or of all together.

    Raises:
        UsageError: when there is no annotated face.
    """
    chosen = np.ones(len(steps.scores), bool) if fold is None else steps.folds == fold
    faces = sum(steps.faces.values()) if fold is None else steps.faces.get(fold, 0)
    if not faces:
        raise UsageError("there is no annotated face to find" + (f" in fold {fold}" if fold is not None else ""))
    order = np.argsort(-steps.scores[chosen], kind="stable")
    scores = steps.scores[chosen][order]
    hits = np.cumsum(steps.discrete[chosen][order])
    weights = np.cumsum(steps.continuous[chosen][order])
    whole = last_of_equals(scores)
    false_positives = (np.arange(1, len(scores) + 1) - hits)[whole]
    discrete, continuous = (_curve(false_positives, found[whole] / faces) for found in (hits, weights))
    return Roc(discrete, continuous, faces, len(scores))


def rate_at(curve: NDArray[np.float64], false_positives: float) -> float:
    """Return a curve's true-positive rate at a number of false positives: that of the last point up to it."""
    return float(curve[np.searchsorted(curve[:, 0], false_positives, side="right") - 1, 1])


def _curve(false_positives: NDArray[np.float64], rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return one point per number of false positives, that of the lowest threshold, from 0 on."""
    x, y = np.append(0.0, false_positives), np.append(0.0, rates)
    numbers, last = np.unique(x[::-1], return_index=True)
    return np.column_stack([numbers, y[::-1][last]])


def _bounds(faces: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lowest and the highest x, y of ellipses, `(F, 2)` each."""
    major, minor, angle, x, y = faces.T
    reach = np.hypot([major * np.cos(angle), major * np.sin(angle)], [minor * np.sin(angle), minor * np.cos(angle)]).T
    centers = np.column_stack([x, y])
    return centers - reach, centers + reach
