"""Pedestrians of 30–320 px: 20 layers, 4 branches.

Two stem convolutions: the first branch sits at stride 8.
"""

from __future__ import annotations

from functools import partial

from lffd.graphs.branches import Branch
from symbol_farm.lffd_network import Stage, lffd_network
from symbol_farm.symbols import net_symbol

NETWORK = lffd_network(
    name="30_320_20L_4scales_v1",
    stem=(64, 64),
    stages=(
        Stage(64, pairs=4),
        Stage(128, pairs=1),
        Stage(128, pairs=1),
        Stage(128, pairs=1),
    ),
    branches=(
        Branch("conv11", (30, 60)),
        Branch("conv14", (60, 100)),
        Branch("conv17", (100, 180)),
        Branch("conv20", (180, 320)),
    ),
    head_channels=128,
    train_input=480,
)

get_net_symbol = partial(net_symbol, NETWORK)
