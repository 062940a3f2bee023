"""RetinaFace (arXiv 1905.00641): a backbone, a feature pyramid, context modules, and anchors with five points each."""

from __future__ import annotations

from collections.abc import Sequence

from lffd.graphs.branches import Branch, square_grid
from lffd.graphs.layers import Layers, Map
from lffd.graphs.network import Network, declare
from symbol_farm.feature_pyramid import feature_pyramid
from symbol_farm.ssh import PARTS, context_module

MEAN = (104.0, 117.0, 123.0)
"""Of blue, green and red in the images that the backbones were first trained on; subtracted from every pixel."""

Anchors = tuple[tuple[float, float], ...]

TWO_SIDES: tuple[Branch, ...] = tuple(
    Branch(f"ClassHead_{level}_conv1x1", limits, ((side, side), (2 * side, 2 * side)), square_grid(stride / 2, stride))
    for level, limits, side, stride in (
        (0, (8.0, 45.0), 16.0, 8),
        (1, (45.0, 181.0), 64.0, 16),
        (2, (181.0, 500.0), 256.0, 32),
    )
)
"""Two square anchors in the middle of each cell of strides 8, 16 and 32, the smaller one first."""


def retinaface(
    name: str, net: Layers, features: Sequence[Map], width: int, branches: Sequence[Branch], *, train_input: int
) -> Network:
    """Return a version with a context module on each level.

    Args:
        name: full version name.
        net: holds the backbone.
        features: maps of the backbone, finest first.
        width: channels of pyramid and context modules; those of 64 and fewer have leaky ReLUs.
        branches: one for each feature, with anchors.
        train_input: side in pixels of the square training crop.
    """
    slope, count = _slope(width), len(features)
    laterals = [f"fpn_output{number}_0" for number in range(1, count + 1)]
    maps = feature_pyramid(
        net, features, width, laterals=laterals, merges=["fpn_merge1_0", "fpn_merge2_0"], slope=slope
    )
    levels = [
        context_module(net, x, width, [f"ssh{number}_{part}_0" for part in PARTS], slope=slope)
        for number, x in enumerate(maps, start=1)
    ]
    return with_heads(name, net, levels, branches, train_input=train_input)


def shared_retinaface(
    name: str, net: Layers, features: Sequence[Map], width: int, branches: Sequence[Branch], *, train_input: int
) -> Network:
    """Return a version with one level more than features, and one context module that all levels share.

    The further level is a stride-2 convolution of the deepest feature. What all levels share cannot be normalised by
    statistics of one of them, so the context module has no normalisation. For the arguments see `retinaface`.
    """
    slope, count = _slope(width), len(features)
    laterals = [f"fpn_output{number}_0" for number in range(1, count + 1)]
    merges = [f"fpn_merge{number}_0" for number in range(1, count)]
    maps = feature_pyramid(net, features, width, laterals=laterals, merges=merges, slope=slope)
    maps.append(net.conv(features[-1], width, stride=2, slope=slope, name="fpn_extra_0"))
    names = [f"ssh_{part}" for part in PARTS]
    levels = [context_module(net, maps[0], width, names, slope=slope, gain=None)]
    for number, x in enumerate(maps[1:], start=1):
        again = [f"{part}_level{number}" for part in names]
        levels.append(context_module(net, x, width, again, slope=slope, gain=None, weights_of=names))
    return with_heads(name, net, levels, branches, train_input=train_input)


def with_heads(
    name: str,
    net: Layers,
    levels: Sequence[Map],
    branches: Sequence[Branch],
    *,
    train_input: int,
    heads: Sequence[str] = ("BboxHead_{}_conv1x1", "ClassHead_{}_conv1x1", "LandmarkHead_{}_conv1x1"),
    places: Sequence[int] | None = None,
    code: str = "center-size",
) -> Network:
    """Return a version whose branches read `levels`: box, class (object and background) and five points per anchor.

    Args:
        name: full version name.
        net: holds everything before.
        levels: finest first.
        branches: one for each level, with anchors.
        train_input: side in pixels of the square training crop.
        heads: names of the convolutions for box, class and points, with a place for the level.
        places: what is written there; the levels' numbers when None.
        code: of the boxes.
    """
    said: list[dict[str, Map]] = [{} for _ in levels]
    for role, channels, label in zip(("box", "score", "landmarks"), (4, 2, 10), heads, strict=True):
        for number, (x, branch) in enumerate(zip(levels, branches, strict=True)):
            size = channels * len(branch.anchors)
            label_name = label.format(number if places is None else places[number])
            said[number][role] = net.conv(x, size, 1, relu=False, gain=None, name=label_name)
    ordered = [{role: maps[role] for role in ("score", "box", "landmarks")} for maps in said]
    pairs = list(zip(branches, ordered, strict=True))
    return declare(name, net, pairs, train_input, code=code, assignment="anchors")


def _slope(width: int) -> float:
    return 0.1 if width <= 64 else 0.0
