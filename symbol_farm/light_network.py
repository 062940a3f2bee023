"""Light networks with a top-down path: separable layers on the large map, LFFD's dense pairs on the small ones.

The first map with branches has stride 8, because operations at stride 4 cost more than all others together. Deeper maps
are brought back to finer ones (feature pyramid, arXiv 1612.03144), so that a small face is told by what surrounds it.
All layers are padded, so that cell centres lie at multiples of their stride, and the image is scaled but not shifted,
which exports fold into the first convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lffd.graphs.branches import Branch
from lffd.graphs.layers import Layers, Map
from lffd.graphs.network import Network, declare

PIXEL_SCALE = 127.5


@dataclass(frozen=True)
class Level:
    """One map with a branch on it, half the size of the one before.

    Attributes:
        channels: of the map.
        blocks: residual blocks on it.
        object_range: lower and upper longer side of the branch's objects in pixels.
        dense: blocks are pairs of 3×3 convolutions, as LFFD's; otherwise one separable convolution each.
    """

    channels: int
    blocks: int
    object_range: tuple[float, float]
    dense: bool = True


def light_network(
    name: str,
    *,
    start: Sequence[int],
    levels: Sequence[Level],
    width: int,
    train_input: int,
    tower: int = 1,
) -> Network:
    """Return a version.

    Args:
        name: full version name.
        start: channels of the stride-2 convolutions in front; the last one makes the first level's map.
        levels: finest first.
        width: channels of the top-down path and of the towers.
        train_input: side in pixels of the square training crop.
        tower: separable convolutions in front of each branch's outputs.

    Raises:
        GeometryError: for a declaration that cannot work.
    """
    net = Layers()
    x = net.image(center=0, scale=PIXEL_SCALE)
    for number, channels in enumerate(start):
        # Normalising the largest map would cost a tenth of a training step.
        x = net.conv(x, channels, stride=2, gain=1.0 if number else None, name=f"start{number + 1}")
    features = []
    for number, level in enumerate(levels):
        if number:
            x = net.conv(net.max_pool(x), level.channels, 1, name=f"level{number + 1}_in")
        for block in range(level.blocks):
            x = _block(net, x, level, f"level{number + 1}_block{block + 1}")
        features.append(x)
    branches = []
    for number, x in enumerate(_top_down(net, features, width), start=1):
        for step in range(tower):
            x = net.separable(x, width, name=f"level{number}_tower{step + 1}")  # noqa: PLW2901 - a path of layers
        said = {
            role: net.conv(x, channels, 1, relu=False, gain=None, name=f"level{number}_{role}")
            for role, channels in (("score", 1), ("box", 4))
        }
        branches.append((Branch(f"level{number}_score", levels[number - 1].object_range), said))
    return declare(name, net, branches, train_input)


def _block(net: Layers, x: Map, level: Level, name: str) -> Map:
    """Draw one residual block."""
    if level.dense:
        inner = net.conv(x, level.channels, name=f"{name}_1")
        change = net.conv(inner, level.channels, relu=False, gain=0.5, name=f"{name}_2")
    else:
        change = net.separable(x, level.channels, relu=False, gain=0.5, name=name)
    return net.relu(net.add(change, x))


def _top_down(net: Layers, features: Sequence[Map], width: int) -> list[Map]:
    """Draw the way back from the deepest map to the finest; return the maps in the order of the levels."""
    merged = [net.conv(features[-1], width, 1, name=f"level{len(features)}_lateral")]
    for number in range(len(features) - 1, 0, -1):
        lateral = net.conv(features[number - 1], width, 1, relu=False, name=f"level{number}_lateral")
        merged.append(net.relu(net.add(lateral, net.enlarge(merged[-1]))))
    return merged[::-1]
