"""Detections as a COCO annotation file: what label tools and our own packer read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.detections import Detections
from lffd.points import COUNT, NAMES, SEEN, UNKNOWN, Points


def coco_file(names: Sequence[str], sizes: Sequence[tuple[int, int]], opinions: Sequence[Detections], what: str) -> Any:
    """Return opinions about images as the content of a COCO annotation file with scores and keypoints."""
    images = [
        {"id": number, "file_name": name, "width": width, "height": height}
        for number, (name, (width, height)) in enumerate(zip(names, sizes, strict=True), 1)
    ]
    annotations: list[dict[str, Any]] = []
    for image, found in enumerate(opinions, 1):
        for index, (x0, y0, x1, y1) in enumerate(found.boxes.round(2).tolist()):
            entry = {
                "id": len(annotations) + 1,
                "image_id": image,
                "category_id": 1,
                "bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)],
                "area": round((x1 - x0) * (y1 - y0), 2),
                "iscrowd": 0,
                "score": round(float(found.scores[index]), 4),
            }
            if found.landmarks is not None and np.isfinite(found.landmarks[index]).all():
                points = seen_points(found.landmarks[index]).round(2)
                entry |= {"keypoints": [float(value) for value in points.ravel()], "num_keypoints": COUNT}
            annotations.append(entry)
    category: dict[str, Any] = {"id": 1, "name": what}
    if any("keypoints" in entry for entry in annotations):
        category["keypoints"] = list(NAMES)
    return {"images": images, "annotations": annotations, "categories": [category]}


def seen_points(points: NDArray[np.float32]) -> Points:
    """Return points `(5, 2)` as `(5, 3)`, all of them seen; those that are not numbers are unknown."""
    known = np.isfinite(points).all(axis=1, keepdims=True)
    return np.where(known, np.concatenate([points, np.full((COUNT, 1), SEEN)], axis=1), UNKNOWN).astype(np.float32)
