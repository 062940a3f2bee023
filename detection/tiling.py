"""Exact tiling: which parts of a large image to run so that the joined maps are those of the whole image.

Every cell of a branch's map depends on a bounded part of the input. A tile gives the same numbers as the whole image
for all cells that do not feel the tile's cut edges. How far that influence reaches follows from the layers alone: a
stride-2 convolution halves it, a padded one moves it in by one cell, and at the real border of the image there is
none, because the padding there is the same. Tiles start at multiples of the deepest stride, so that the cells of
every branch coincide, and end so that all tiles have the same size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from lffd.engines import BranchMaps
from lffd.errors import UsageError
from lffd.graphs.network import Network, raw_output

CellRange = tuple[int, int]
"""First cell and the one after the last, along one axis."""


@dataclass(frozen=True)
class Span:
    """One tile along one axis.

    Attributes:
        start, stop: in pixels of the image.
        cells: per branch, which cells of the tile's own map to keep.
        first_cells: per branch, index in the whole image's map of the first cell that is kept.
    """

    start: int
    stop: int
    cells: tuple[CellRange, ...]
    first_cells: tuple[int, ...]


@dataclass(frozen=True)
class Tile:
    """One rectangle of the image, and what to keep of its maps."""

    rows: Span
    columns: Span

    @property
    def first_cells(self) -> list[tuple[int, int]]:
        """Row and column in the whole image's map of each branch's first kept cell."""
        return list(zip(self.rows.first_cells, self.columns.first_cells, strict=True))

    def crop(self, maps: Sequence[BranchMaps]) -> list[BranchMaps]:
        """Return the part of the tile's maps that equals the whole image's, as views."""
        cells = zip(self.rows.cells, self.columns.cells, strict=True)
        places = [(..., slice(*rows), slice(*columns)) for rows, columns in cells]
        return [{name: m[place] for name, m in part.items()} for part, place in zip(maps, places, strict=True)]


def exact_cells(network: Network, length: int, cut_start: bool, cut_end: bool) -> tuple[CellRange, ...]:
    """Return, per branch, which cells along one axis do not feel a tile's edges where the image goes on.

    `length` is the tile's in pixels; `cut_start` and `cut_end` say whether the image goes on before and after it.
    """
    ranges = network.graph.exact_cells(length, cut_start, cut_end)
    branches = network.by_branch([ranges[output] for output in network.graph.outputs])
    return tuple(
        (max(first for first, _ in said.values()), min(last for _, last in said.values())) for said in branches
    )


def tile_overlap(network: Network, length: int) -> int:
    """Return by how many pixels neighbours overlap at least; it depends on the image's `length` modulo `_step`."""
    step = _step(network)
    field = max(branch.receptive_field for branch in network.branch_geometry)
    tile = length % step + step * (2 + 2 * field // step)
    strides = [branch.stride for branch in network.branch_geometry]
    exact = exact_cells(network, tile, cut_start=True, cut_end=True)
    advance = min((last - first) * stride for (first, last), stride in zip(exact, strides, strict=True))
    return tile - advance // step * step


def _step(network: Network) -> int:
    """Return the distance between possible tile starts: a multiple of every branch's stride and of `input_step`."""
    return math.lcm(network.input_step, *(branch.stride for branch in network.branch_geometry))


def plan_axis(network: Network, length: int, count: int) -> list[Span]:
    """Return `count` spans of one size, the smallest that covers an image's `length` pixels; one is the whole."""
    tile, overlap, step = tile_length(network, length, count), tile_overlap(network, length), _step(network)
    strides = [branch.stride for branch in network.branch_geometry]
    ends = [0] * len(strides)
    spans = []
    for number in range(count):
        start = min(number * (tile - overlap), length - tile)
        exact = exact_cells(network, tile, cut_start=number > 0, cut_end=number < count - 1)
        origins = [start // stride for stride in strides]
        kept = tuple((end - origin, last) for end, origin, (_, last) in zip(ends, origins, exact, strict=True))
        spans.append(Span(start, start + tile, kept, tuple(ends)))
        ends = [origin + last for origin, (_, last) in zip(origins, kept, strict=True)]
    assert all(span.start % step == 0 for span in spans)
    return spans


def tile_length(network: Network, length: int, count: int) -> int:
    """Return the smallest size of `count` equal tiles that cover `length` pixels."""
    if count == 1:
        return length
    step = _step(network)
    needed = -(-(length + (count - 1) * tile_overlap(network, length)) // count)
    return needed + (length - needed) % step


def plan_tiles(network: Network, height: int, width: int, max_pixels: int) -> list[Tile]:
    """Return the tiles of at most `max_pixels` that cover an image with the least work, all of one size.

    Raises:
        UsageError: when even the smallest useful tiles are larger.
    """
    best: tuple[int, int, int] | None = None
    for columns in itertools.count(1):
        across = tile_length(network, width, columns)
        rows = _rows_that_fit(network, height, max_pixels // across)
        down = tile_length(network, height, rows)
        work = columns * rows * across * down
        if across * down <= max_pixels and (best is None or (work, columns * rows) < best[:2]):
            best = (work, columns * rows, columns)
        if across <= _shortest(network, width):  # more tiles would not be smaller
            break
    if best is None:
        what = f"tiles of {max_pixels:,} pixels are too small for {network.name} on a {width}x{height} image"
        raise UsageError(f"{what}: allow at least {smallest_tile(network, height, width):,}")
    columns = best[2]
    row_spans = plan_axis(network, height, best[1] // columns)
    return [Tile(rows, across) for rows in row_spans for across in plan_axis(network, width, columns)]


def smallest_tile(network: Network, height: int, width: int) -> int:
    """Return how many pixels the smallest tiles have that can cover an image of `height` × `width` pixels."""
    return _shortest(network, height) * _shortest(network, width)


def _shortest(network: Network, length: int) -> int:
    """Return the length of the smallest tile along an axis: neighbours overlap, and each must add something."""
    return min(length, tile_overlap(network, length) + _step(network))


def _rows_that_fit(network: Network, height: int, limit: int) -> int:
    """Return the smallest number of tiles along the height that are no longer than `limit`, or nearly so."""
    if height <= limit:
        return 1
    overlap, step = tile_overlap(network, height), _step(network)
    limit -= (limit - height) % step
    return max(2, -(-(height - overlap) // max(limit - overlap, step)))


_ENGINE_OVERHEAD = {"openvino": 1.0, "mxnet": 1.7, "onnxruntime": 1.8}
"""Memory of engines as a multiple of the maps that must be there at once: measured with v1 and v2 on 3 and 6 megapixels
(0.8, 1.6, 1.7 at most), rounded up; 3.0 for ncnn (2.9), and fair to expect of any other."""


def working_bytes_per_pixel(network: Network, engine: str = "mxnet") -> float:
    """Return about how much memory running the network takes per input pixel, in bytes, and rather more than less.

    The maps that must be there at once: the image as float32 twice, the widest layer's input and output, and one
    hidden map of every branch.
    """
    graph = network.graph
    areas = [1 / place.stride**2 for place in graph.places]
    widest = max(
        areas[position] * graph.places[position].channels
        + sum(areas[source] * graph.places[source].channels for source in graph.map_inputs(node))
        for position, node in enumerate(graph.nodes)
        if node.op in ("Convolution", "Pooling", "UpSampling")
    )
    hidden = [graph.nodes[raw_output(graph, said["box"])].inputs[0] for said in network.by_branch(graph.outputs)]
    heads = sum(areas[position] * graph.places[position].channels for position in hidden)
    return 4 * (2 * 3 + widest + heads) * _ENGINE_OVERHEAD.get(engine, 3.0)
