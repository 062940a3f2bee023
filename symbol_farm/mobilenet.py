"""Chains of separable convolutions, every half of them normalised and activated (MobileNet, arXiv 1704.04861)."""

from __future__ import annotations

from collections.abc import Sequence

from lffd.graphs.layers import Layers, Map


def separable_chain(
    net: Layers, x: Map, rows: Sequence[tuple[int, int]], *, prefix: str, first: int = 1, slope: float = 0.0
) -> Map:
    """Return the end of a chain of depthwise 3×3 and 1×1 convolutions.

    Args:
        net: where to draw.
        x: what the first one reads.
        rows: channels and stride of each.
        prefix: of all names; the halves of number `n` are `<prefix>n_0` and `<prefix>n_3`.
        first: number of the first one.
        slope: of the ReLUs below 0.
    """
    for number, (channels, stride) in enumerate(rows, start=first):
        name, width = f"{prefix}{number}", net.channels(x)
        x = net.conv(x, width, 3, stride, groups=width, slope=slope, name=f"{name}_0")
        x = net.conv(x, channels, 1, slope=slope, name=f"{name}_3")
    return x


def mobilenet_quarter(net: Layers, image: Map) -> list[Map]:
    """Return the ends of the three stages, of strides 8, 16 and 32, of MobileNet v1 at a quarter of its width."""
    x = net.conv(image, 8, 3, 2, slope=0.1, name="body_stage1_0_0")
    ends = []
    for stage, rows in enumerate(_STAGES, start=1):
        x = separable_chain(net, x, rows, prefix=f"body_stage{stage}_", first=int(stage == 1), slope=0.1)
        ends.append(x)
    return ends


_STAGES = (
    ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1)),
    ((128, 2), *[(128, 1)] * 5),
    ((256, 2), (256, 1)),
)
"""Channels and stride of each separable convolution."""
