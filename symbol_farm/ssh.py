"""The context module of SSH (arXiv 1708.03979): a map seen through windows of 3, 5 and 7 cells at once."""

from __future__ import annotations

from collections.abc import Sequence

from lffd.graphs.layers import Layers, Map

PARTS = ("conv3X3", "conv5X5_1", "conv5X5_2", "conv7X7_2", "conv7x7_3")
"""The convolutions as they are drawn: one of 3 cells, two of 5, and two more of 7 behind the first of 5."""


def context_module(
    net: Layers,
    x: Map,
    channels: int,
    names: Sequence[str],
    *,
    slope: float = 0.0,
    gain: float | None = 1.0,
    weights_of: Sequence[str | None] = (None,) * 5,
) -> Map:
    """Return a map of `channels`, half of them from windows of 3 cells, a quarter each from 5 and 7.

    Args:
        net: where to draw.
        x: what it reads.
        channels: of the result, a multiple of 4.
        names: of its convolutions, in the order of `PARTS`.
        slope: of the ReLUs inside below 0.
        gain: with which normalisation starts, while training; None for none.
        weights_of: another module's names, to use its parameters too.
    """

    def conv(number: int, source: Map, share: int, relu: bool) -> Map:
        name, other = names[number], weights_of[number]
        return net.conv(source, channels // share, relu=relu, slope=slope, gain=gain, name=name, weights_of=other)

    three, shared = conv(0, x, 2, False), conv(1, x, 4, True)
    five = conv(2, shared, 4, False)
    seven = conv(4, conv(3, shared, 4, True), 4, False)
    return net.relu(net.concat(three, five, seven))
