"""Crop sampling: sizes, places, mosaics, backgrounds, and records that cannot be used."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from data_iterator_farm.crop_sampling import (
    Focus,
    check_boxes,
    choose_focus,
    place_on_background,
    place_on_face,
    sample_crop,
)
from data_iterator_farm.policies import MAX_SCALE, SamplingPolicy, ours, published
from lffd.boxes import as_boxes, longer_sides
from lffd.errors import DataError
from lffd.records import Record
from symbol_farm.versions import version_network
from tests.data_iterator_farm.made_up import broken, make_record, textured

V1, V2 = version_network("v1"), version_network("v2")
PLAIN = replace(ours(V2).sampling, redraws=0, mosaic=0.0, mosaic_fill=0.0, random_window=0.0, flip=0.0)
DRAWS = 400


def sides_drawn(side: Any, network: Any, policy: Any, draws: Any = DRAWS) -> Any:
    """Longer sides that a face of `side` px gets."""
    record = make_record([[10, 10, 10 + side, 10 + side / 2]])
    rng = np.random.default_rng(0)
    return np.array([side * choose_focus(record, network, policy, rng).scale for _ in range(draws)])


@pytest.mark.parametrize(
    ("version", "side", "largest"),
    [
        ("v1", 10, 15),
        ("v1", 15, 20),
        ("v1", 20, 40),
        ("v1", 20.25, 560),
        ("v2", 10, 20),
        ("v2", 20, 40),
        ("v2", 20.25, 320),
    ],
)
def test_small_faces_are_not_enlarged_beyond_their_branches(version: Any, side: Any, largest: Any) -> None:
    network = version_network(version)
    policy = replace(published(network).sampling, beyond_last=0.0)
    sides = sides_drawn(side, network, policy)
    assert sides.min() >= 10 - 1e-9
    assert 0.9 * largest < sides.max() <= largest + 1e-9


def test_every_branch_is_drawn_equally_often() -> None:
    sides = sides_drawn(100, V2, replace(published(V2).sampling, beyond_last=0.0), 2000)
    counts = np.histogram(sides, [10, 20, 40, 80, 160, 320])[0]
    assert counts.min() > 330
    assert counts.max() < 470


def test_sizes_beyond_the_last_branch_join_the_choice_at_times() -> None:
    policy = replace(published(V2).sampling, beyond_last=1.0)
    sides = sides_drawn(100, V2, policy, 2000)
    beyond = sides > 320
    assert 0.13 < beyond.mean() < 0.2  # one choice of six
    assert sides.max() <= 480
    seldom = sides_drawn(100, V2, published(V2).sampling, 4000) > 320
    assert 0.008 < seldom.mean() < 0.026  # a tenth of that
    assert (sides_drawn(20, V2, policy) <= 40).all()


def test_sizes_are_even_over_the_logarithm() -> None:
    sides = sides_drawn(300, V2, PLAIN, 2000)
    counts = np.histogram(np.log(sides), np.linspace(math.log(9), math.log(420), 5))[0]
    assert counts.sum() == 2000
    assert counts.min() > 420
    assert counts.max() < 580


def test_enlargement_is_limited() -> None:
    assert sides_drawn(12, V2, PLAIN).max() <= 36 + 1e-6
    tiny = sides_drawn(0.25, V2, replace(published(V2).sampling, restricted_branches=0))
    assert tiny.max() <= 0.25 * MAX_SCALE + 1e-9


def test_ignored_faces_are_never_looked_at() -> None:
    record = make_record([[0, 0, 30, 30], [40, 40, 70, 70], [80, 80, 110, 110]], [True, False, True])
    rng = np.random.default_rng(0)
    assert {choose_focus(record, V2, PLAIN, rng).face for _ in range(50)} == {1}


def test_balanced_choice_sees_the_one_large_face_among_many_small_ones() -> None:
    small = [[x, 0, x + 12, 12] for x in range(0, 140, 4)]
    record = make_record([*small, [0, 20, 90, 110]])
    rng = np.random.default_rng(0)
    policy = replace(PLAIN, face_choice="size-balanced")
    share = np.mean([choose_focus(record, V2, policy, rng).face == len(small) for _ in range(DRAWS)])
    assert 0.4 < share < 0.6
    uniform = np.mean([choose_focus(record, V2, PLAIN, rng).face == len(small) for _ in range(DRAWS)])
    assert uniform < 0.08


def test_centred_faces_move_by_half_a_stride() -> None:
    record = make_record([[50, 40, 90, 80]])
    policy, rng = published(V2).sampling, np.random.default_rng(0)
    moves = []
    for _ in range(DRAWS):
        window = place_on_face(record, Focus(0, 2.0, 16), (320, 200), policy, rng)
        moves.append((140 - window.left - 160, 120 - window.top - 100))
    assert 7.5 < np.abs(moves).max() <= 8
    assert np.abs(np.mean(moves, axis=0)).max() < 1


@pytest.mark.parametrize("inside", [False, True])
def test_faces_lie_anywhere_in_the_crop(inside: Any) -> None:
    record = make_record([[60, 40, 80, 60]])
    policy, rng = replace(PLAIN, inside_image=inside), np.random.default_rng(0)
    windows = [place_on_face(record, Focus(0, 2.0, 4), (200, 200), policy, rng) for _ in range(DRAWS)]
    boxes = np.concatenate([window.boxes(record.boxes) for window in windows])
    assert boxes.min() >= -1e-3
    assert boxes.max() <= 200 + 1e-3
    assert boxes[:, 0].max() - boxes[:, 0].min() > 100
    lefts = np.array([window.left for window in windows])
    assert (lefts.min() >= 0 and lefts.max() <= 120) == inside


def test_a_face_larger_than_the_crop_covers_it() -> None:
    record = make_record([[10, 10, 150, 110]])
    rng = np.random.default_rng(0)
    for _ in range(50):
        x0, y0, x1, y1 = place_on_face(record, Focus(0, 2.0, 4), (100, 100), PLAIN, rng).boxes(record.boxes)[0]
        assert max(x0, y0) <= 1e-3
        assert min(x1, y1) >= 100 - 1e-3


def test_some_windows_ignore_the_face() -> None:
    record = make_record([[0, 0, 20, 20]])
    policy, rng = replace(PLAIN, random_window=0.5), np.random.default_rng(0)
    windows = [place_on_face(record, Focus(0, 4.0, 4), (64, 64), policy, rng) for _ in range(DRAWS)]
    missed = np.mean([window.left >= 80 or window.top >= 80 for window in windows])
    assert 0.3 < missed < 0.5


def test_background_is_scaled_at_random_and_small_images_lie_in_the_middle() -> None:
    record, policy, rng = make_record(size=(160, 120)), published(V2).sampling, np.random.default_rng(0)
    windows = [place_on_background(record, 240, policy, rng) for _ in range(DRAWS)]
    scales = np.array([window.scale for window in windows])
    assert 0.5 <= scales.min() < 0.6
    assert 3.4 < scales.max() <= 3.5
    for window in windows:
        spare = 160 * window.scale - 240
        assert 0 <= window.left <= spare if spare > 0 else window.left == spare / 2


def test_boxes_of_a_crop_lie_where_its_pixels_say() -> None:
    image = np.full((240, 320, 3), 30, np.uint8)
    image[100:140, 150:190] = 220
    record = make_record([[150, 100, 190, 140]], size=(320, 240), image=image, kind="png")
    for preset in (published(V1), ours(V1)):
        for seed in range(40):
            policy = replace(preset.sampling, mosaic=0.0, mosaic_fill=0.0, random_window=0.0)
            crop = sample_crop(record, 200, V1, policy, np.random.default_rng(seed))
            x0, y0, x1, y1 = np.clip(crop.boxes[0], 0, 200)
            assert crop.names == ("a.jpg",)
            bright = crop.image[..., 0] > 125
            assert abs(bright.sum() - (x1 - x0) * (y1 - y0)) <= 0.05 * bright.sum() + 2 * (x1 - x0 + y1 - y0)
            assert bright[int((y0 + y1) / 2), int((x0 + x1) / 2)]


def test_boxes_outside_are_left_out_and_mostly_hidden_ones_ignored() -> None:
    record = make_record([[40, 40, 80, 80], [84, 40, 124, 80], [0, 0, 10, 10]])
    policy = replace(PLAIN, placement="centre", target="log-uniform", side_range=(40, 40), centre_offset=0.0)
    seen = set()
    for seed in range(60):
        crop = sample_crop(record, 64, V2, policy, np.random.default_rng(seed))
        inside = np.clip(crop.boxes, 0, 64)
        visible = (inside[:, 2:] - inside[:, :2]).prod(axis=1) / (crop.boxes[:, 2:] - crop.boxes[:, :2]).prod(axis=1)
        assert (visible > 0).all()
        np.testing.assert_array_equal(crop.ignored, visible < 0.4)
        seen |= set((visible < 0.4).tolist())
    assert seen == {False, True}


def partners(seed: Any = 50) -> Any:
    records = [
        make_record([[20, 20, 60, 60]], name=f"partner {k}", image=textured(160, 120, seed + k)) for k in range(5)
    ]
    return lambda rng: records[int(rng.integers(5))]


def test_a_mosaic_has_four_tiles_and_no_box_crosses_them() -> None:
    record = make_record([[30, 30, 90, 90], [100, 10, 120, 30]])
    policy, homes = replace(PLAIN, mosaic=1.0), set()
    for seed in range(40):
        crop = sample_crop(record, 201, V2, policy, np.random.default_rng(seed), partner=partners())
        assert len(crop.names) == 4
        homes |= {index for index, name in enumerate(crop.names) if name == "a.jpg"}
        assert (crop.boxes >= 0).all()
        assert (crop.boxes <= 201).all()
        middles = (crop.boxes[:, :2] + crop.boxes[:, 2:]) / 2
        low, high = np.where(middles < 100, 0, 100), np.where(middles < 100, 100, 201)
        assert (crop.boxes[:, :2] >= low - 1e-3).all()
        assert (crop.boxes[:, 2:] <= high + 1e-3).all()
        assert (longer_sides(crop.boxes) <= 101).all()
    assert homes == {0, 1, 2, 3}


def test_mosaics_fill_crops_of_small_images() -> None:
    record = make_record([[30, 30, 90, 90]])
    policy = replace(PLAIN, mosaic_fill=0.65, side_range=(30, 30))  # scale 0.5: 80 of 320 px
    small = sample_crop(record, 320, V2, policy, np.random.default_rng(0), partner=partners())
    assert len(small.names) == 4
    assert len(sample_crop(record, 100, V2, policy, np.random.default_rng(0), partner=partners()).names) == 1
    assert len(sample_crop(record, 320, V2, policy, np.random.default_rng(0)).names) == 1


def test_the_share_of_mosaics() -> None:
    record, policy = make_record([[30, 30, 90, 90]]), replace(PLAIN, mosaic=0.35)
    crops = (sample_crop(record, 40, V2, policy, np.random.default_rng(s), partner=partners()) for s in range(200))
    assert 0.25 < np.mean([len(crop.names) == 4 for crop in crops]) < 0.45


@pytest.mark.parametrize("record", [make_record(), make_record([[10, 10, 60, 60]], [True])])
def test_records_without_a_face_are_background(record: Any) -> None:
    crop = sample_crop(record, 300, V2, ours(V2).sampling, np.random.default_rng(1), partner=partners())
    assert crop.ignored.all()
    assert crop.image.any()
    assert crop.names == ("a.jpg",)


def test_the_same_numbers_give_the_same_crop() -> None:
    record, policy = make_record([[30, 30, 90, 90]]), ours(V2).sampling
    first, second = (
        sample_crop(record, 100, V2, policy, np.random.default_rng(5), partner=partners()) for _ in range(2)
    )
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.boxes, second.boxes)


NAN = float("nan")


@pytest.mark.parametrize(
    ("boxes", "ignored"),
    [
        ([[NAN, 0, 10, 10]], [False]),
        ([[0, 0, 10, float("inf")]], [True]),
        ([[10, 10, 10, 40]], [False]),
        ([[40, 10, 10, 40]], [False]),
        ([[0, 0, 10, 10], [200, 10, 240, 40]], [False, False]),
        ([[-30, 10, -5, 40]], [False]),
    ],
)
def test_boxes_that_are_none_name_the_record(boxes: Any, ignored: Any) -> None:
    with pytest.raises(DataError, match=rf"record 'a\.jpg': box {len(boxes) - 1} of {len(boxes)}"):
        check_boxes(make_record(boxes, ignored))


def test_shapes_that_do_not_fit_name_the_record() -> None:
    record = make_record([[0, 0, 10, 10]])
    with pytest.raises(DataError, match=r"a\.jpg.*must be"):
        check_boxes(replace(record, ignored=np.zeros(2, bool)))
    with pytest.raises(DataError, match=r"a\.jpg.*empty"):
        check_boxes(replace(record, width=0))


@pytest.mark.parametrize(
    "record",
    [
        make_record(),
        make_record([[5, 5, 5, 5], [300, 0, 320, 9]], [True, True]),
        make_record([[-20, -20, 30, 30]]),
    ],
)
def test_usable_records_pass(record: Record) -> None:
    check_boxes(record)


def test_a_damaged_image_names_the_record() -> None:
    with pytest.raises(DataError, match=r"a\.jpg.*damaged"):
        sample_crop(broken(make_record([[30, 30, 90, 90]])), 100, V2, PLAIN, np.random.default_rng(0))


def test_policies_do_not_share_defaults() -> None:
    assert SamplingPolicy() == ours(V2).sampling
    assert as_boxes([]).shape == (0, 4)
