"""Geometry against the literals of the published networks, and the refusals."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lffd.errors import GeometryError
from lffd.graphs.branches import Branch
from lffd.graphs.graph import parse_graph
from lffd.graphs.network import Network, network_from_dict
from symbol_farm.lffd_network import Stage, lffd_network
from symbol_farm.versions import VERSIONS, version_network

# version: train input, ranges, strides, first centres, map sizes at the train input (facts of the published system)
PUBLISHED: dict[str, tuple[int, list[tuple[int, int]], list[int], list[int], list[int]]] = {
    "v1": (
        640,
        [(10, 15), (15, 20), (20, 40), (40, 70), (70, 110), (110, 250), (250, 400), (400, 560)],
        [4, 4, 8, 8, 16, 32, 32, 32],
        [3, 3, 7, 7, 15, 31, 31, 31],
        [159, 159, 79, 79, 39, 19, 19, 19],
    ),
    "v2": (
        640,
        [(10, 20), (20, 40), (40, 80), (80, 160), (160, 320)],
        [4, 8, 16, 32, 64],
        [3, 7, 15, 31, 63],
        [159, 79, 39, 19, 9],
    ),
    "v3": (
        320,
        [(10, 20), (20, 40), (40, 80), (80, 160), (160, 320)],
        [4, 8, 16, 32, 64],
        [3, 7, 15, 31, 63],
        [79, 39, 19, 9, 4],
    ),
    "head": (
        256,
        [(10, 20), (20, 40), (40, 80), (80, 160)],
        [4, 8, 16, 32],
        [3, 7, 15, 31],
        [63, 31, 15, 7],
    ),
    "pedestrian": (
        480,
        [(30, 60), (60, 100), (100, 180), (180, 320)],
        [8, 16, 32, 64],
        [7, 15, 31, 63],
        [59, 29, 14, 6],
    ),
    "plate": (640, [(64, 128), (128, 256), (256, 512)], [16, 32, 64], [15, 31, 63], [39, 19, 9]),
    "plate_small": (640, [(64, 128), (128, 256), (256, 512)], [16, 32, 64], [15, 31, 63], [39, 19, 9]),
}

RECEPTIVE_FIELDS = {
    "v1": [55, 71, 111, 143, 223, 383, 511, 639],
    "v2": [55, 95, 175, 335, 655],
    "v3": [39, 111, 255, 415, 735],
}


@pytest.mark.parametrize("version", PUBLISHED)
def test_published_geometry(version: str) -> None:
    side, ranges, strides, centers, maps = PUBLISHED[version]
    network = version_network(version)
    branches = network.branch_geometry
    assert network.train_input == side
    assert [branch.object_range for branch in branches] == ranges
    assert [branch.stride for branch in branches] == strides
    assert [branch.first_center for branch in branches] == centers
    assert network.map_sizes(side, side) == tuple((n, n) for n in maps)


@pytest.mark.parametrize("version", RECEPTIVE_FIELDS)
def test_published_receptive_fields(version: str) -> None:
    assert [b.receptive_field for b in version_network(version).branch_geometry] == RECEPTIVE_FIELDS[version]


def test_gray_ranges_are_whole_pixels_beyond_the_range() -> None:
    gray = [branch.gray_range for branch in version_network("v1").branch_geometry]
    assert gray == [(9, 17), (13, 22), (18, 44), (36, 77), (63, 121), (99, 275), (225, 440), (360, 616)]


def _reached(network: Network, layer: str, height: int, width: int, row: int, column: int) -> tuple[int, int, int, int]:
    """Walk one cell's window back to the input by brute force: first and last row and column that it can see."""
    top = bottom = row
    left = right = column
    names = [entry.name for entry in network.backbone]
    for entry in reversed(network.backbone[: names.index(layer) + 1]):
        padding = 1 if entry.stride == 1 else 0  # only the residual pairs are padded
        top, left = (v * entry.stride - padding for v in (top, left))
        bottom, right = (v * entry.stride - padding + entry.kernel - 1 for v in (bottom, right))
    return top, bottom, left, right


CHAINS = [
    version for version in VERSIONS if all(node.op != "UpSampling" for node in version_network(version).graph.nodes)
]
"""Versions in which one layer follows the other."""


@pytest.mark.parametrize("version", CHAINS)
def test_field_and_center_match_a_walk_back_through_the_layers(version: str) -> None:
    network = version_network(version)
    for branch in network.branch_geometry:
        top, bottom, left, right = _reached(network, branch.layer, 640, 640, 2, 3)
        assert bottom - top + 1 == right - left + 1 == branch.receptive_field
        assert (top + bottom) / 2 == branch.first_center + 2 * branch.stride
        assert (left + right) / 2 == branch.centers(4)[3]


@pytest.mark.parametrize("version", VERSIONS)
def test_minimum_input_is_the_smallest_that_works(version: str) -> None:
    network = version_network(version)
    smallest = network.minimum_input
    step = network.input_step
    assert network.map_sizes(smallest, smallest + 40 // step * step)[-1][0] == 1
    with pytest.raises(GeometryError, match=f"each side needs at least {smallest} px"):
        network.map_sizes(smallest + 40 // step * step, smallest - step)


@given(st.integers(127, 2000), st.integers(127, 2000))
def test_map_sizes_are_independent_along_the_axes(height: int, width: int) -> None:
    network = version_network("v2")
    sizes = network.map_sizes(height, width)
    assert sizes == tuple(
        (rows, columns)
        for (rows, _), (_, columns) in zip(network.map_sizes(height, 127), network.map_sizes(127, width), strict=True)
    )
    for branch, (rows, columns) in zip(network.branch_geometry, sizes, strict=True):
        assert branch.centers(rows)[-1] < height
        assert branch.centers(columns)[-1] < width


def test_box_code_by_hand() -> None:
    branch = version_network("v2").branch_geometry[1]  # range 20–40: divisor 20
    boxes, centers = np.array([[10, 20, 40, 60]], np.float32), np.array([[23, 31]], np.float32)
    np.testing.assert_allclose(branch.encode(boxes, centers), [[0.65, 0.55, -0.85, -1.45]], atol=1e-6)
    np.testing.assert_allclose(branch.decode(branch.encode(boxes, centers), centers), boxes, atol=1e-4)


def test_box_code_of_no_boxes() -> None:
    branch = version_network("v2").branch_geometry[0]
    empty = np.zeros((0, 4), np.float32)
    assert branch.encode(empty, np.zeros((0, 2), np.float32)).shape == (0, 4)
    assert branch.decode(empty, np.zeros((0, 2), np.float32)).shape == (0, 4)


@given(st.integers(0, 7), st.lists(st.floats(-500, 2000, width=32), min_size=6, max_size=6))
def test_decode_inverts_encode(index: int, numbers: list[float]) -> None:
    branch = version_network("v1").branch_geometry[index]
    boxes, centers = np.array([numbers[:4]], np.float32), np.array([numbers[4:]], np.float32)
    np.testing.assert_allclose(branch.decode(branch.encode(boxes, centers), centers), boxes, atol=1e-3)


V2 = version_network("v2")
DECLARED: dict[str, Any] = {
    "name": "declared",
    "stem": (64,),
    "stages": (Stage(64, pairs=3), Stage(64, 1), Stage(64, 1), Stage(128, 1), Stage(128, 1)),
    "branches": V2.branches,
    "head_channels": 128,
    "train_input": 640,
}


def _with_branch(index: int, **changes: Any) -> tuple[Branch, ...]:
    branches = list(V2.branches)
    branches[index] = dataclasses.replace(branches[index], **changes)
    return tuple(branches)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"branches": _with_branch(1, object_range=(15, 40))},
            "overlaps or comes before the one in front, which ends at 20",
        ),
        ({"branches": _with_branch(1, object_range=(5, 9))}, "sort branches from small to large objects"),
        ({"branches": _with_branch(0, object_range=(20, 10))}, "must grow from above 0"),
        ({"branches": _with_branch(0, object_range=(0, 10))}, "must grow from above 0"),
        ({"branches": _with_branch(0, object_range=(10, float("nan")))}, "must grow from above 0"),
        ({"branches": _with_branch(0, layer="conv99")}, "no such layer; the backbone ends at conv20"),
        ({"branches": _with_branch(0, layer="conv7")}, "not the end of a residual pair; choose one of conv4, conv6"),
        ({"branches": _with_branch(1, layer="conv8")}, "list branches from shallow to deep"),
        ({"branches": V2.branches[:1] + V2.branches[:1]}, "list branches from shallow to deep"),
        ({"branches": _with_branch(4, object_range=(160, 656))}, "wider than its receptive field of 655 px"),
        ({"branches": ()}, "a network needs 1 to 100 branches"),
        ({"stages": ()}, "needs at least one stage"),
        ({"stem": (0,)}, r"stem\[0\] must be a whole number of at least 1"),
        ({"head_channels": 1.5}, "head_channels must be a whole number"),
        ({"stages": (Stage(64, pairs=0),)}, r"stages\[0\].pairs must be"),
        ({"stages": (Stage(64, pairs=2, inner_channels=0),)}, r"stages\[0\].inner_channels must be"),
        ({"train_input": 100}, "input 100x100 is too small"),
        ({"train_input": 10**9}, "train_input must be a whole number from 1 to 65536"),
        ({"stages": (Stage(64, pairs=10**9),)}, r"stages\[0\].pairs is 1000000000, more than 2000"),
        ({"stages": (Stage(64, pairs=1 << 4000),)}, r"stages\[0\].pairs is huge, more than 2000"),
        ({"stages": (Stage(64, pairs=600), Stage(64, pairs=600))}, "2403 layers are more than 2000"),
        ({"stages": (Stage(10**6, pairs=1),)}, r"stages\[0\].channels is 1000000, more than 65536"),
        ({"stages": (Stage(64, pairs=1),) * 700}, "2101 layers are more than 2000"),
        ({"stem": (3,) * 2000}, "2019 layers are more than 2000"),
    ],
)
def test_declarations_that_cannot_work_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        lffd_network(**{**DECLARED, **changes})


def test_the_declaration_without_changes_is_the_version() -> None:
    assert lffd_network(**DECLARED).graph.to_json() == V2.graph.to_json()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"branches": V2.branches * 21}, "needs 1 to 100 branches"),
        ({"branches": V2.branches[:4]}, "has 8 outputs, not 10"),
        ({"train_input": True}, "train_input must be a whole number"),
        ({"train_input": 0}, "train_input must be a whole number"),
        ({"train_input": 640.0}, "train_input must be a whole number"),
        ({"outputs": ("box", "score")}, "must begin with score and box"),
        ({"outputs": ("score", "box", "box")}, "must begin with score and box, each once"),
        ({"outputs": ("score", "box", "age")}, "output age is not one of score, box, landmarks"),
        ({"code": "polar"}, "box code 'polar' is not one of corners, center-size"),
        (
            {"branches": _with_branch(0, anchors=((8, 8), (10, 10)))},
            r"output score \(score_0\) has 1 channels instead of 2",
        ),
        ({"branches": _with_branch(1, anchors=((0, 8),))}, "the sides of its anchors must be above 0 px"),
        ({"branches": _with_branch(0, object_range=(float("-inf"), 10))}, "must grow from above 0"),
        ({"branches": _with_branch(4, object_range=(160, float("inf")))}, "must grow from above 0"),
    ],
)
def test_networks_that_cannot_be_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        dataclasses.replace(V2, **changes)


@pytest.mark.parametrize("version", VERSIONS)
def test_declaration_survives_json_values(version: str) -> None:
    network = version_network(version)
    text = json.dumps(network.to_dict(), allow_nan=False)
    read = network_from_dict(json.loads(text), parse_graph(network.graph.to_json()))
    assert read.to_dict() == network.to_dict()
    assert read.branches == network.branches
    assert read.graph.to_json() == network.graph.to_json()
    assert read.branch_geometry == network.branch_geometry


def test_anchors_code_and_assignment_survive_json_values() -> None:
    branches = tuple(dataclasses.replace(branch, anchors=((7.5, 9),)) for branch in V2.branches)
    network = dataclasses.replace(V2, branches=branches, code="center-size", assignment="mine")
    read = network_from_dict(json.loads(json.dumps(network.to_dict())), network.graph)
    assert (read.branches, read.code, read.assignment) == (branches, "center-size", "mine")


def test_cards_of_the_first_format_are_read() -> None:
    """They also list the layers, and say nothing of outputs, codes and assignments."""
    fields = {**V2.to_dict(), "stem": [64], "stages": [{"channels": 64, "pairs": 3}], "head_channels": 128}
    for key in ("outputs", "code", "assignment"):
        del fields[key]
    assert network_from_dict(fields, V2.graph).to_dict() == V2.to_dict()


@pytest.mark.parametrize(
    "spoil",
    [
        {"branches": None},
        {"branches": [{}]},
        {"branches": [3]},
        {"branches": [{"layer": "conv8", "object_range": [10]}]},
        {"branches": [{"layer": "conv8", "object_range": ["10", 20]}]},
        {"branches": [{"layer": "conv8", "object_range": [True, 20]}]},
        {"branches": [{"layer": "conv8", "object_range": [10, 1e999]}]},
        {"branches": [{"layer": "conv8", "object_range": [10, 20], "anchors": [[8]]}]},
        {"branches": [{"layer": "conv8", "object_range": [10, 20], "anchors": 8}]},
        {"outputs": 3},
    ],
)
def test_damaged_declarations_are_named(spoil: dict[str, Any]) -> None:
    with pytest.raises(GeometryError, match="not a network declaration"):
        network_from_dict({**V2.to_dict(), **spoil}, V2.graph)


@pytest.mark.parametrize("missing", ["name", "branches", "train_input"])
def test_missing_fields_are_named(missing: str) -> None:
    fields = {name: value for name, value in V2.to_dict().items() if name != missing}
    with pytest.raises(GeometryError, match=f"not a network declaration: KeyError: '{missing}'"):
        network_from_dict(fields, V2.graph)


def test_networks_are_keys() -> None:
    assert len({V2, lffd_network(**{**DECLARED, "name": V2.name}), version_network("v1")}) == 2
