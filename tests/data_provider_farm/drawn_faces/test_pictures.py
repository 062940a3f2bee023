"""Drawn faces: reproducible, of every size, with boxes that are exactly where the faces are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from data_provider_farm.drawn_faces.face import (
    DARK,
    EXTRAS,
    draw_face,
    face_box,
    face_points,
    person_box,
    random_appearance,
)
from data_provider_farm.drawn_faces.pictures import draw_scene, synthetic_record, synthetic_records
from data_provider_farm.drawn_faces.scenery import draw_background
from data_provider_farm.pack import Options, pack
from data_provider_farm.pack_format.packed_file import PackReader
from lffd.boxes import areas, intersections, longer_sides
from lffd.errors import UsageError
from lffd.images.encoded import decode
from tests.data_provider_farm.samples import same


def test_the_same_seed_gives_the_same_picture() -> None:
    first, boxes, _ = draw_scene(np.random.default_rng(5), 160)
    second, again, _ = draw_scene(np.random.default_rng(5), 160)
    other, *_ = draw_scene(np.random.default_rng(6), 160)
    assert np.array_equal(first, second)
    assert np.array_equal(boxes, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("size", [64, 100, 320, 640])
def test_pictures_and_boxes_have_their_shapes(size: int) -> None:
    for seed in range(6):
        picture, boxes, _ = draw_scene(np.random.default_rng(seed), size)
        assert picture.shape == (size, size, 3)
        assert picture.dtype == np.uint8
        assert boxes.dtype == np.float32
        assert boxes.shape == (len(boxes), 4)
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= size).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert picture.std() > 10


def test_small_pictures_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 64 px"):
        draw_scene(np.random.default_rng(0), 63)


def test_many_pictures_hold_every_size_and_some_no_face() -> None:
    counts, sides, hidden = [], [], 0.0
    for seed in range(120):
        _, boxes, _ = draw_scene(np.random.default_rng([9, seed]), 400)
        counts.append(len(boxes))
        sides += longer_sides(boxes).tolist()
        if len(boxes) > 1:
            shared = intersections(boxes, boxes) / np.minimum(areas(boxes)[:, None], areas(boxes)[None])
            hidden = max(hidden, float(np.triu(shared, 1).max()))
    assert 1 <= counts.count(0) <= 20
    assert max(counts) > 12
    assert hidden < 0.6
    shares = np.histogram(sides, [7, 10, 20, 40, 80, 160, 320])[0] / len(sides)
    assert shares[0] < 0.05  # only faces cut by the border are smaller than 10 px
    assert (shares[1:] > 0.01).all()
    assert max(sides) <= 320


@pytest.mark.parametrize("seed", range(12))
def test_the_box_is_the_outline_of_the_face_alone(seed: int) -> None:
    """On a green canvas with a magenta face, the magenta pixels must span the box to within a pixel."""
    magenta, random = np.array([255.0, 0.0, 255.0]), random_appearance(np.random.default_rng(seed))
    look = dataclasses.replace(random, skin=magenta, hair_style="bald", extra="none")
    canvas = np.zeros((200, 200, 3), np.uint8)
    canvas[:] = (0, 255, 0)
    center, half_height = (100.3, 99.6), 50.0
    draw_face(canvas, look, center, half_height)
    difference = canvas.astype(int) - (0, 255, 0)
    changed = np.abs(difference).sum(axis=2) > 250
    x0, y0, x1, y1 = face_box(look, center, half_height)[0].tolist()
    columns, rows = np.flatnonzero(changed.any(axis=0)), np.flatnonzero(changed.any(axis=1))
    assert rows[0] == pytest.approx(y0, abs=1.01)
    person = person_box(look, center, half_height)[0]
    assert columns[0] >= person[0] - 1
    assert columns[-1] <= person[2]
    assert rows[-1] <= person[3]
    skin = (canvas[:, :, 0] > 90) & (canvas[:, :, 2] > 90) & (canvas[:, :, 1] < 40)
    ys, xs = np.nonzero(skin)
    inside = (xs >= x0 - 1) & (xs <= x1) & (ys >= y0 - 1) & (ys <= y1)
    assert inside.mean() > 0.93  # ears and neck are skin too, but darker and outside


def test_a_face_stays_where_its_person_box_says() -> None:
    for seed in range(60):
        rng = np.random.default_rng(seed)
        look, center, half_height = random_appearance(rng), (150.0, 150.0), float(rng.uniform(5, 60))
        canvas = np.zeros((300, 300, 3), np.uint8)
        canvas[:] = 77
        draw_face(canvas, look, center, half_height)
        changed = (canvas != 77).any(axis=2)
        x0, y0, x1, y1 = person_box(look, center, half_height)[0]
        changed[max(0, int(y0) - 1) : int(y1) + 2, max(0, int(x0) - 1) : int(x1) + 2] = False
        assert not changed.any()
        assert (intersections(face_box(look, center, half_height), person_box(look, center, half_height)) > 0).all()


def test_drawing_partly_or_wholly_outside_the_canvas_is_fine() -> None:
    look = random_appearance(np.random.default_rng(0))
    for center in [(-20.0, -20.0), (0.0, 50.0), (500.0, 500.0), (50.0, 99.0)]:
        draw_face(np.zeros((100, 100, 3), np.uint8), look, center, 30.0)


def test_backgrounds_differ() -> None:
    pictures = [draw_background(np.random.default_rng(seed), 96).astype(int) for seed in range(6)]
    for index, first in enumerate(pictures):
        for second in pictures[:index]:
            assert np.abs(first - second).mean() > 10


def test_records_are_labelled_and_lossy_only_by_jpeg() -> None:
    record = synthetic_record(4, 128, seed=2)
    assert record.name == "synthetic/2-128-0000004.jpg"
    picture, boxes, _ = draw_scene(np.random.default_rng([2, 4]), 128)
    assert np.array_equal(record.boxes, boxes)
    assert np.abs(decode(record.image, "x").astype(int) - picture).mean() < 12
    assert [each.name[-5] for each in synthetic_records(3, 64, 0)] == ["0", "1", "2"]


def test_packing_gives_the_very_records(tmp_path: Path) -> None:
    options = Options(format="synthetic", output=tmp_path / "x.rec", count=9, size=64, seed=3, workers=1)
    counts = pack(options).counts
    expected = synthetic_records(9, 64, 3)
    with PackReader(tmp_path / "x.rec") as reader:
        assert all(map(same, reader, expected))
        assert len(reader) == 9
    assert counts.boxes == sum(len(record.boxes) for record in expected)
    assert counts.ignored_boxes == 0
    several = Options(format="synthetic", output=tmp_path / "y.rec", count=9, size=64, seed=3, workers=2)
    pack(several)
    assert (tmp_path / "y.rec").read_bytes() == (tmp_path / "x.rec").read_bytes()


def test_points_lie_on_the_features_that_are_drawn() -> None:
    """Eyes are dark, mouths have the lips' colour, and left comes before right as long as nobody stands on the head."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        look = dataclasses.replace(
            random_appearance(rng), extra="none", hair_style="bald", eye_open=1.0, mouth="closed"
        )
        canvas = np.full((200, 200, 3), 128, np.uint8)
        draw_face(canvas, look, (100, 100), 80)
        (points,) = face_points(look, (100, 100), 80)
        assert (points[:, 2] == 2).all()
        assert points[0, 0] < points[1, 0]
        assert points[3, 0] < points[4, 0]
        eyes = [canvas[int(y), int(x)] for x, y, _ in points[:2]]
        assert np.abs(np.array(eyes) - DARK).max() < 12
        inward = points[3:, :2] + 0.15 * (points[[4, 3], :2] - points[3:, :2])
        lips = [canvas[int(y + 2), int(x)] for x, y in inward]
        assert np.abs(np.array(lips) - look.lips).max() < 25


def test_what_is_covered_counts_as_hidden() -> None:
    look = random_appearance(np.random.default_rng(0))
    flags = {
        extra: face_points(dataclasses.replace(look, extra=extra), (9, 9), 5)[0, :, 2].tolist() for extra in EXTRAS
    }
    assert flags["mask"] == [2, 2, 1, 1, 1]
    assert flags["sunglasses"] == [1, 1, 2, 2, 2]
    assert flags["beard"] == [2] * 5
