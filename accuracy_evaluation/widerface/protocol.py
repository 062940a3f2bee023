"""The official WIDER FACE protocol: matching, precision–recall curves, average precision.

The rules are those of the official MATLAB program (eval_tools of the WIDER FACE site):

- Scores are normalised to 0–1 by the smallest and the largest of the whole set.
- Best first, each detection looks at the one face of its image that it overlaps most (IoU with one pixel added to every
  side; the first of equals). Under an IoU of 0.5 it is a false positive. A face that the subset does not evaluate takes
  the detection out of the count. An evaluated face is found by its first detection; later ones are false positives.
- Detections on an image without any annotated face are not counted at all.
- Precision and recall are taken at 1,000 thresholds, 0.999 down to 0; precision is made monotone; average precision is
  the area below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accuracy_evaluation.widerface.ground_truth import SUBSETS, ImageTruth
from lffd.boxes import iou

THRESHOLDS = 1 - np.arange(1, 1001) / 1000
MINIMUM_IOU = 0.5

_PAIRS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Matches:
    """Which detection met which face. `D` detections and `F` faces of all images, in order.

    Attributes:
        images: `(D,)` index of the image of each detection, rising; those on images without faces are left out.
        scores: `(D,)` float64, normalised to 0–1; falling within an image.
        raw_scores: `(D,)` float64, as given.
        faces: `(D,)` index of the face that the detection meets, -1 for none.
        first: `(D,)` bool, whether it is the first detection that meets this face.
        face_images: `(F,)` index of the image of each face, rising.
        evaluated: `(3, F)` bool, whether the face counts in each of `SUBSETS`.
        sides: `(F,)` float64, longer side of each face in pixels.
    """

    images: NDArray[np.intp]
    scores: NDArray[np.float64]
    raw_scores: NDArray[np.float64]
    faces: NDArray[np.intp]
    first: NDArray[np.bool_]
    face_images: NDArray[np.intp]
    evaluated: NDArray[np.bool_]
    sides: NDArray[np.float64]

    def hits(self, subset: int) -> NDArray[np.bool_]:
        """Return `(D,)` bool: detections that find an evaluated face of the subset."""
        return self.first & self._meets(subset)

    def counted(self, subset: int) -> NDArray[np.bool_]:
        """Return `(D,)` bool: detections that count for precision: all but those on faces not evaluated."""
        return (self.faces < 0) | self._meets(subset)

    def of_images(self, start: int, stop: int) -> Matches:
        """Return the part on images `start` up to, not including, `stop`; scores stay normalised over the whole set."""
        rows, faces = (slice(*np.searchsorted(owners, (start, stop))) for owners in (self.images, self.face_images))
        return Matches(
            self.images[rows],
            self.scores[rows],
            self.raw_scores[rows],
            np.maximum(self.faces[rows] - faces.start, -1),
            self.first[rows],
            self.face_images[faces],
            self.evaluated[:, faces],
            self.sides[faces],
        )

    def _meets(self, subset: int) -> NDArray[np.bool_]:
        """Return `(D,)` bool: detections that meet an evaluated face."""
        known = np.append(self.evaluated[subset], False)  # the last one answers for faces == -1
        return known[self.faces]


@dataclass(frozen=True)
class Curve:
    """A precision-recall curve `(1000,)` at `THRESHOLDS`, and the area under it after it is made monotone.

    Precision is 0 where nothing is detected; recall and average precision are nan where there are no faces.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    average_precision: float
    faces: int


def match(images: Sequence[ImageTruth], results: Sequence[NDArray[np.float64]]) -> Matches:
    """Match the detections of each image, `(N, 5)` float64 `x, y, width, height, score` best first, with its faces."""
    low, span = _score_range(results)
    parts: list[tuple[NDArray[Any], ...]] = [(np.zeros(0, int), np.zeros(0), np.zeros(0, int), np.zeros(0, bool))]
    offset = 0
    for index, (image, rows) in enumerate(zip(images, results, strict=True)):
        if len(image.boxes):
            nearest, first = match_image(rows[:, :4], image.boxes)
            parts.append((np.full(len(rows), index), rows[:, 4], np.where(nearest < 0, -1, nearest + offset), first))
            offset += len(image.boxes)
    owners, raw_scores, faces, firsts = (np.concatenate(column) for column in zip(*parts, strict=True))
    face_images = np.repeat(np.arange(len(images)), np.array([len(image.boxes) for image in images], np.intp))
    evaluated = np.concatenate([np.zeros((len(SUBSETS), 0), bool), *(image.evaluated for image in images)], axis=1)
    sides = np.concatenate([np.zeros((0, 4)), *(image.boxes for image in images)])[:, 2:].max(axis=1)
    return Matches(owners, (raw_scores - low) / span, raw_scores, faces, firsts, face_images, evaluated, sides)


def match_image(
    detections: NDArray[np.float64], faces: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Match the detections `(N, 4)` of one image, best first, with its faces `(M, 4)`, `M` > 0: `x, y, width, height`.

    Returns:
        `(N,)` index of the face that each detection meets, or -1; `(N,)` bool, whether it is the first to meet it.
    """
    nearest = np.full(len(detections), -1, np.intp)
    step = max(1, _PAIRS_AT_ONCE // len(faces))
    truth = _corners(faces)
    for start in range(0, len(detections), step):
        overlaps = iou(_corners(detections[start : start + step]), truth, border=1)  # type: ignore[arg-type]  # float64
        best = overlaps.argmax(axis=1)
        met = np.take_along_axis(overlaps, best[:, None], axis=1)[:, 0] >= MINIMUM_IOU
        nearest[start : start + step][met] = best[met]
    first = np.zeros(len(detections), bool)
    found, positions = np.unique(nearest, return_index=True)
    first[positions[found >= 0]] = True
    return nearest, first


def curve(matches: Matches, subset: int) -> Curve:
    """Return the precision–recall curve of one subset, an index into `SUBSETS`."""
    proposals = _at_or_above(matches.scores[matches.counted(subset)])
    found = _at_or_above(matches.scores[matches.hits(subset)])
    total = int(np.count_nonzero(matches.evaluated[subset]))
    precision = np.divide(found, proposals, out=np.zeros(len(THRESHOLDS)), where=proposals > 0)
    recall = found / total if total else np.full(len(THRESHOLDS), np.nan)
    return Curve(precision, recall, _area(precision, recall), total)


def _area(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> float:
    """Return the area under the curve after precision is made non-increasing in recall."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def _at_or_above(scores: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return how many scores reach each threshold, `(1000,)`."""
    return scores.size - np.searchsorted(np.sort(scores), THRESHOLDS, side="left")


def _score_range(results: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Return the smallest score and the span of all scores; equal scores all become 1."""
    scores = np.concatenate([np.zeros(0), *(rows[:, 4] for rows in results)])
    if not scores.size:
        return 0.0, 1.0
    low, high = float(scores.min()), float(scores.max())
    return (low, high - low) if high > low else (low - 1.0, 1.0)


def _corners(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn `x, y, width, height` into `x0, y0, x1, y1`."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
