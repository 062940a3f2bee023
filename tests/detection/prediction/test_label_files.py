"""Label files come back through our own readers as the boxes that were written."""

from __future__ import annotations

import json
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pytest

from data_provider_farm.pack import Options, pack
from data_provider_farm.pack_format.packed_file import PackReader
from detection.detections import Detections
from detection.prediction.inputs import Source
from detection.prediction.label_files import label_writer
from detection.prediction.writers import Prediction
from lffd.files import OutputFolder
from lffd.images.files import read_picture
from tests.data_provider_farm.samples import jpeg, with_exif

BOXES = np.array([[1.25, 2.5, 30.75, 40.1], [0, 0, 48, 64], [40.2, 60.3, 47.9, 63.8]], np.float32)
FOUND = Detections(BOXES, np.array([0.9, 0.8, 0.7], np.float32))
NONE = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


@pytest.mark.parametrize(("kind", "tolerance"), [("yolo", 1e-3), ("coco", 0.011), ("voc", 0.5 + 1e-6)])
def test_a_round_trip_through_a_pack(tmp_path: Path, kind: Any, tolerance: float) -> None:
    """Also of a photo that its EXIF tag turns: boxes are of the picture as shown."""
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
    (images / "a.jpg").write_bytes(with_exif(jpeg(64, 48, 1), 6))
    (images / "sub/b & c.jpg").write_bytes(jpeg(48, 64, 2))
    (images / "sub/none.jpg").write_bytes(jpeg(48, 64, 3))
    names = {"a.jpg": FOUND, "sub/b & c.jpg": FOUND, "sub/none.jpg": NONE}
    with OutputFolder(tmp_path / "out") as folder:
        writer = label_writer(kind, folder, "licence plate")
        for name, found in names.items():
            source = Source(str(images / name), "image", PurePath(name))
            writer.write(Prediction(source, read_picture(source.name), found))
        writer.close()
    labels = tmp_path / "out" / "labels"
    options: dict[str, Any] = {"exif": "turned", "min_side": 0, "class_name": "licence plate"}
    annotations = labels / "coco.json" if kind == "coco" else labels
    summary = pack(Options(format=kind, images=images, annotations=annotations, output=tmp_path / "x.rec", **options))
    assert summary.problems == {}
    with PackReader(tmp_path / "x.rec") as reader:
        records = {record.name: record for record in reader}
    assert set(records) == set(names)
    for name, found in names.items():
        assert (records[name].width, records[name].height) == (48, 64)
        np.testing.assert_allclose(records[name].boxes, found.boxes, atol=tolerance)
        assert not records[name].ignored.any()
    if kind == "yolo":
        assert (labels / "sub/none.txt").read_text() == ""


def test_whole_pixels_of_voc_stay_inside(tmp_path: Path) -> None:
    tiny = Detections(np.array([[47.8, 63.9, 48, 64], [0, 0, 0.2, 0.1]], np.float32), np.array([0.9, 0.8], np.float32))
    with OutputFolder(tmp_path) as folder:
        writer = label_writer("voc", folder, "face")
        writer.write(Prediction(Source("a.png", "image", PurePath("a.png")), np.zeros((64, 48, 3), np.uint8), tiny))
        writer.close()
    text = "".join((tmp_path / "labels" / "a.xml").read_text().split())
    assert "<xmin>48</xmin><ymin>64</ymin><xmax>48</xmax><ymax>64</ymax>" in text
    assert "<xmin>1</xmin><ymin>1</ymin><xmax>1</xmax><ymax>1</ymax>" in text


def test_an_empty_run_is_a_coco_file_too(tmp_path: Path) -> None:
    with OutputFolder(tmp_path) as folder:
        label_writer("coco", folder, "face").close()
    document = json.loads((tmp_path / "labels" / "coco.json").read_text())
    assert document == {"images": [], "annotations": [], "categories": [{"id": 1, "name": "face"}]}
