"""Residual backbones: ResNet (arXiv 1512.03385) and its form with normalisation in front (arXiv 1603.05027).

Layers are named as the parameters of the implementations that are in wide use, with `_` for their points:
torchvision's for the first, the MXNet model zoo's for the second.
"""

from __future__ import annotations

from collections.abc import Sequence

from lffd.graphs.layers import Layers, Map

WIDTHS = (64, 128, 256, 512)


def resnet(net: Layers, image: Map, blocks: Sequence[int], *, bottleneck: bool, prefix: str = "body_") -> list[Map]:
    """Return the ends of the four stages, of strides 4, 8, 16 and 32.

    Args:
        net: where to draw.
        image: the normalised image.
        blocks: residual blocks of each stage; (2, 2, 2, 2) for ResNet-18, (3, 4, 6, 3) for ResNet-50.
        bottleneck: blocks of 1×1, 3×3 and 1×1 convolutions, four times as wide at their end, instead of two 3×3.
        prefix: of all names.
    """
    x = net.max_pool(net.conv(image, 64, 7, 2, name=f"{prefix}conv1"))
    ends, grown = [], 4 if bottleneck else 1
    for stage, (width, count) in enumerate(zip(WIDTHS, blocks, strict=True), start=1):
        for block in range(count):
            stride = 2 if stage > 1 and block == 0 else 1
            name = f"{prefix}layer{stage}_{block}"
            shortcut = x
            if stride > 1 or net.channels(x) != width * grown:
                shortcut = net.conv(x, width * grown, 1, stride, relu=False, name=f"{name}_downsample_0")
            if bottleneck:
                x = net.conv(x, width, 1, name=f"{name}_conv1")
                x = net.conv(x, width, 3, stride, name=f"{name}_conv2")
                x = net.conv(x, 4 * width, 1, relu=False, gain=0.5, name=f"{name}_conv3")
            else:
                x = net.conv(x, width, 3, stride, name=f"{name}_conv1")
                x = net.conv(x, width, 3, relu=False, gain=0.5, name=f"{name}_conv2")
            x = net.relu(net.add(x, shortcut))
        ends.append(x)
    return ends


def preactivated_resnet(net: Layers, image: Map, blocks: Sequence[int]) -> list[Map]:
    """Return three maps of a bottleneck ResNet with normalisation in front, of strides 8, 16 and 32.

    They are the last ones of their strides: inside the first blocks of the third and fourth stage, where the 3×3
    convolution halves the map, and the end. Where a normalisation follows a sum it cannot go into a convolution, so it
    is a layer of its own: a depthwise 1×1 convolution with gain and shift.
    """
    maps: list[Map] = []
    # The image's own normalisation is a matrix over its colours, which also puts blue, green, red in another order.
    colours = net.conv(image, 3, 1, relu=False, gain=None, name="bn_data")
    x = net.max_pool(net.conv(colours, 64, 7, 2, name="conv0"))
    for stage, (width, count) in enumerate(zip(WIDTHS, blocks, strict=True), start=1):
        for block in range(1, count + 1):
            name, stride = f"stage{stage}_unit{block}", 2 if stage > 1 and block == 1 else 1
            active = _scaled(net, x, f"{name}_bn1")
            inner = net.conv(active, width, 1, name=f"{name}_conv1")
            if stride > 1 and stage > 2:
                maps.append(inner)
            inner = net.conv(inner, width, 3, stride, name=f"{name}_conv2")
            change = net.conv(inner, 4 * width, 1, relu=False, gain=None, bias=False, name=f"{name}_conv3")
            if block == 1:
                x = net.conv(active, 4 * width, 1, stride, relu=False, gain=None, bias=False, name=f"{name}_sc")
            x = net.add(change, x)
    return [*maps, _scaled(net, x, "bn1")]


def _scaled(net: Layers, x: Map, name: str) -> Map:
    """Return a map with a gain and a shift of each channel, and a ReLU behind it."""
    channels = net.channels(x)
    return net.conv(x, channels, 1, groups=channels, name=name)
