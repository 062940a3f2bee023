"""Nano: faces of 9–400 px below YuNet-n's cost, three branches at strides 8, 16 and 32.

Separable layers at stride 8, LFFD's dense pairs at 16 and 32, a top-down path of 64 channels.
"""

from __future__ import annotations

from functools import partial

from symbol_farm.light_network import Level, light_network
from symbol_farm.symbols import net_symbol

NETWORK = light_network(
    "9_400_nano",
    start=(16, 32, 64),
    levels=(
        Level(64, blocks=3, object_range=(9, 45), dense=False),
        Level(64, blocks=2, object_range=(45, 180)),
        Level(96, blocks=1, object_range=(180, 400)),
    ),
    width=64,
    train_input=320,
)

get_net_symbol = partial(net_symbol, NETWORK)
