"""The five points of faces in every format that has them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from data_provider_farm.readers.annotations import FivePoints, RawBox, build_source
from data_provider_farm.readers.coco import read_coco
from data_provider_farm.readers.retinaface import read_retinaface
from data_provider_farm.readers.yolo import read_yolo
from lffd.errors import DataError

FACE = [[12, 10], [20, 10], [16, 14], [13, 18], [19, 18]]
SEEN = [[x, y, 2] for x, y in FACE]


def test_boxes_without_points_and_faulty_points_become_unknown() -> None:
    good: FivePoints = tuple((x, y, flag) for x, y, flag in [*SEEN[:4], [7, 7, 0]])
    bad: FivePoints = ((np.nan, 1.0, 2.0), *good[1:])
    box = RawBox((0, 0, 9, 9), "here:1")
    source = build_source(Path("a"), "a", "here", [box, box._replace(landmarks=good), box._replace(landmarks=bad)])
    assert source.landmarks is not None
    assert source.landmarks.dtype == np.float32
    assert source.landmarks[1].tolist() == [*SEEN[:4], [0, 0, 0]]
    assert not source.landmarks[[0, 2]].any()
    assert [problem.kind for problem in source.problems] == ["bad-points"]
    assert build_source(Path("a"), "a", "here", [box]).landmarks is None


RETINAFACE = """# 0--Parade/a.jpg
10 8 14 12 12 10 0.0 20 10 0.0 16 14 1.0 13 18 0.0 19 18 0.0 0.82
30 8 14 12 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 0.2
# empty.jpg
# b.jpg
1 2 3 4
"""


def test_retinaface(tmp_path: Path) -> None:
    (tmp_path / "label.txt").write_text(RETINAFACE)
    listing = read_retinaface(tmp_path, tmp_path / "label.txt")
    first, empty, last = listing.images
    assert listing.count == 3
    assert first.name == "0--Parade/a.jpg"
    assert first.boxes.tolist() == [[10, 8, 24, 20], [30, 8, 44, 20]]
    assert first.landmarks is not None
    expected = [[*point, 1 if number == 2 else 2] for number, point in enumerate(FACE)]
    assert first.landmarks[0].tolist() == expected
    assert not first.landmarks[1].any()
    assert (len(empty.boxes), empty.landmarks) == (0, None)
    assert (last.boxes.tolist(), last.landmarks) == ([[1, 2, 4, 6]], None)


@pytest.mark.parametrize(
    ("text", "message"), [("1 2 3 4\n", "a.txt:1: expected the name"), ("# a\n1 2 3\n", "a.txt:2: expected `x y w h`")]
)
def test_faults_of_retinaface_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        list(read_retinaface(tmp_path, tmp_path / "a.txt").images)


def _coco(names: list[str], keypoints: Sequence[Sequence[float]]) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "categories": [{"id": 7, "name": "face", "keypoints": names}],
        "annotations": [
            {"image_id": 1, "category_id": 7, "bbox": [10, 8, 14, 12], "keypoints": list(chain(*keypoints))}
        ],
    }


SHUFFLED = ["nose", "right_eye", "ear", "left_eye", "mouth_left", "mouth_right"]
MIRRORED = [SEEN[place] for place in (1, 0, 2, 4, 3)]


@pytest.mark.parametrize(
    ("names", "keypoints"),
    [
        (["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"], SEEN),
        (["a", "b", "c", "d", "e"], SEEN),
        (SHUFFLED, [SEEN[2], SEEN[1], [0, 0, 0], SEEN[0], *SEEN[3:]]),
        (["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"], MIRRORED),
    ],
    ids=["viewer's names", "order", "by name", "person's names"],
)
def test_coco_by_name_or_order(tmp_path: Path, names: list[str], keypoints: Sequence[Sequence[float]]) -> None:
    """Whichever side a file calls left, the eye on the image's left comes first."""
    (tmp_path / "a.json").write_text(json.dumps(_coco(names, keypoints)))
    (image,) = read_coco(tmp_path, tmp_path / "a.json", "face").images
    assert image.landmarks is not None
    assert image.landmarks[0].tolist() == SEEN


def test_coco_keypoints_of_something_else_are_left_out(tmp_path: Path) -> None:
    document = _coco(["nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_knee"], [*SEEN, [1, 1, 2]])
    (tmp_path / "a.json").write_text(json.dumps(document))
    (image,) = read_coco(tmp_path, tmp_path / "a.json", None).images
    assert image.landmarks is None


def test_coco_refuses_keypoints_that_are_too_few(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(_coco(["a", "b", "c", "d", "e"], SEEN[:4])))
    with pytest.raises(DataError, match=r"annotations\[0\]: keypoints must be"):
        read_coco(tmp_path, tmp_path / "a.json", None)


@pytest.mark.parametrize("each", [2, 3])
def test_yolo_pose(tmp_path: Path, each: int) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((40, 50, 3), np.uint8))
    points = [[x / 50, y / 40, 2][:each] for x, y in FACE[:4]] + [[-1, -1, 0][:each]]
    (tmp_path / "a.txt").write_text(f"0 0.34 0.35 0.28 0.3 {' '.join(str(value) for row in points for value in row)}\n")
    (image,) = read_yolo(tmp_path, tmp_path, None).images
    assert image.landmarks is not None
    np.testing.assert_allclose(image.landmarks[0], [*SEEN[:4], [0, 0, 0]], atol=1e-5)
    np.testing.assert_allclose(image.boxes, [[10, 8, 24, 20]], atol=1e-5)


def test_coco_scores(tmp_path: Path) -> None:
    document = _coco(["nose"], [SEEN[0]])
    document["annotations"] += [{**document["annotations"][0], "score": 0.25}]
    (tmp_path / "a.json").write_text(json.dumps(document))
    (image,) = read_coco(tmp_path, tmp_path / "a.json", None).images
    assert image.scores is not None
    assert image.scores.tolist() == [1, 0.25]
    document["annotations"][1]["score"] = "high"
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"annotations\[1\]: score must be"):
        read_coco(tmp_path, tmp_path / "a.json", None)
