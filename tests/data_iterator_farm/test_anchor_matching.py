"""Matching anchors with objects, against plain loops over all pairs."""

from __future__ import annotations

import numpy as np
import pytest

from data_iterator_farm.anchor_matching import HIDDEN, LEAST, MATCH
from data_iterator_farm.assignment import label_maker
from data_iterator_farm.batch import target_shapes
from data_iterator_farm.policies import LabelPolicy
from lffd.graphs.network import Network
from symbol_farm.versions import version_network

SIZE = 128


def _targets(network: Network, count: int) -> list[dict[str, np.ndarray]]:
    shapes = target_shapes(network, SIZE)
    return [{name: np.zeros((count, *shape), kind) for name, (shape, kind) in said.items()} for said in shapes]


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    return shared / (float(np.prod(a[2:] - a[:2])) + float(np.prod(b[2:] - b[:2])) - shared)


def _anchors(network: Network) -> list[tuple[tuple[int, ...], np.ndarray]]:
    """Branch, prediction, row and column, and the box of every anchor."""
    found: list[tuple[tuple[int, ...], np.ndarray]] = []
    for index, (branch, (height, width)) in enumerate(
        zip(network.branch_geometry, network.map_sizes(SIZE, SIZE), strict=True)
    ):
        (x, dx), (y, dy) = branch.grid
        for number, (w, h) in enumerate(branch.units):
            for row, column in np.ndindex(height, width):
                cx, cy = x + dx * column, y + dy * row
                box = np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
                found.append(((index, number, row, column), box))
    return found


def _by_hand(network: Network, faces: np.ndarray, hidden: np.ndarray) -> dict[tuple[int, ...], int]:
    """Anchor to the face that it is positive for, or −1 for an ignored one; the rest is background."""
    anchors = _anchors(network)
    table = np.array([[_overlap(box, face) for face in faces] for _, box in anchors]).reshape(len(anchors), len(faces))
    found: dict[tuple[int, ...], int] = {}
    for place, box in anchors:
        for other in hidden:
            sides = np.maximum(np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]), 0)
            if np.prod(sides) >= HIDDEN * np.prod(box[2:] - box[:2]) or _overlap(box, other) >= MATCH:
                found[place] = -1
    for (place, _), row in zip(anchors, table, strict=True):
        if len(faces) and row.max() >= MATCH:
            found[place] = int(row.argmax())
    for face in range(len(faces)):
        if table[:, face].max() >= LEAST:
            found[anchors[int(table[:, face].argmax())][0]] = face
    return found


@pytest.mark.parametrize("name", ["slim_320", "retinaface_mnet025", "retinaface_r18"])
@pytest.mark.parametrize("seed", range(3))
def test_matching_equals_plain_loops(name: str, seed: int) -> None:
    network, rng = version_network(name), np.random.default_rng(seed)
    count = 2
    corners = rng.uniform(-10, 110, (14, 2))
    boxes = np.hstack([corners, corners + rng.uniform(4, 70, (14, 2))]).astype(np.float32)
    ignored, crops = rng.random(14) < 0.25, rng.integers(0, count, 14)
    targets = _targets(network, count)
    label_maker(network, SIZE, LabelPolicy(smallest=7)).write(boxes, ignored, crops, targets)
    small = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) < 7
    for crop in range(count):
        mine = np.flatnonzero((crops == crop) & ~ignored & ~small)
        expected = _by_hand(network, boxes[mine], boxes[(crops == crop) & (ignored | small)])
        scores = {
            (index, *place): int(value)
            for index, said in enumerate(targets)
            for place, value in np.ndenumerate(said["score"][crop])
            if value
        }
        assert scores == {place: 1 if face >= 0 else -1 for place, face in expected.items()}
        for (index, number, row, column), face in expected.items():
            if face < 0:
                continue
            branch = network.branch_geometry[index]
            center = branch.places(np.array([column]), np.array([row]))
            code = branch.encode(boxes[mine[face]][None], center, number)[0]
            np.testing.assert_allclose(targets[index]["box"][crop, 4 * number : 4 * number + 4, row, column], code)


def test_every_face_of_a_usual_size_has_an_anchor() -> None:
    network = version_network("retinaface_r18")
    targets = _targets(network, 1)
    boxes = np.array([[60.3, 50.2, 66, 57], [20, 20, 29, 38], [40, 60, 120, 125]], np.float32)
    write = label_maker(network, SIZE, LabelPolicy(smallest=5)).write
    write(boxes, np.zeros(3, bool), np.zeros(3, np.intp), targets)
    for number, box in enumerate(boxes):
        one = _targets(network, 1)
        write(box[None], np.zeros(1, bool), np.zeros(1, np.intp), one)
        assert sum(int((said["score"] == 1).sum()) for said in one) > 0, number
    assert sum(int((said["score"] == 1).sum()) for said in targets) > 3


def test_ignored_boxes_can_be_background() -> None:
    network, box = version_network("slim_320"), np.array([[10, 10, 60, 60]], np.float32)
    targets = _targets(network, 1)
    policy = LabelPolicy(ignored_boxes="background", smallest=7)
    label_maker(network, SIZE, policy).write(box, np.ones(1, bool), np.zeros(1, np.intp), targets)
    assert not any(said["score"].any() for said in targets)
