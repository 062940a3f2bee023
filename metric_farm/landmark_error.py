"""How far found points lie from annotated ones: the normalised mean error (NME).

The error of a face is the mean distance of its five points from the annotated ones, over a length of the annotated
face: the side √(width · height) of its box, as for faces that may turn away (RetinaFace, arXiv 1905.00641, section 4);
or the distance of its eyes, as for faces that look at us, where that is over ten pixels and so says something.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lffd.boxes import Boxes, areas, iou, longer_sides
from lffd.points import Points

Floats = NDArray[np.float64]

LEAST_EYE_DISTANCE = 10.0
FAILED = 0.1
"""A face fails whose error is more than this share of its box's side."""
CLASSES = (0.0, 16.0, 32.0, 64.0, 128.0, 256.0, float("inf"))
"""Ends of the size classes, by a box's longer side in pixels; the lower one is included."""


@dataclass(frozen=True)
class FaceErrors:
    """One entry per annotated face, `(N,)` each.

    Attributes:
        sides: longer side of its box in pixels.
        by_box: error over the box's side; NaN for a face that was not found.
        by_eyes: error over the distance of the eyes; NaN also where that is not over ten pixels.
    """

    sides: Floats
    by_box: Floats
    by_eyes: Floats


@dataclass(frozen=True)
class LandmarkError:
    """The figures of some faces; NaN where there is nothing to average.

    Attributes:
        faces, found: how many are annotated, and how many of these were found.
        nme_box, nme_eyes: mean errors of those that were found, by box and by eyes.
        eyes: how many faces the latter is of.
        failure_rate: share of those that were found with an error by box over 0.1.
    """

    faces: int
    found: int
    nme_box: float
    nme_eyes: float
    eyes: int
    failure_rate: float


def match(truth: Boxes, found: Boxes, least_iou: float) -> NDArray[np.intp]:
    """Return which of the found boxes each true one `(N,)` gets, −1 for none: pairs of the greatest IoU first."""
    overlaps = iou(truth, found)
    rows, columns = np.nonzero(overlaps >= least_iou)
    owner, taken = np.full(len(truth), -1, np.intp), set[int]()
    for pair in np.argsort(-overlaps[rows, columns], kind="stable").tolist():
        row, column = int(rows[pair]), int(columns[pair])
        if owner[row] < 0 and column not in taken:
            owner[row] = column
            taken.add(column)
    return owner


def face_errors(boxes: Boxes, landmarks: Points, places: NDArray[np.float32], owners: NDArray[np.intp]) -> FaceErrors:
    """Return the errors of faces.

    Args:
        boxes: annotated ones, `(N, 4)` xyxy in pixels.
        landmarks: annotated ones, `(N, 5, 3)`, all known.
        places: found points, `(M, 5, 2)`.
        owners: `(N,)` which of the found faces each annotated one is, see `match`.
    """
    true, missed = landmarks[:, :, :2].astype(np.float64), owners < 0
    distance = np.full(len(boxes), np.nan)
    if len(places):
        distance = np.linalg.norm(places[owners].astype(np.float64) - true, axis=2).mean(axis=1)
    distance[missed] = np.nan
    eyes = np.linalg.norm(true[:, 0] - true[:, 1], axis=1)
    by_eyes = np.divide(distance, eyes, out=np.full(len(boxes), np.nan), where=eyes > LEAST_EYE_DISTANCE)
    return FaceErrors(
        longer_sides(boxes).astype(np.float64), distance / np.sqrt(np.maximum(areas(boxes), 1e-9)), by_eyes
    )


def join(parts: Iterable[FaceErrors]) -> FaceErrors:
    """Return the errors of several images together."""
    listed = list(parts)
    names = ("sides", "by_box", "by_eyes")
    return FaceErrors(*(np.concatenate([np.zeros(0), *(getattr(part, name) for part in listed)]) for name in names))


def summarise(errors: FaceErrors, low: float = 0.0, high: float = float("inf")) -> LandmarkError:
    """Return the figures of the faces with a longer side from `low` to under `high` pixels."""
    inside = (errors.sides >= low) & (errors.sides < high)
    by_box, by_eyes = errors.by_box[inside], errors.by_eyes[inside]
    by_box, by_eyes = by_box[~np.isnan(by_box)], by_eyes[~np.isnan(by_eyes)]
    nme_box, nme_eyes, failed = (
        float(values.mean()) if len(values) else float("nan") for values in (by_box, by_eyes, by_box > FAILED)
    )
    return LandmarkError(int(inside.sum()), len(by_box), nme_box, nme_eyes, len(by_eyes), failed)
