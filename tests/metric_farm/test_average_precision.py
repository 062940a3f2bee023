from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from lffd.errors import UsageError
from metric_farm.average_precision import Found, Truth, average_precision, to_coco, to_coco_results

OBJECT, OTHER, AWAY = [0, 0, 50, 50], [100, 0, 150, 50], [400, 400, 450, 450]
HALF_OF_101 = 51 / 101
"""COCO reads precision at recalls 0, 0.01, …, 1: half of the objects found is 51 of 101 points."""


def truth(*boxes: Sequence[float], ignored: tuple[bool, ...] = ()) -> Truth:
    flags = np.array(ignored or [False] * len(boxes), bool)
    return np.array(boxes, np.float32).reshape(-1, 4), flags


def found(*rows: tuple[Sequence[float], float]) -> Found:
    boxes = np.array([box for box, _ in rows], np.float32).reshape(-1, 4)
    return boxes, np.array([score for _, score in rows], np.float32)


@pytest.mark.parametrize(
    ("objects", "detections", "ap50", "ap"),
    [
        pytest.param([truth()], [found()], np.nan, np.nan, id="nothing at all"),
        pytest.param([truth()], [found((OBJECT, 0.9))], np.nan, np.nan, id="no objects"),
        pytest.param([truth(OBJECT)], [found()], 0, 0, id="no detections"),
        pytest.param([truth(OBJECT)], [found((OBJECT, 0.9))], 1, 1, id="found"),
        pytest.param([truth(OBJECT)], [found((AWAY, 0.9))], 0, 0, id="missed"),
        pytest.param([truth(OBJECT, OTHER)], [found((OBJECT, 0.9))], HALF_OF_101, HALF_OF_101, id="half found"),
        pytest.param([truth(OBJECT)], [found((AWAY, 0.9), (OBJECT, 0.8))], 0.5, 0.5, id="false one first"),
        pytest.param([truth(OBJECT)], [found((OBJECT, 0.8), (AWAY, 0.1))], 1, 1, id="false one last"),
        pytest.param([truth(OBJECT)], [found(([0, 0, 50, 38.5], 0.9))], 1, 0.6, id="IoU 0.77"),
        pytest.param(
            [truth(OBJECT, OTHER, ignored=(False, True))],
            [found((OTHER, 0.9), ([110, 10, 140, 40], 0.8), (OBJECT, 0.7))],
            1,
            1,
            id="on an ignored object: not counted",
        ),
        pytest.param([truth(OBJECT, ignored=(True,))], [found((OBJECT, 0.9))], np.nan, np.nan, id="all ignored"),
        pytest.param(
            [truth(OBJECT), truth(), truth(OTHER)],
            [found((OBJECT, 0.9)), found((AWAY, 0.8)), found((OTHER, 0.7))],
            (51 + 50 * 2 / 3) / 101,
            (51 + 50 * 2 / 3) / 101,
            id="over several images",
        ),
    ],
)
def test_known_answers(objects: list[Truth], detections: list[Found], ap50: float, ap: float) -> None:
    figures = average_precision(objects, detections)
    assert [figures.ap50, figures.ap] == pytest.approx([ap50, ap], nan_ok=True)
    assert figures.images == len(objects)


def test_sizes_are_told_apart_by_area() -> None:
    small, medium, large = [0, 0, 20, 20], [100, 0, 150, 50], [200, 0, 320, 120]
    figures = average_precision([truth(small, medium, large)], [found((large, 0.9), (medium, 0.8))])
    assert [figures.ap_small, figures.ap_medium, figures.ap_large] == pytest.approx([0, 1, 1])
    assert figures.objects == 3
    assert figures.recall == pytest.approx(2 / 3)


def test_only_the_best_detections_of_an_image_count() -> None:
    crowd = [[float(20 * number), 0, float(20 * number + 10), 10] for number in range(4)]
    detections = found(*((box, 0.5 + 0.1 * number) for number, box in enumerate(crowd)))
    assert average_precision([truth(*crowd)], [detections]).ap50 == pytest.approx(1)
    limited = average_precision([truth(*crowd)], [detections], max_detections=2)
    assert limited.ap50 == pytest.approx(HALF_OF_101)
    assert (limited.crowded_images, limited.max_detections) == (1, 2)
    assert [row["score"] for row in to_coco_results([detections], 2)] == pytest.approx([0.8, 0.7])


def test_coco_files_hold_corners_and_sides() -> None:
    content = to_coco([truth(), truth([10, 20, 30, 60], ignored=(True,))], ["a.jpg", "b.jpg"])
    assert content["images"] == [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}]
    assert content["annotations"] == [
        {"id": 1, "image_id": 2, "category_id": 1, "bbox": [10, 20, 20, 40], "area": 800, "iscrowd": 1}
    ]
    assert to_coco_results([found(), found(([10, 20, 30, 60], 0.5))], 9) == [
        {"image_id": 2, "category_id": 1, "bbox": [10, 20, 20, 40], "score": 0.5}
    ]


def test_unequal_lists_and_empty_limits_are_refused() -> None:
    with pytest.raises(UsageError, match="objects of 1 images, but detections in 2"):
        average_precision([truth()], [found(), found()])
    with pytest.raises(UsageError, match="at least 1, not 0"):
        average_precision([truth()], [found()], 0)
