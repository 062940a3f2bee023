"""Real WIDER FACE data, against numbers counted from the text files without any of our readers."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from data_provider_farm.pack import Options, pack
from data_provider_farm.pack_format.packed_file import PackReader
from data_provider_farm.prepare import Counts


class Truth(NamedTuple):
    """What the text file says about one image."""

    name: str
    faces: list[list[int]]


def count_by_hand(annotations: Path) -> list[Truth]:
    """Read the text form the short way: a line with a dot is a name, a line with one number a count."""
    images: list[Truth] = []
    for line in annotations.read_text().split("\n"):
        words = line.split()
        if len(words) == 1 and "." in words[0]:
            images.append(Truth(words[0], []))
        elif len(words) == 10:
            images[-1].faces.append(list(map(int, words)))
    return images


def usable(face: list[int], width: int, height: int) -> bool:
    x, y, w, h = face[:4]
    across, down = min(x + w, width) - max(x, 0), min(y + h, height) - max(y, 0)
    return face[7] == 0 and across > 0 and down > 0 and max(across, down) >= 9


@pytest.mark.parametrize(
    ("split", "images", "boxes", "ignored"), [("train", 3048, 62796, 17732), ("val", 308, 6070, 641)]
)
def test_the_whole_split_packs(shared: Path, tmp_path: Path, split: str, images: int, boxes: int, ignored: int) -> None:
    folder = shared / "data/widerface" / f"WIDER_{split}" / "images"
    annotations = shared / "data/widerface/wider_face_split" / f"wider_face_{split}_bbx_gt.txt"
    truths = count_by_hand(annotations)
    assert len(truths) == len(list(folder.rglob("*.jpg"))) == images
    assert sum(len(truth.faces) for truth in truths) == boxes
    output = tmp_path / "x.rec"
    summary = pack(Options(format="widerface", images=folder, annotations=annotations, output=output))
    assert summary.counts == Counts(images, boxes, ignored, 0)
    assert summary.problems == {}
    with PackReader(output) as reader:
        assert len(reader) == images
        for index, (truth, record) in enumerate(zip(truths, reader, strict=True)):
            assert record.name == truth.name
            corners = [[x, y, x + w, y + h] for x, y, w, h, *_ in truth.faces]
            assert record.boxes.tolist() == corners
            assert record.ignored.tolist() == [not usable(face, record.width, record.height) for face in truth.faces]
            if index % 10 == 0:
                assert record.image == (folder / truth.name).read_bytes()
                pixels = cv2.imdecode(np.frombuffer(record.image, np.uint8), cv2.IMREAD_COLOR)
                assert pixels.shape == (record.height, record.width, 3)


def test_the_mat_file_gives_the_same_images(shared: Path, tmp_path: Path) -> None:
    """It lists the full validation set, of which most images are not here: they are reported, the rest is equal."""
    folder = shared / "data/widerface/WIDER_val/images"
    truths = {
        truth.name: truth.faces
        for truth in count_by_hand(shared / "data/widerface/wider_face_split/wider_face_val_bbx_gt.txt")
    }
    output = tmp_path / "x.rec"
    annotations = shared / "data/widerface/wider_face_split/wider_face_val.mat"
    summary = pack(Options(format="widerface", images=folder, annotations=annotations, output=output))
    assert summary.counts == Counts(308, 6070, 641, 0)
    assert summary.problems == {"missing-image": 3226 - 308, "bad-box": 1}
    with PackReader(output) as reader:
        for record in reader:
            expected = [[x, y, x + w, y + h] for x, y, w, h, *_ in truths[record.name]]
            assert record.boxes.tolist() == expected
