"""RetinaFace on ResNet-18 for images of 480×480: levels P2 to P6, six anchors per cell, one context module for all."""

from __future__ import annotations

from functools import partial

from lffd.graphs.branches import Branch, square_grid
from lffd.graphs.layers import Layers
from symbol_farm.resnet import resnet
from symbol_farm.retinaface import MEAN, shared_retinaface
from symbol_farm.symbols import net_symbol

SIDES = (8.0, 8.0 * 2 ** (1 / 3), 8.0 * 2 ** (2 / 3))
"""Of P2's anchors; each level doubles them: 8, 10.08, 12.67 become 128, 161.26, 203.19 at P6."""

TALL = 2**0.5
"""Half of the anchors are as wide as high, the others twice as high as wide at the same area."""

_LIMITS = ((6, 14), (14, 28), (28, 57), (57, 114), (114, 256))

BRANCHES = tuple(
    Branch(
        f"ClassHead_{level}_conv1x1",
        limits,
        tuple((side * 2**level / tall, side * 2**level * tall) for side in SIDES for tall in (1.0, TALL)),
        square_grid(2.0 * 2**level, 4 * 2**level),
    )
    for level, limits in enumerate(_LIMITS)
)

_net = Layers()
_features = resnet(_net, _net.image(center=MEAN, scale=1.0), (2, 2, 2, 2), bottleneck=False)
NETWORK = shared_retinaface("retinaface_r18", _net, _features, 64, BRANCHES, train_input=480)

get_net_symbol = partial(net_symbol, NETWORK)
