"""Ultra-light detectors: a thin chain of separable convolutions with SSD's heads (arXiv 1512.02325) on four maps."""

from __future__ import annotations

from lffd.graphs.branches import Branch
from lffd.graphs.layers import Layers, Map
from lffd.graphs.network import Network, declare
from symbol_farm.mobilenet import separable_chain

WIDTH = 320

LEVELS = (
    ("base_net_7_3", (8.0, 28.0), (10.0, 16.0, 24.0), 8),
    ("base_net_10_3", (28.0, 55.0), (32.0, 48.0), 16),
    ("base_net_12_3", (55.0, 111.0), (64.0, 96.0), 32),
    ("extras_0_2_2", (111.0, 320.0), (128.0, 192.0, 256.0), 64),
)
"""Layer, range, sides of the square anchors, and stride of each map."""


def ultra_light_branches(height: int) -> tuple[Branch, ...]:
    """Return the branches for images of 320 × `height` px: cells share its height evenly, and no anchor is higher."""
    found = []
    for layer, limits, sides, stride in LEVELS:
        step = height / -(-height // stride)
        anchors = tuple((side, min(side, float(height))) for side in sides)
        found.append(Branch(layer, limits, anchors, ((stride / 2, stride), (step / 2, step))))
    return tuple(found)


def ultra_light(name: str, *, receptive_block: bool, height: int = 240) -> Network:
    """Return a version for images of 320 × `height` pixels.

    Args:
        name: full version name.
        receptive_block: put a receptive field block (arXiv 1711.07767) in the place of the backbone's seventh layer.
        height: of the images for which the anchors are laid out. Where it is no multiple of the largest stride, cells
            do not lie where anchors do, and the network takes images of this size only.
    """
    fixed = (WIDTH, height) if height % LEVELS[-1][3] else None
    net, branches = Layers(), ultra_light_branches(height)
    x = net.conv(net.image(center=127.0, scale=128.0), 16, stride=2, name="base_net_0_0")
    fine = ((32, 1), (32, 2), (32, 1), (64, 2), (64, 1), (64, 1))
    x = separable_chain(net, x, fine if receptive_block else (*fine, (64, 1)), prefix="base_net_")
    maps = [_receptive_field_block(net, x, "base_net_7") if receptive_block else x]
    maps.append(separable_chain(net, maps[-1], ((128, 2), (128, 1), (128, 1)), prefix="base_net_", first=8))
    maps.append(separable_chain(net, maps[-1], ((256, 2), (256, 1)), prefix="base_net_", first=11))
    x = net.conv(maps[-1], 64, 1, gain=None, name="extras_0_0")
    x = net.conv(x, 64, 3, 2, groups=64, gain=None, name="extras_0_2_0")
    maps.append(net.conv(x, 256, 1, gain=None, name="extras_0_2_2"))
    said = [
        {
            role: _head(net, x, f"{role_name}_{number}", size * len(branch.anchors), number < len(maps) - 1)
            for role, role_name, size in (("score", "classification_headers", 2), ("box", "regression_headers", 4))
        }
        for number, (x, branch) in enumerate(zip(maps, branches, strict=True))
    ]
    pairs = list(zip(branches, said, strict=True))
    return declare(name, net, pairs, WIDTH, code="center-size", assignment="anchors", fixed_input=fixed)


def _head(net: Layers, x: Map, name: str, channels: int, separable: bool) -> Map:
    """Draw what one output is read from: a separable convolution, or a dense one on the smallest map."""
    if not separable:
        return net.conv(x, channels, relu=False, gain=None, name=name)
    width = net.channels(x)
    x = net.conv(x, width, groups=width, gain=None, name=f"{name}_0")
    return net.conv(x, channels, 1, relu=False, gain=None, name=f"{name}_2")


def _receptive_field_block(net: Layers, x: Map, name: str) -> Map:
    """Draw a receptive field block: three paths that end with dilations of 2, 3 and 5, and a shortcut."""
    width = net.channels(x)
    inner = width // 8
    paths = []
    for number, (dilate, middle) in enumerate(((2, ()), (3, ()), (5, (inner * 3 // 2,)))):
        label = f"{name}_branch{number}"
        path = net.conv(x, inner, 1, relu=False, name=f"{label}_0_conv")
        widths = (*middle, 2 * inner)
        for step, channels in enumerate(widths, start=1):
            path = net.conv(path, channels, name=f"{label}_{step}_conv")
        last = len(widths) + 1
        paths.append(net.conv(path, 2 * inner, dilate=dilate, relu=False, name=f"{label}_{last}_conv"))
    joined = net.conv(net.concat(*paths), width, 1, relu=False, name=f"{name}_ConvLinear_conv")
    shortcut = net.conv(x, width, 1, relu=False, name=f"{name}_shortcut_conv")
    return net.relu(net.add(joined, shortcut))
