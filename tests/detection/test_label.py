"""Annotations by detectors: a folder becomes a COCO file that packs, a pack keeps what people marked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from data_provider_farm import pack
from data_provider_farm.pack_format.packed_file import PackReader, PackWriter
from detection import label
from detection.detections import Detections
from lffd.boxes import iou
from lffd.errors import DataError, UsageError
from lffd.points import SEEN, UNKNOWN
from lffd.records import Record
from tests.detection.test_merging import Finder

BOX = (30, 20, 70, 60)
POINTS = [[38, 28], [62, 28], [54, 40], [42, 52], [58, 52]]


@pytest.fixture(autouse=True)
def _finder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label, "load_detector", lambda *_: Finder())


def _image() -> np.ndarray:
    image = np.zeros((80, 120, 3), np.uint8)
    image[20:60, 30:70, :2] = 255
    image[20:60, 30:50, 2] = 255
    return image


def _options(source: Path, output: Path, **more: Any) -> label.Options:
    return label.Options(source, output, ("finder",), **more)


def test_a_folder_becomes_a_coco_file_that_packs_with_its_points(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "in" / "deep" / "a.png"), _image())
    label.main(_options(tmp_path / "in", tmp_path / "out.json", class_name="thing"))
    document = json.loads((tmp_path / "out.json").read_text())
    (entry,) = document["annotations"]
    assert document["categories"][0]["name"] == "thing"
    assert entry["score"] == pytest.approx(0.9, abs=0.01)
    assert len(entry["keypoints"]) == 15
    target = tmp_path / "p.rec"
    pack.main(pack.Options(format="coco", images=tmp_path / "in", annotations=tmp_path / "out.json", output=target))
    with PackReader(target) as reader:
        record = reader[0]
    assert iou(record.boxes, np.array([BOX], np.float32))[0, 0] > 0.9
    assert record.landmarks is not None
    np.testing.assert_allclose(record.landmarks[0, :, :2], POINTS, atol=1.5)


def _pack(path: Path, boxes: list[tuple[int, ...]], **more: Any) -> Record:
    ok, jpeg = cv2.imencode(".jpg", _image())
    assert ok
    table = np.array(boxes, np.float32).reshape(-1, 4)
    record = replace(Record("a.jpg", jpeg.tobytes(), 120, 80, table, np.zeros(len(table), bool)), **more)
    with PackWriter(path) as writer:
        writer.add(record)
    return record


def _complete(tmp_path: Path, boxes: list[tuple[int, ...]], **more: Any) -> tuple[Record, Record]:
    facts = {key: more.pop(key) for key in ("landmarks", "ignored") if key in more}
    before = _pack(tmp_path / "in.rec", boxes, **facts)
    label.main(_options(tmp_path / "in.rec", tmp_path / "out.rec", **more))
    with PackReader(tmp_path / "out.rec") as reader:
        return before, reader[0]


def test_an_annotated_object_keeps_its_box_and_gets_points(tmp_path: Path) -> None:
    before, after = _complete(tmp_path, [(31, 19, 70, 62), (90, 0, 110, 20)])
    np.testing.assert_array_equal(after.boxes, before.boxes)
    assert after.image == before.image
    assert not after.ignored.any()
    assert after.landmarks is not None
    np.testing.assert_allclose(after.landmarks[0, :, :2], POINTS, atol=1.5)
    assert (after.landmarks[0, :, 2] == SEEN).all()
    assert (after.landmarks[1, :, 2] == UNKNOWN).all(), "nobody found it"


@pytest.mark.parametrize(("missed", "boxes", "ignored"), [("ignore", 2, 1), ("object", 2, 0), ("leave", 1, 0)])
def test_what_nobody_annotated_is_no_background(tmp_path: Path, missed: Any, boxes: int, ignored: int) -> None:
    _, after = _complete(tmp_path, [(90, 0, 110, 20)], missed=missed)
    assert (len(after.boxes), after.ignored.sum()) == (boxes, ignored)
    assert (after.landmarks is not None) == (missed == "object"), "who learns from it needs its points"


def test_points_that_people_marked_stand(tmp_path: Path) -> None:
    marked = np.full((1, 5, 3), 50, np.float32)
    marked[:, :, 2] = SEEN
    _, after = _complete(tmp_path, [BOX], landmarks=marked)
    assert after.landmarks is not None
    np.testing.assert_array_equal(after.landmarks, marked)


def test_small_faces_and_upside_down_ones_get_no_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, after = _complete(tmp_path, [BOX], least_side=45.0)
    assert after.landmarks is None
    turned = np.array(POINTS, np.float32)[::-1].copy()
    found = Detections(np.array([BOX], np.float32), np.ones(1, np.float32), turned[None])
    monkeypatch.setattr(label, "merge", lambda looks: found)
    (tmp_path / "more").mkdir()
    _, after = _complete(tmp_path / "more", [BOX])
    assert after.landmarks is None


@pytest.mark.parametrize(
    ("output", "more", "message"),
    [
        ("x.rec", {}, "gives a COCO file"),
        ("x.json", {"scales": ()}, "at least one"),
        ("x.json", {"least_score": 0.0}, "--least-score"),
    ],
)
def test_what_cannot_work_is_refused_before_the_work(
    tmp_path: Path, output: str, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        label.main(_options(tmp_path, tmp_path / output, **more))
    with pytest.raises(DataError, match="holds no image"):
        label.main(_options(tmp_path, tmp_path / "y.json"))


def test_an_object_that_lost_its_best_find_gets_its_next_one() -> None:
    overlap = np.array([[0.9, 0.1], [0.7, 0.6], [0.0, 0.55]], np.float32)
    assert list(label._pairs(overlap)) == [(0, 0), (1, 1)]
    assert list(label._pairs(overlap[:, :0])) == []
