"""RetinaFace on ResNet-50, in the form that PyTorch implementations have."""

from __future__ import annotations

from functools import partial

from lffd.graphs.layers import Layers
from symbol_farm.resnet import resnet
from symbol_farm.retinaface import MEAN, TWO_SIDES, retinaface
from symbol_farm.symbols import net_symbol

_net = Layers()
_features = resnet(_net, _net.image(center=MEAN, scale=1.0), (3, 4, 6, 3), bottleneck=True)
NETWORK = retinaface("retinaface_r50", _net, _features[1:], 256, TWO_SIDES, train_input=640)

get_net_symbol = partial(net_symbol, NETWORK)
