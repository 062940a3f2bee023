"""Tiles against the whole image: geometry by brute force, plans by their promises. Real maps: test_detector.py."""

from __future__ import annotations

import numpy as np
import pytest

from detection.tiling import exact_cells, plan_axis, plan_tiles, tile_length, tile_overlap, working_bytes_per_pixel
from lffd.engines import BranchMaps
from lffd.errors import UsageError
from lffd.graphs.network import Network, cut_branches
from symbol_farm.versions import VERSIONS, version_network

NETWORKS = [*map(version_network, VERSIONS), cut_branches(version_network("v1"), [1, 2])]


def _felt(network: Network, length: int, spoiled: list[int]) -> list[np.ndarray]:
    """Which cells of each branch feel the given input pixels, by pushing marks through the nodes one by one."""
    marks = np.zeros(length, bool)
    marks[spoiled] = True
    maps: list[np.ndarray] = []
    for node in network.graph.nodes:
        read = [maps[source] for source in network.graph.map_inputs(node)]
        if node.op in ("Convolution", "Pooling"):
            (kernel, _), (stride, _), (pad, _) = (node.integers(key, (1, 1)) for key in ("kernel", "stride", "pad"))
            padded = np.pad(read[0], pad)
            size = (padded.size - kernel) // stride + 1
            windows = [padded[k : k + stride * (size - 1) + 1 : stride] for k in range(kernel)]
            maps.append(np.stack(windows).any(axis=0))
        elif node.op == "UpSampling":
            maps.append(np.repeat(read[0], 2))
        else:
            maps.append(np.stack(read).any(axis=0) if read else marks)
    return [maps[outputs["score"]] for outputs in network.by_branch(network.graph.outputs)]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_one_tile_keeps_everything(network: Network) -> None:
    height, width = network.fitting(333), network.fitting(801)
    sizes = network.map_sizes(height, width)
    assert exact_cells(network, height, False, False) == tuple((0, rows) for rows, _ in sizes)
    (span,) = plan_axis(network, width, 1)
    assert (span.start, span.stop) == (0, width)
    assert span.cells == tuple((0, columns) for _, columns in sizes)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
@pytest.mark.parametrize("length", [1500, 1531, 2047, 3001])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_kept_cells_see_no_pixel_outside_their_tile_and_cover_the_map_once(
    network: Network, length: int, count: int
) -> None:
    length = network.fitting(length)
    sizes = [columns for _, columns in network.map_sizes(length, length)]
    covered = [np.zeros(size, int) for size in sizes]
    spans = plan_axis(network, length, count)
    assert {span.stop - span.start for span in spans} == {tile_length(network, length, count)}
    for span in spans:
        outside = [*range(span.start), *range(span.stop, length)]
        felt = _felt(network, length, outside)
        for number, ((first, last), origin) in enumerate(zip(span.cells, span.first_cells, strict=True)):
            here = slice(origin, origin + last - first)
            covered[number][here] += 1
            assert not felt[number][here].any()
            stride = network.branch_geometry[number].stride
            assert span.start + first * stride == origin * stride
    assert all((marks == 1).all() for marks in covered)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_the_overlap_is_no_larger_than_needed(network: Network) -> None:
    """One step less, and some branch would miss a cell between two tiles."""
    step = max(branch.stride for branch in network.branch_geometry)
    for length in map(network.fitting, (1600, 1601, 1663)):
        overlap = tile_overlap(network, length)
        tile = length - 3 * step
        exact = exact_cells(network, tile, True, True)
        advance = tile - overlap + step
        assert any(
            (last - first) * branch.stride < advance
            for (first, last), branch in zip(exact, network.branch_geometry, strict=True)
        )


def test_plans_fit_the_budget_and_waste_little() -> None:
    network = version_network("v1")
    for height, width, budget in [(4320, 7680, 7_000_000), (63, 20_000, 500_000), (30_000, 300, 2_000_000)]:
        tiles = plan_tiles(network, height, width, budget)
        sizes = {(t.rows.stop - t.rows.start, t.columns.stop - t.columns.start) for t in tiles}
        assert len(sizes) == 1
        ((rows, columns),) = sizes
        assert rows * columns <= budget
        assert len(tiles) * rows * columns < 1.5 * height * width


def test_an_image_within_the_budget_is_one_tile() -> None:
    (tile,) = plan_tiles(version_network("v2"), 480, 640, 480 * 640)
    maps: list[BranchMaps] = [{"score": np.ones((1, 1, 119, 159), "f"), "box": np.ones((1, 4, 119, 159), "f")}] * 5
    assert tile.first_cells == [(0, 0)] * 5
    assert tile.crop(maps)[0]["score"].shape == (1, 1, 119, 159)


def test_a_budget_below_the_overlap_is_refused_with_what_would_do() -> None:
    network = version_network("v2")
    with pytest.raises(UsageError, match=r"too small for .* on a 4000x3000 image.* allow at least [\d,]+") as caught:
        plan_tiles(network, 3000, 4000, 100_000)
    enough = int(str(caught.value).rpartition(" ")[2].replace(",", ""))
    assert len(plan_tiles(network, 3000, 4000, enough)) > 4


def test_the_memory_estimate_follows_the_maps_that_must_be_there() -> None:
    """v2: 2 images of 3 channels, conv1's 64 channels at half size and conv2's at a quarter, 128 of each branch."""
    heads = sum(128 / stride**2 for stride in (4, 8, 16, 32, 64))
    expected = 4 * (2 * 3 + 64 / 4 + 64 / 16 + heads)
    assert working_bytes_per_pixel(version_network("v2"), "openvino") == expected
    estimates = [working_bytes_per_pixel(version_network(name)) for name in ("plate_small", "v2", "v1")]
    assert estimates == sorted(estimates)
    v1 = version_network("v1")
    by_engine = [working_bytes_per_pixel(v1, name) for name in ("openvino", "mxnet", "onnxruntime", "ncnn")]
    assert by_engine == sorted(by_engine)
    assert working_bytes_per_pixel(v1, "another") == by_engine[-1]
