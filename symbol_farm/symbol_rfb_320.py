"""RFB-320: slim-320 with a receptive field block on its finest level."""

from __future__ import annotations

from functools import partial

from symbol_farm.slim import ultra_light
from symbol_farm.symbols import net_symbol

NETWORK = ultra_light("rfb_320", receptive_block=True)

get_net_symbol = partial(net_symbol, NETWORK)
