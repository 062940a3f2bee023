"""Label maps against a slow reference that decides cell by cell, straight from the rules."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_iterator_farm.policies import LabelPolicy
from lffd.boxes import as_boxes
from lffd.graphs.branches import BranchGeometry
from lffd.graphs.network import Network
from tests.data_iterator_farm.made_up import label_maps
from tests.data_iterator_farm.test_label_maps import HONOURED, NETWORKS, OURS, PUBLISHED, gray_ends, split


def side_of(box: Any) -> Any:
    """Longer side as float32 arithmetic gives it."""
    return float(max(box[2] - box[0], box[3] - box[1]))


def reference(boxes: Any, ignored: Any, network: Network, size: int, policy: LabelPolicy) -> Any:
    """Section 3 for every cell in turn, and the rules of `LabelPolicy` around it."""
    found = []
    shapes = network.map_sizes(size, size)
    for branch, (height, width) in zip(network.branch_geometry, shapes, strict=True):
        roles = [role_of(box, flag, branch, network, policy) for box, flag in zip(boxes, ignored, strict=True)]
        x, y = np.meshgrid(branch.centers(width).astype(float), branch.centers(height).astype(float))
        inside = [contains(box, x, y) for box in boxes]
        claims: list[Any] = [
            claimed(box, x, y, policy) if role == "positive" else None for box, role in zip(boxes, roles, strict=True)
        ]
        classes = np.zeros((height, width), np.int8)
        codes = np.zeros((4, height, width), np.float32)
        for row in range(height):
            for column in range(width):
                cell = (row, column)
                touching = [
                    i for i in range(len(boxes)) if inside[i][cell] or (claims[i] is not None and claims[i][cell])
                ]
                if touching:
                    classes[cell], owner = decide(
                        cell, touching, roles, inside, claims, boxes, (x[cell], y[cell]), policy
                    )
                    if owner is not None:
                        x0, y0, x1, y1 = boxes[owner].astype(float)
                        n = branch.object_range[1] / 2
                        offsets = (x[cell] - x0, y[cell] - y0, x[cell] - x1, y[cell] - y1)
                        codes[:, row, column] = [offset / n for offset in offsets]
        found.append((classes, codes))
    return tuple(c for c, _ in found), tuple(c for _, c in found)


def role_of(box: Any, flag: Any, branch: BranchGeometry, network: Network, policy: LabelPolicy) -> str:
    side = side_of(box)
    low, high = branch.object_range
    gray_low, gray_high = gray_ends(low, high)
    if branch.index == len(network.branches) - 1:
        high *= policy.last_range_factor
        if policy.last_range_factor != 1:
            gray_high = math.ceil(high * 11 / 10)
        if policy.ignore_larger:
            gray_high = math.inf
    if flag:
        return "hidden" if policy.ignored_boxes == "ignore" else "nothing"
    if side < policy.smallest:
        return "hidden"
    if low <= side <= high:
        return "positive"
    return "gray" if gray_low <= side <= gray_high else "nothing"


def contains(box: Any, x: Any, y: Any) -> Any:
    return (box[0] <= x) & (x <= box[2]) & (box[1] <= y) & (y <= box[3])


def claimed(box: Any, x: Any, y: Any, policy: LabelPolicy) -> Any:
    """The cells that are positive for a box if no other interferes."""
    x0, y0, x1, y1 = box.astype(float)
    mx, my = (x0 + x1) / 2, (y0 + y1) / 2
    hx, hy = (x1 - x0) * (policy.positive_region / 2), (y1 - y0) * (policy.positive_region / 2)
    part = contains((mx - hx, my - hy, mx + hx, my + hy), x, y)
    if policy.nearest_cell and not part.any():
        part[np.abs(y[:, 0] - my).argmin(), np.abs(x[0] - mx).argmin()] = True
    return part


def decide(
    cell: Any, touching: Any, roles: Any, inside: Any, claims: Any, boxes: Any, point: Any, policy: LabelPolicy
) -> Any:
    """The class of a cell, and the box whose code it is taught."""
    claiming = [i for i in touching if roles[i] == "positive" and claims[i][cell]]
    hidden, gray = (any(roles[i] == role for i in touching) for role in ("hidden", "gray"))
    rest = any(roles[i] == "positive" and inside[i][cell] for i in touching)
    owner = claiming[0] if len(claiming) == 1 else None
    if len(claiming) > 1 and policy.overlap == "nearest":
        middles = [(boxes[i][:2].astype(float) + boxes[i][2:]) / 2 for i in claiming]
        distances = [(point[0] - m[0]) ** 2 + (point[1] - m[1]) ** 2 for m in middles]
        owner = claiming[int(np.argmin(distances))]
    if owner is not None and (policy.positive_over_ignored or not (hidden or gray)):
        return 1, owner
    if owner is not None and policy.ignored_keep_box:
        return -2, owner
    return (-1 if hidden or gray or claiming or rest else 0), None


@st.composite
def crops(draw: Any, size: Any) -> Any:
    """Boxes on a quarter-pixel grid, so that every comparison is exact, some of them over the border or repeated."""
    quarter = st.integers(-4 * 40, 4 * size).map(lambda n: n / 4)
    extent = st.one_of(st.integers(4, 4 * 90), st.integers(1, 4 * int(1.2 * size))).map(lambda n: n / 4)
    box = st.tuples(quarter, quarter, extent, extent).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
    boxes: list[tuple[float, ...]] = draw(st.lists(box, max_size=7))
    if boxes and draw(st.booleans()):
        boxes.append(boxes[0])
    return as_boxes(boxes), np.array(draw(st.lists(st.booleans(), min_size=len(boxes), max_size=len(boxes))), bool)


POLICIES = {
    "published": PUBLISHED,
    "honoured": HONOURED,
    "ours": OURS,
    "mixed": replace(HONOURED, positive_region=0.5, overlap="nearest", smallest=12, nearest_cell=True),
    "dropped": replace(PUBLISHED, ignored_keep_box=False),
    "strict": replace(OURS, positive_over_ignored=False, overlap="ignore", nearest_cell=False),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("version", ["v1", "v2", "head"])
def test_against_the_slow_reference(version: Any, policy: Any) -> None:
    network, size = NETWORKS[version], {"v1": 192, "v2": 192, "head": 128}[version]

    @settings(max_examples=50, deadline=None)
    @given(crops(size))
    def check(crop: Any) -> None:
        boxes, ignored = crop
        classes, codes = split(label_maps(boxes, ignored, network, size, POLICIES[policy]))
        want_classes, want_codes = reference(boxes, ignored, network, size, POLICIES[policy])
        for got, want in zip(classes, want_classes, strict=True):
            np.testing.assert_array_equal(got, want)
        for got_codes, want_code in zip(codes, want_codes, strict=True):
            np.testing.assert_allclose(got_codes, want_code, atol=1e-5)

    check()
