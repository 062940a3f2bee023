"""Points on their way from annotations into packs, and what is shown of them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_provider_farm.edit import Merge, Split
from data_provider_farm.inspect import Options as InspectOptions
from data_provider_farm.inspect import main as inspect
from data_provider_farm.pack import Options, pack
from data_provider_farm.pack_format.packed_file import PackReader
from data_provider_farm.report import POINT_COLOR, draw_tile
from lffd.points import NAMES
from tests.data_provider_farm.samples import five_points, picture, record, same, write_pack

POINTS = [[12, 10], [20, 10], [16, 14], [13, 18], [19, 18]]


def _coco(folder: Path, image: np.ndarray, annotations: list[dict[str, object]]) -> Options:
    """A COCO file as `detection.label` writes it."""
    cv2.imwrite(str(folder / "a.png"), image)
    document = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "face", "keypoints": NAMES}],
        "annotations": [{"image_id": 1, "category_id": 1, **entry} for entry in annotations],
    }
    (folder / "a.json").write_text(json.dumps(document))
    return Options(format="coco", images=folder, annotations=folder / "a.json", output=folder / "a.rec")


def test_points_follow_their_boxes_and_shrink_with_the_image(tmp_path: Path) -> None:
    points = [value for x, y in POINTS for value in (x, y, 2)]
    annotations: list[dict[str, object]] = [
        {"bbox": [200, 0, 20, 20], "keypoints": points},
        {"bbox": [10, 8, 14, 12], "score": 0.9, "keypoints": points},
        {"bbox": [30, 8, 14, 12], "score": 0.3},
    ]
    options = _coco(tmp_path, picture(128, 96), annotations)
    changed = Options(**{**vars(options), "max_side": 64, "min_side": 1.0, "min_score": 0.5})
    pack(changed)
    with PackReader(tmp_path / "a.rec") as reader:
        (found,) = reader
    assert found.boxes.tolist() == [[5, 4, 12, 10], [15, 4, 22, 10]]
    assert found.ignored.tolist() == [False, True]
    assert found.landmarks is not None
    np.testing.assert_allclose(found.landmarks[0], [[x / 2, y / 2, 2] for x, y in POINTS])
    assert not found.landmarks[1].any()


def test_packs_without_points_are_what_they_were(tmp_path: Path) -> None:
    pack(_coco(tmp_path, picture(), [{"bbox": [10, 8, 14, 12]}]))
    with PackReader(tmp_path / "a.rec") as reader:
        assert reader[0].landmarks is None


def test_merging_and_splitting_keep_points(tmp_path: Path) -> None:
    records = [
        record([(1, 2, 30, 40), (5, 6, 17, 18)], [False, True], f"{seed}.jpg", seed, five_points(2, seed))
        for seed in range(3)
    ]
    packs = tuple(write_pack(tmp_path / f"{number}.rec", [each]) for number, each in enumerate(records))
    Merge(packs, tmp_path / "all.rec").run()
    Split(tmp_path / "all.rec", tmp_path / "x.rec", tmp_path / "y.rec", share=0.4).run()
    found = [each for name in ("x", "y") for each in PackReader(tmp_path / f"{name}.rec")]
    for each in records:
        assert any(same(each, other) for other in found)


def test_they_are_counted_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = np.array([[[x, y, 2] for x, y in POINTS]] * 2, np.float32)
    points[1, 0, 2] = 0
    pointed = record([(8, 5, 24, 22), (9, 5, 25, 22)], landmarks=points)
    inspect(InspectOptions(write_pack(tmp_path / "a.rec", [pointed]), report=tmp_path / "a.png"))
    assert "1 of the boxes have five points" in capsys.readouterr().out
    tile = draw_tile(pointed).astype(int)
    factor = 320 / 64
    for x, y in POINTS:
        pixel = tile[round(y * factor) + (320 - 240) // 2, round(x * factor)]
        assert np.abs(pixel - POINT_COLOR).max() < 10
