"""Label maps against hand-computed cases and a slow reference that looks at every cell."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_iterator_farm.assignment import label_maker
from data_iterator_farm.batch import target_shapes
from data_iterator_farm.policies import ours, published
from lffd.boxes import as_boxes
from symbol_farm.versions import VERSIONS, version_network
from tests.data_iterator_farm.made_up import label_maps

NETWORKS = {name: version_network(name) for name in VERSIONS}
SIZES = {name: 192 if name == "head" else 320 for name in VERSIONS}
PUBLISHED = published(NETWORKS["v2"]).labels
HONOURED = replace(PUBLISHED, ignored_boxes="ignore", ignored_keep_box=False)
"""The published rules with ignored boxes honoured: section 3 as this project reads it."""
OURS = ours(NETWORKS["v2"]).labels


def labels_of(boxes: Any, ignored: Any = None, version: Any = "v2", policy: Any = HONOURED, size: Any = None) -> Any:
    flags = np.zeros(len(boxes), bool) if ignored is None else np.array(ignored, bool)
    return split(label_maps(as_boxes(boxes), flags, NETWORKS[version], size or SIZES[version], policy))


def split(targets: Any) -> Any:
    """Class maps `(h, w)` and codes `(4, h, w)` of the branches of a network with one prediction per cell."""
    assert all(list(said) == ["score", "box"] and len(said["score"]) == 1 for said in targets)
    return [said["score"][0] for said in targets], [said["box"] for said in targets]


def cells(class_map: Any, value: Any) -> Any:
    """Columns and rows of the cells with a value, as pairs."""
    return {(int(column), int(row)) for row, column in np.argwhere(class_map == value)}


def grid(left: Any, right: Any, top: Any, bottom: Any) -> Any:
    """Cells of a rectangle, ends included."""
    return {(column, row) for column in range(left, right + 1) for row in range(top, bottom + 1)}


def gray_ends(low: Any, high: Any) -> Any:
    return math.floor(low * 9 / 10), math.ceil(high * 11 / 10)


def test_no_box_is_all_background() -> None:
    classes, codes = labels_of(np.zeros((0, 4)))
    assert [m.shape for m in classes] == [(79, 79), (39, 39), (19, 19), (9, 9), (4, 4)]
    assert [m.shape for m in codes] == [(4, *m.shape) for m in classes]
    assert all(m.dtype == np.int8 and not m.any() for m in classes)
    assert all(m.dtype == np.float32 and not m.any() for m in codes)


def test_centres_on_the_borders_of_a_box_count() -> None:
    classes, codes = labels_of([[3, 7, 15, 19]])  # branch 0 has its centres at 3, 7, 11, 15, …
    assert cells(classes[0], 1) == grid(0, 3, 1, 4)
    assert not cells(classes[0], -1)
    np.testing.assert_allclose(codes[0][:, 1, 0], [0, 0, -1.2, -1.2], atol=1e-6)  # n = 20 / 2
    np.testing.assert_allclose(codes[0][:, 4, 3], [1.2, 1.2, 0, 0], atol=1e-6)


def test_a_box_over_the_crop_border_keeps_its_whole_code() -> None:
    classes, codes = labels_of([[-5, -5, 10, 10]])
    assert cells(classes[0], 1) == grid(0, 1, 0, 1)
    np.testing.assert_allclose(codes[0][:, 0, 0], [0.8, 0.8, -0.7, -0.7], atol=1e-6)
    far, _ = labels_of([[310, 310, 325, 325]])  # the last centre is at 3 + 4 · 78 = 315
    assert cells(far[0], 1) == grid(77, 78, 77, 78)


def test_a_box_without_a_centre_inside_is_left_out_or_takes_the_nearest_cell() -> None:
    thin = [[4, 8, 6.75, 18.5]]
    classes, codes = labels_of(thin)
    assert not classes[0].any()
    assert not codes[0].any()
    nearest, _ = labels_of(thin, policy=replace(HONOURED, nearest_cell=True))
    assert cells(nearest[0], 1) == {(1, 3)}  # its middle (5.375, 13.25) is nearest to 7 and 15


def test_centres_in_two_boxes_are_ignored_and_have_no_code() -> None:
    classes, codes = labels_of([[3, 3, 15, 15], [11, 3, 23, 15]])
    assert cells(classes[0], -1) == grid(2, 3, 0, 3)
    assert cells(classes[0], 1) == grid(0, 1, 0, 3) | grid(4, 5, 0, 3)
    assert not codes[0][:, classes[0] != 1].any()


def test_three_boxes_over_one_cell_are_as_two() -> None:
    classes, _ = labels_of([[3, 3, 15, 15]] * 3)
    assert cells(classes[0], -1) == grid(0, 3, 0, 3)
    assert not cells(classes[0], 1)


def test_boxes_of_different_branches_do_not_meet() -> None:
    classes, _ = labels_of([[3, 3, 18, 18], [3, 3, 40, 40]])
    assert cells(classes[0], 1) == grid(0, 3, 0, 3)
    assert cells(classes[1], 1) == grid(0, 4, 0, 4)


def test_an_ignored_box_over_a_face_hides_it_at_every_branch() -> None:
    boxes, flags = [[3, 3, 15, 15], [0, 0, 9, 300]], [False, True]
    classes, codes = labels_of(boxes, flags)
    assert cells(classes[0], 1) == grid(2, 3, 0, 3)
    assert not codes[0][:, 0, 0].any()
    for branch, class_map in zip(NETWORKS["v2"].branch_geometry, classes, strict=True):
        columns, rows = ([c for c in branch.centers(99) if c <= end] for end in (9, 300))
        columns = columns[: class_map.shape[1]]
        rows = rows[: class_map.shape[0]]
        assert cells(class_map, -1) == grid(0, len(columns) - 1, 0, len(rows) - 1)


def test_the_published_behaviour_takes_ignored_boxes_for_background() -> None:
    boxes = [[3, 3, 15, 15], [0, 0, 9, 300]]
    classes, _ = labels_of(boxes, [False, True], policy=PUBLISHED)
    assert cells(classes[0], 1) == grid(0, 3, 0, 3)
    assert not any(cells(m, -1) for m in classes)


def test_a_gray_box_hides_a_face_of_the_branch() -> None:
    classes, _ = labels_of([[3, 3, 15, 15], [3, 3, 24, 6]])  # 21 px is gray for 10–20 px
    assert cells(classes[0], -1) == grid(0, 5, 0, 0)
    assert cells(classes[0], 1) == grid(0, 3, 1, 3)


EDGES = [
    (version, branch.index, side, want)
    for version in VERSIONS
    for branch in NETWORKS[version].branch_geometry
    for low, high in [branch.object_range]
    for gray_low, gray_high in [gray_ends(low, high)]
    for side, want in [
        (gray_low - 0.25, 0),
        (gray_low, -1),
        (low - 0.25, -1),
        (low, 1),
        (high, 1),
        (high + 0.25, -1),
        (gray_high, -1),
        (gray_high + 0.25, 0),
    ]
]


@pytest.mark.parametrize(("version", "index", "side", "want"), EDGES)
def test_every_edge_of_every_range(version: Any, index: Any, side: Any, want: Any) -> None:
    network = NETWORKS[version]
    branch = network.branch_geometry[index]
    size = network.train_input
    middle = branch.first_center + branch.stride * (network.map_sizes(size, size)[index][0] // 2)
    box = [middle - side / 2, middle - 3, middle + side / 2, middle + 3]
    classes, _ = labels_of([box], version=version, size=size)
    cell = (middle - branch.first_center) // branch.stride
    assert classes[index][cell, cell] == want
    turned, _ = labels_of([[box[1], box[0], box[3], box[2]]], version=version, size=size)
    assert turned[index][cell, cell] == want


@given(st.sampled_from(list(NETWORKS)), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_decoding_gives_the_box_back(version: Any, seed: Any) -> None:
    network, size, rng = NETWORKS[version], SIZES[version], np.random.default_rng(seed)
    corners = rng.uniform(-30, size, (6, 2))
    boxes = as_boxes(np.concatenate((corners, corners + rng.uniform(8, 400, (6, 2))), axis=1))
    classes, codes = split(label_maps(boxes, np.zeros(6, bool), network, size, ours(network).labels))
    for branch, class_map, code_map in zip(network.branch_geometry, classes, codes, strict=True):
        rows, columns = np.nonzero(class_map == 1)
        centers = np.stack((branch.centers(size)[columns], branch.centers(size)[rows]), axis=1)
        decoded = branch.decode(code_map[:, rows, columns].T, centers)
        nearest = np.abs(decoded[:, None] - boxes[None]).max(axis=2).min(axis=1, initial=np.inf)
        assert (nearest < 1e-3).all()


def test_a_batch_is_labelled_as_its_crops_one_by_one() -> None:
    network, size, rng = NETWORKS["v1"], 320, np.random.default_rng(3)
    policy = OURS
    maker = label_maker(network, size, policy)
    corners = rng.uniform(-10, 300, (60, 2))
    boxes = np.concatenate((corners, corners + rng.uniform(5, 120, (60, 2))), axis=1).astype(np.float32)
    ignored, crop_of = rng.random(60) < 0.2, np.sort(rng.integers(0, 5, 60))
    targets = [
        {name: np.zeros((5, *shape), kind) for name, (shape, kind) in said.items()}
        for said in target_shapes(network, size)
    ]
    maker.write(boxes, ignored, crop_of, targets)
    for crop in range(5):
        mine = crop_of == crop
        for found, want in zip(targets, label_maps(boxes[mine], ignored[mine], network, size, policy), strict=True):
            assert found.keys() == want.keys() == {"score", "box"}
            for name, values in want.items():
                np.testing.assert_array_equal(found[name][crop], values)


def test_faces_beyond_the_last_branch_are_ignored_there_only_when_asked() -> None:
    box = [[10, 10, 310, 310]]  # 300 px: beyond 160 px
    assert not any(m.any() for m in labels_of(box, version="head", size=320)[0])
    classes, _ = labels_of(box, version="head", size=320, policy=OURS)
    assert (classes[-1] == -1).sum() > 50
    assert not any(m.any() for m in classes[:-1])
