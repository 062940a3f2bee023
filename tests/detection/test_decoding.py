"""Decoding against one cell at a time, and the order of threshold, choice and decoding."""

from __future__ import annotations

import numpy as np
import pytest

from detection.decoding import Candidates, best_indices, decode, join
from lffd.boxes import iou
from lffd.engines import BranchMaps
from lffd.graphs.network import Network
from symbol_farm.versions import version_network


def _maps(network: Network, height: int, width: int, images: int = 1, seed: int = 0) -> list[BranchMaps]:
    rng = np.random.default_rng(seed)
    sizes = network.map_sizes(height, width)
    return [
        {
            "score": rng.random((images, 1, h, w), np.float32),
            "box": rng.normal(0, 0.5, (images, 4, h, w)).astype(np.float32),
        }
        for h, w in sizes
    ]


def _cell_by_cell(network: Network, maps: list[BranchMaps], threshold: float, row: int = 0) -> set[tuple[float, ...]]:
    """The box code as the paper has it, in plain Python."""
    found = set()
    for geometry, said in zip(network.branch_geometry, maps, strict=True):
        scores, codes = said["score"][:, 0], said["box"]
        for i, j in np.ndindex(scores.shape[1:]):
            if scores[row, i, j] > threshold:
                x, y = (geometry.first_center + geometry.stride * cell for cell in (j, i))
                n = geometry.object_range[1] / 2
                box = [place - n * float(codes[row, k, i, j]) for k, place in enumerate((x, y, x, y))]
                found.add((geometry.index, round(float(scores[row, i, j]), 5), *(round(value, 2) for value in box)))
    return found


def _as_set(candidates: Candidates) -> set[tuple[float, ...]]:
    return {
        (int(branch), round(float(score), 5), *(round(float(value), 2) for value in box))
        for branch, score, box in zip(candidates.branches, candidates.scores, candidates.boxes, strict=True)
    }


def test_nothing_above_the_threshold_is_an_empty_array_of_boxes() -> None:
    network = version_network("v2")
    candidates = decode(_maps(network, 200, 240), network.branch_geometry, 1.0, 100)
    assert candidates.boxes.shape == (0, 4)
    assert candidates.boxes.dtype == candidates.scores.dtype == np.float32
    assert candidates.branches.dtype == np.int8


@pytest.mark.parametrize("version", ["v1", "v2", "plate"])
def test_every_cell_over_the_threshold_is_decoded(version: str) -> None:
    network = version_network(version)
    maps = _maps(network, 190, 333, images=2)
    candidates = decode(maps, network.branch_geometry, 0.97, 10_000, row=1)
    expected = _cell_by_cell(network, maps, 0.97, row=1)
    # Rounded decimals may fall either way: almost all must agree exactly.
    assert candidates.scores.size == len(expected) > 5
    assert len(_as_set(candidates) & expected) >= 0.9 * len(expected)


def test_encoded_boxes_come_back() -> None:
    network = version_network("v2")
    truth = np.array([[31, 40, 46, 57], [100, 90, 160, 165]], np.float32)
    maps = [{name: values * 0 for name, values in said.items()} for said in _maps(network, 300, 400)]
    for box, branch in zip(truth, (0, 2), strict=True):
        geometry = network.branch_geometry[branch]
        column, row = ((box[:2] + box[2:]) / 2 - geometry.first_center) // geometry.stride
        center = geometry.first_center + geometry.stride * np.array([[column, row]], np.float32)
        maps[branch]["score"][0, 0, int(row), int(column)] = 0.9
        maps[branch]["box"][0, :, int(row), int(column)] = geometry.encode(box[None], center)[0]
    candidates = decode(maps, network.branch_geometry, 0.5, 10)
    np.testing.assert_allclose(candidates.boxes, truth, atol=1e-4)
    assert candidates.branches.tolist() == [0, 2]
    assert np.all(np.diag(iou(candidates.boxes, truth)) > 0.9999)


def test_top_k_keeps_the_best_cells_of_all_branches_together() -> None:
    network = version_network("v1")
    maps = _maps(network, 160, 160)
    everything = decode(maps, network.branch_geometry, 0.3, 10**6)
    some = decode(maps, network.branch_geometry, 0.3, 50)
    assert sorted(some.scores) == sorted(np.sort(everything.scores)[-50:])
    assert _as_set(some) <= _as_set(everything)
    assert _as_set(everything.best(50)) == _as_set(some)


def test_parts_of_maps_know_their_place() -> None:
    network = version_network("v2")
    maps = _maps(network, 300, 300)
    everything = decode(maps, network.branch_geometry, 0.9, 10**6)
    parts = []
    cut = [(part["score"].shape[2] // 2, part["score"].shape[3] // 3) for part in maps]
    for below in (False, True):
        for right in (False, True):
            rows = [slice(top, None) if below else slice(0, top) for top, _ in cut]
            columns = [slice(left, None) if right else slice(0, left) for _, left in cut]
            pieces = [
                {name: values[:, :, r, c] for name, values in part.items()}
                for part, r, c in zip(maps, rows, columns, strict=True)
            ]
            origin = [(top * below, left * right) for top, left in cut]
            parts.append(decode(pieces, network.branch_geometry, 0.9, 10**6, first_cells=origin))
    assert _as_set(join(parts)) == _as_set(everything)


def test_joining_nothing() -> None:
    assert join([]).boxes.shape == (0, 4)
    assert join([]).best(5).scores.shape == (0,)


@pytest.mark.parametrize(("count", "expected"), [(1, [2]), (2, [2, 4]), (5, [0, 1, 2, 3, 4]), (9, [0, 1, 2, 3, 4])])
def test_best_indices(count: int, expected: list[int]) -> None:
    scores = np.array([0.1, 0.3, 0.9, 0.2, 0.8], np.float32)
    assert best_indices(scores, count).tolist() == expected
