"""Average precision as COCO defines it, computed by `faster-coco-eval`, the evaluator that the field uses.

One class. Ignored objects are handed over as COCO's crowds: a detection that lies on one (intersection over its own
area) is neither right nor wrong, and any number of detections may.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lffd.boxes import Boxes
from lffd.errors import UsageError

Truth = tuple[Boxes, NDArray[np.bool_]]
"""Objects of one image: boxes `(N, 4)` xyxy in pixels; `(N,)` true where the object is ignored."""

Found = tuple[Boxes, NDArray[np.float32]]
"""Detections in one image: boxes `(N, 4)` xyxy in pixels; scores `(N,)`, in any order."""

MAX_DETECTIONS = 100
"""Of COCO's protocol, per image."""

_AREAS = ("all", "small", "medium", "large")
_IOU_75 = 5


@dataclass(frozen=True)
class AveragePrecision:
    """COCO's figures for one class, 0–1; nan where there is no such object.

    Attributes:
        ap: mean over IoU 0.5, 0.55, …, 0.95.
        ap50, ap75: at one IoU.
        ap_small, ap_medium, ap_large: as `ap`, for objects of an area under 32², up to 96², over that, in pixels.
        recall: largest recall, mean over the same IoUs.
        images, objects: how many there are; ignored objects do not count.
        crowded_images: images with more objects than `max_detections`: not all of them can be found.
        max_detections: how many of the best detections of each image count.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    recall: float
    images: int
    objects: int
    crowded_images: int
    max_detections: int


def average_precision(
    truth: Sequence[Truth], found: Sequence[Found], max_detections: int = MAX_DETECTIONS
) -> AveragePrecision:
    """Return COCO's average precision of one class: the objects of each image against the detections found there.

    Raises:
        UsageError: when the two do not have the same number of images, or `max_detections` is under 1.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    if len(truth) != len(found):
        raise UsageError(f"there are objects of {len(truth)} images, but detections in {len(found)}")
    if max_detections < 1:
        raise UsageError(f"max_detections must be at least 1, not {max_detections}")
    reference = COCO(to_coco(truth))
    evaluator = COCOeval_faster(reference, reference.loadRes(to_coco_results(found, max_detections)), iouType="bbox")
    evaluator.params.maxDets = [max_detections]
    evaluator.evaluate()
    evaluator.accumulate()
    precision = evaluator.eval["precision"].reshape(10, 101, len(_AREAS))  # IoU, recall, (one class), area, (one limit)
    recall = evaluator.eval["recall"].reshape(10, len(_AREAS))
    counts = [int(np.count_nonzero(~ignored)) for _, ignored in truth]
    ap, small, medium, large = (_mean(precision[..., area]) for area in range(len(_AREAS)))
    ap50, ap75 = (_mean(precision[iou, :, 0]) for iou in (0, _IOU_75))
    crowded = sum(count > max_detections for count in counts)
    figures = (ap, ap50, ap75, small, medium, large, _mean(recall[:, 0]))
    return AveragePrecision(*figures, len(truth), sum(counts), crowded, max_detections)


def to_coco(truth: Sequence[Truth], names: Sequence[str] | None = None) -> dict[str, Any]:
    """Return ground truth as the content of a COCO annotation file; images are numbered from 1, and named if asked."""
    images: list[dict[str, Any]] = [{"id": number + 1} for number in range(len(truth))]
    for image, name in zip(images, names or [], strict=names is not None):
        image["file_name"] = name
    annotations: list[dict[str, Any]] = []
    for number, (boxes, ignored) in enumerate(truth, 1):
        for (x0, y0, x1, y1), crowd in zip(boxes.tolist(), ignored.tolist(), strict=True):
            width, height = x1 - x0, y1 - y0
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "bbox": [x0, y0, width, height]}
            annotations.append({**entry, "area": width * height, "iscrowd": int(crowd)})
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}


def to_coco_results(found: Sequence[Found], max_detections: int) -> list[dict[str, Any]]:
    """Return the best detections of each image as the content of a COCO result file."""
    results = []
    for number, (boxes, scores) in enumerate(found, 1):
        best = np.argsort(-scores, kind="stable")[:max_detections]
        for (x0, y0, x1, y1), score in zip(boxes[best].tolist(), scores[best].tolist(), strict=True):
            bbox = [x0, y0, x1 - x0, y1 - y0]
            results.append({"image_id": number, "category_id": 1, "bbox": bbox, "score": score})
    return results


def _mean(values: NDArray[np.float64]) -> float:
    """Return the mean of figures that exist; COCO writes -1 where there is no object."""
    return float(values[values > -1].mean()) if np.any(values > -1) else float("nan")
