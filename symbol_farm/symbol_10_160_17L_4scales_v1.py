"""Heads of 10–160 px: 17 layers, 4 branches.

Face version 2 without its last stage, trained on smaller crops.
"""

from __future__ import annotations

from functools import partial

from lffd.graphs.branches import Branch
from symbol_farm.lffd_network import Stage, lffd_network
from symbol_farm.symbols import net_symbol

NETWORK = lffd_network(
    name="10_160_17L_4scales_v1",
    stem=(64,),
    stages=(
        Stage(64, pairs=3),
        Stage(64, pairs=1),
        Stage(64, pairs=1),
        Stage(128, pairs=1),
    ),
    branches=(
        Branch("conv8", (10, 20)),
        Branch("conv11", (20, 40)),
        Branch("conv14", (40, 80)),
        Branch("conv17", (80, 160)),
    ),
    head_channels=128,
    train_input=256,
)

get_net_symbol = partial(net_symbol, NETWORK)
