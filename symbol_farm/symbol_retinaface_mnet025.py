"""RetinaFace on a quarter of MobileNet v1, in the form that PyTorch implementations have."""

from __future__ import annotations

from functools import partial

from lffd.graphs.layers import Layers
from symbol_farm.mobilenet import mobilenet_quarter
from symbol_farm.retinaface import MEAN, TWO_SIDES, retinaface
from symbol_farm.symbols import net_symbol

_net = Layers()
_features = mobilenet_quarter(_net, _net.image(center=MEAN, scale=1.0))
NETWORK = retinaface("retinaface_mnet025", _net, _features, 64, TWO_SIDES, train_input=640)

get_net_symbol = partial(net_symbol, NETWORK)
