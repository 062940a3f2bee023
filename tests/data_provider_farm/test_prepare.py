"""From source images to records: what is cut, ignored, dropped, turned and re-encoded, and what is reported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from data_provider_farm.pack_format.record_layout import decode_record
from data_provider_farm.prepare import Counts, Preparation, Prepared, prepare
from data_provider_farm.readers.annotations import RawBox, SourceImage, build_source
from lffd.images import encoded as images
from lffd.images.jpeg import is_jpeg, parse_jpeg
from lffd.records import Record
from tests.data_provider_farm.samples import jpeg, picture, with_exif

Box = tuple[float, float, float, float]


def source(path: Path, data: bytes | None, boxes: Sequence[Box] = (), **more: Any) -> SourceImage:
    if data is not None:
        path.write_bytes(data)
    ignored = more.get("ignored", ())
    raw = [RawBox(box, f"gt.txt:{number}", number in ignored) for number, box in enumerate(boxes)]
    return build_source(path, path.name, "gt.txt:0", raw, size=more.get("size"))


def decoded(prepared: Prepared) -> list[Record]:
    return [decode_record(bytes(each.head) + each.image, 0, "test") for each in prepared.records]


def only(prepared: Prepared) -> Record:
    (found,) = decoded(prepared)
    return found


def kinds(prepared: Prepared) -> list[tuple[str, str]]:
    return [(problem.kind, problem.where) for problem in prepared.problems]


def test_a_jpeg_is_copied_byte_for_byte(tmp_path: Path) -> None:
    boxes = [(1.25, 2.5, 30, 40.125), (0.0, 0, 64, 48)]
    prepared = prepare(source(tmp_path / "a.jpg", jpeg(), boxes), Preparation(max_side=64, quality=5))
    found = only(prepared)
    assert found.image == jpeg()
    assert (found.name, found.width, found.height) == ("a.jpg", 64, 48)
    assert found.boxes.tolist() == [list(box) for box in boxes]
    assert not found.ignored.any()
    assert prepared.problems == []
    assert prepared.counts == Counts(1, 2, 0, 0)


def test_an_image_without_boxes_is_a_background(tmp_path: Path) -> None:
    prepared = prepare(source(tmp_path / "a.jpg", jpeg()), Preparation())
    assert only(prepared).boxes.shape == (0, 4)
    assert prepared.counts == Counts(1, 0, 0, 1)


def test_boxes_are_cut_at_the_border_and_those_outside_left_out(tmp_path: Path) -> None:
    boxes = [(-5.0, -5, 20, 20), (50, 40, 70, 60), (64, 5, 80, 20), (5, -30, 9, -20), (10, 10, 30, 30)]
    prepared = prepare(source(tmp_path / "a.jpg", jpeg(), boxes), Preparation())
    assert only(prepared).boxes.tolist() == [[0, 0, 20, 20], [50, 40, 64, 48], [10, 10, 30, 30]]
    assert sorted(kinds(prepared)) == [
        ("clipped-box", "gt.txt:0"),
        ("clipped-box", "gt.txt:1"),
        ("outside-box", "gt.txt:2"),
        ("outside-box", "gt.txt:3"),
    ]
    assert "(50, 40, 70, 60) reaches over the border of the image of 64x48" in str(prepared.problems[1])


BOXES = [
    (0.0, 0, 20, 20),
    (5, 5, 13.9, 13),
    (5, 5, 14, 6),
    (7, 7, 7, 30),
    (0, 0, 0, 0),
    (30, 30, 44, 45),
    (-10, 0, 5, 4),
]


def test_marked_tiny_and_flat_boxes_are_ignored(tmp_path: Path) -> None:
    """The last one is large on paper, but only 5 px of it are in the image."""
    prepared = prepare(source(tmp_path / "a.jpg", jpeg(), BOXES, ignored=[5]), Preparation())
    assert only(prepared).ignored.tolist() == [False, True, False, True, True, True, True]
    assert prepared.counts == Counts(1, 7, 5, 0)
    everything = prepare(source(tmp_path / "a.jpg", jpeg(), BOXES, ignored=[5]), Preparation(min_side=0))
    assert only(everything).ignored.tolist() == [False, False, False, True, True, True, False]


def test_published_behaviour_drops_them(tmp_path: Path) -> None:
    settings = Preparation(unusable="drop", min_side=8)
    prepared = prepare(source(tmp_path / "a.jpg", jpeg(), BOXES, ignored=[5]), settings)
    assert np.array_equal(only(prepared).boxes, np.array([BOXES[0], BOXES[1], BOXES[2]], np.float32))
    assert prepared.counts == Counts(1, 3, 0, 0)


def test_large_images_shrink_with_their_boxes(tmp_path: Path) -> None:
    data = jpeg(400, 300)
    prepared = prepare(
        source(tmp_path / "a.jpg", data, [(40, 40, 200, 300), (0, 0, 30, 30)]), Preparation(max_side=100)
    )
    found = only(prepared)
    assert (found.width, found.height) == (100, 75)
    np.testing.assert_allclose(found.boxes, [[10.0, 10, 50, 75], [0, 0, 7.5, 7.5]], rtol=1e-6)
    assert found.ignored.tolist() == [False, True]  # tiny only now
    expected = images.shrink(images.decode(data, "x"), 100, 75)
    assert np.abs(images.decode(found.image, "x").astype(int) - expected).mean() < 3


@pytest.mark.parametrize("max_side", range(16, 683, 29))
def test_shrinking_reports_no_box_that_was_inside(tmp_path: Path, max_side: int) -> None:
    """In float32 683 · 427/683 is a little over 427."""
    prepared = prepare(
        source(tmp_path / "a.jpg", jpeg(1024, 683), [(97, 656, 1024, 683)]), Preparation(max_side=max_side)
    )
    assert prepared.problems == []
    found = only(prepared)
    assert found.boxes[0, 2:].tolist() == pytest.approx([found.width, found.height], rel=1e-6)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp"])
def test_other_formats_become_jpegs(tmp_path: Path, suffix: str) -> None:
    data = cv2.imencode(suffix, picture())[1].tobytes()
    found = only(prepare(source(tmp_path / f"a{suffix}", data, [(1, 1, 20, 20)]), Preparation()))
    assert is_jpeg(found.image)
    assert np.abs(images.decode(found.image, "x").astype(int) - picture()).mean() < 4
    assert found.boxes.tolist() == [[1, 1, 20, 20]]


def test_quality_changes_the_size_of_what_is_encoded(tmp_path: Path) -> None:
    data = cv2.imencode(".png", picture(300, 200))[1].tobytes()
    sizes = [
        len(only(prepare(source(tmp_path / "a.png", data), Preparation(quality=quality))).image) for quality in (40, 95)
    ]
    assert sizes[0] < 0.7 * sizes[1]


def test_an_image_turned_by_exif_is_packed_as_stored_and_upright(tmp_path: Path) -> None:
    data = with_exif(jpeg(), 6)
    prepared = prepare(source(tmp_path / "a.jpg", data, [(1, 1, 60, 40)]), Preparation())
    found = only(prepared)
    assert (found.width, found.height) == (64, 48)
    assert parse_jpeg(found.image, "x").orientation == 1
    assert sum(a != b for a, b in zip(found.image, data, strict=True)) == 1
    assert kinds(prepared) == [("orientation", "gt.txt:0")]
    obeying = cv2.imdecode(np.frombuffer(found.image, np.uint8), cv2.IMREAD_COLOR)
    assert obeying.shape == (48, 64, 3)


def test_boxes_of_the_turned_picture(tmp_path: Path) -> None:
    """Orientation 6 is turned to the right by a viewer: 48 wide, 64 high."""
    data = with_exif(jpeg(), 6)
    prepared = prepare(source(tmp_path / "a.jpg", data, [(1, 1, 40, 60)], size=(48, 64)), Preparation(exif="turned"))
    found = only(prepared)
    assert prepared.problems == []
    assert (found.width, found.height) == (48, 64)
    assert found.boxes.tolist() == [[1, 1, 40, 60]]
    viewer = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(images.decode(found.image, "x").astype(int) - viewer).mean() < 3
    smaller = only(prepare(source(tmp_path / "a.jpg", data), Preparation(exif="turned", max_side=32)))
    assert (smaller.width, smaller.height) == (24, 32)


def test_an_annotation_of_another_size_is_not_believed(tmp_path: Path) -> None:
    prepared = prepare(source(tmp_path / "a.jpg", jpeg(), [(1, 1, 9, 9)], size=(100, 48)), Preparation())
    assert decoded(prepared) == []
    assert kinds(prepared) == [("size-mismatch", "gt.txt:0")]
    turned = prepare(source(tmp_path / "a.jpg", with_exif(jpeg(), 8), [(1, 1, 9, 9)], size=(48, 64)), Preparation())
    assert "try --exif turned" in str(turned.problems[0])


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (None, "missing-image", "does not exist"),
        (b"", "unreadable-image", "is empty"),
        (b"text", "unreadable-image", "is not a picture of a known format"),
        (jpeg()[:100], "unreadable-image", "inside its header"),
        (jpeg()[:-2], "unreadable-image", "before its end marker"),
    ],
)
def test_images_that_cannot_be_used_are_reported(tmp_path: Path, data: bytes | None, kind: str, message: str) -> None:
    prepared = prepare(source(tmp_path / "a.jpg", data, [(1, 1, 9, 9)]), Preparation())
    assert decoded(prepared) == []
    assert prepared.counts == Counts()
    assert kinds(prepared) == [(kind, "gt.txt:0")]
    assert message in str(prepared.problems[0])
    assert "a.jpg" in str(prepared.problems[0])


def test_full_verification_finds_damage_in_the_middle(tmp_path: Path) -> None:
    data = bytearray(jpeg(200, 200))
    scan = parse_jpeg(bytes(data), "x").scan_at
    del data[scan + 200 : scan + 900]
    path = tmp_path / "a.jpg"
    assert len(prepare(source(path, bytes(data)), Preparation()).records) == 1
    prepared = prepare(source(path, bytes(data)), Preparation(verify="full"))
    assert kinds(prepared) == [("unreadable-image", "gt.txt:0")]
    assert len(prepare(source(path, jpeg(200, 200)), Preparation(verify="full")).records) == 1


def test_a_name_that_a_pack_cannot_hold_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg())
    prepared = prepare(build_source(path, "a\nb.jpg", "gt.txt:0"), Preparation())
    assert kinds(prepared) == [("unreadable-image", "gt.txt:0")]
    assert "printable text" in str(prepared.problems[0])


def test_backgrounds_are_cut_where_no_box_is(tmp_path: Path) -> None:
    boxes = [(0.0, 0, 100, 100), (110, 0, 116, 6), (120, 5, 120, 9)]  # the last two are ignored, and kept clear too
    settings = Preparation(crop_background=3, crop_side=60)
    prepared = prepare(source(tmp_path / "a.jpg", jpeg(400, 300), boxes), settings)
    first, *crops = decoded(prepared)
    assert first.image == jpeg(400, 300)
    assert 1 <= len(crops) <= 3
    assert prepared.counts == Counts(1 + len(crops), 3, 2, len(crops))
    whole = images.decode(jpeg(400, 300), "x")
    for number, crop in enumerate(crops):
        assert crop.name == f"a.jpg#background{number}"
        assert min(crop.width, crop.height) >= 60
        assert len(crop.boxes) == 0
        found = cv2.matchTemplate(whole, images.decode(crop.image, "x"), cv2.TM_SQDIFF_NORMED)
        y, x = np.unravel_index(int(found.argmin()), found.shape)
        for x0, y0, x1, y1 in boxes:
            assert x >= x1 or y >= y1 or x + crop.width <= x0 or y + crop.height <= y0
    again = prepare(source(tmp_path / "a.jpg", jpeg(400, 300), boxes), settings)
    assert [bytes(each.head) + each.image for each in again.records] == [
        bytes(each.head) + each.image for each in prepared.records
    ]


def test_no_background_is_cut_where_faces_may_hide(tmp_path: Path) -> None:
    settings = Preparation(crop_background=3, crop_side=60)
    unknown = source(tmp_path / "a.jpg", jpeg(400, 300), [(0, 0, 50, 50), (10, 10, float("nan"), 20)])
    assert len(prepare(unknown, settings).records) == 1
    background = source(tmp_path / "a.jpg", jpeg(400, 300))
    assert len(prepare(background, settings).records) == 1
    dropped = source(tmp_path / "a.jpg", jpeg(80, 80), [(38.0, 38, 42, 42)])
    assert len(prepare(dropped, Preparation(unusable="drop", crop_background=3, crop_side=60)).records) == 1
