"""Slim-320: a detector of 0.28 million parameters for images of 320×240, faces only."""

from __future__ import annotations

from functools import partial

from symbol_farm.slim import ultra_light
from symbol_farm.symbols import net_symbol

NETWORK = ultra_light("slim_320", receptive_block=False)

get_net_symbol = partial(net_symbol, NETWORK)
