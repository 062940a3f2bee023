"""The top-down path of a feature pyramid (arXiv 1612.03144), with an activation behind each of its convolutions."""

from __future__ import annotations

from collections.abc import Sequence

from lffd.graphs.layers import Layers, Map


def feature_pyramid(
    net: Layers, maps: Sequence[Map], width: int, *, laterals: Sequence[str], merges: Sequence[str], slope: float = 0.0
) -> list[Map]:
    """Return maps of `width` channels at the places of `maps`, finest first, each knowing what the deeper ones saw.

    Args:
        net: where to draw.
        maps: of a backbone, finest first, each half the size of the one before.
        width: channels of the results.
        laterals: names of the 1×1 convolutions, finest first.
        merges: names of the 3×3 convolutions behind the sums, finest first; the deepest map has none.
        slope: of the ReLUs below 0.
    """
    merged = [net.conv(x, width, 1, slope=slope, name=name) for x, name in zip(maps, laterals, strict=True)]
    for number in range(len(maps) - 2, -1, -1):
        total = net.add(merged[number], net.enlarge(merged[number + 1]))
        merged[number] = net.conv(total, width, slope=slope, name=merges[number])
    return merged
