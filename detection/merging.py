"""What several looks at one image agree on: the same detector at several sizes and mirrored, or several detectors.

Detections that overlap are one object. Its box and points are means weighted by score, its score is the mean over all
the looks that were taken, one that missed it counting as 0: what all agree on comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.detections import Detections, ImageDetector
from lffd.boxes import flip_horizontal, iou
from lffd.points import MIRRORED


@dataclass(frozen=True)
class Look:
    """One way to look at an image: enlarged by `scale`, and perhaps mirrored."""

    scale: float = 1.0
    mirrored: bool = False

    def __call__(self, detector: ImageDetector, image: NDArray[np.uint8]) -> Detections:
        """Return what the detector finds this way, in pixels of `image` `(H, W, 3)` uint8 BGR."""
        import cv2

        height, width = image.shape[:2]
        size = max(round(width * self.scale), 1), max(round(height * self.scale), 1)
        seen = image
        if size != (width, height):
            method = cv2.INTER_AREA if self.scale < 1 else cv2.INTER_LINEAR
            seen = np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)
        if self.mirrored:
            seen = np.ascontiguousarray(seen[:, ::-1])
        found = detector(seen)
        boxes, points = found.boxes, found.landmarks
        if self.mirrored:
            boxes = flip_horizontal(boxes, size[0])
            if points is not None:
                points = points[:, MIRRORED] * (-1, 1) + (size[0], 0)
        factor = np.array([width / size[0], height / size[1]])
        boxes = (boxes * np.tile(factor, 2)).astype(np.float32)
        return Detections(boxes, found.scores, None if points is None else (points * factor).astype(np.float32))


def merge(looks: Sequence[Detections], overlap: float = 0.5) -> Detections:
    """Return the objects that looks at one image found, in its pixels, best first.

    Args:
        looks: what each saw; points count where a look has them.
        overlap: boxes with a larger IoU than this with the best one of an object belong to it.
    """
    boxes = np.concatenate([found.boxes for found in looks]).reshape(-1, 4)
    scores = np.concatenate([found.scores for found in looks])
    owners = np.repeat(np.arange(len(looks)), [len(found) for found in looks])
    have_points = any(found.landmarks is not None for found in looks)
    points = np.concatenate([_points(found) for found in looks])
    order = np.argsort(-scores, kind="stable")
    boxes, scores, owners, points = boxes[order], scores[order], owners[order], points[order]
    free = np.ones(len(scores), bool)
    merged: list[tuple[float, NDArray[np.float64], NDArray[np.float64]]] = []
    for leader in range(len(scores)):
        if not free[leader]:
            continue
        rest = leader + np.flatnonzero(free[leader:])
        members = rest[iou(boxes[leader : leader + 1], boxes[rest])[0] > overlap]
        members = np.union1d(members, [leader])
        free[members] = False
        _, firsts = np.unique(owners[members], return_index=True)  # of each look its best one
        chosen = members[firsts]
        weight = scores[chosen].astype(np.float64)
        known = np.isfinite(points[chosen]).all(axis=(1, 2))
        place = np.full((5, 2), np.nan)
        if known.any():
            place = np.average(points[chosen[known]], axis=0, weights=weight[known])
        merged.append((weight.sum() / len(looks), np.average(boxes[chosen], axis=0, weights=weight), place))
    merged.sort(key=lambda one: -one[0])
    found_boxes = np.array([box for _, box, _ in merged], np.float32).reshape(-1, 4)
    found_points = np.array([place for _, _, place in merged], np.float32).reshape(-1, 5, 2) if have_points else None
    return Detections(found_boxes, np.array([score for score, _, _ in merged], np.float32), found_points)


def _points(found: Detections) -> NDArray[np.float32]:
    """Return the points of a look, NaN where it has none."""
    return np.full((len(found), 5, 2), np.nan, np.float32) if found.landmarks is None else found.landmarks
