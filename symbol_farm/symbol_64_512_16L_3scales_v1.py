"""Licence plates of 64–512 px: 16 layers, 3 branches.

Three stem convolutions: the first branch sits at stride 16.
"""

from __future__ import annotations

from functools import partial

from lffd.graphs.branches import Branch
from symbol_farm.lffd_network import Stage, lffd_network
from symbol_farm.symbols import net_symbol

NETWORK = lffd_network(
    name="64_512_16L_3scales_v1",
    stem=(64, 64, 64),
    stages=(
        Stage(64, pairs=3),
        Stage(64, pairs=1),
        Stage(128, pairs=1),
    ),
    branches=(
        Branch("conv10", (64, 128)),
        Branch("conv13", (128, 256)),
        Branch("conv16", (256, 512)),
    ),
    head_channels=128,
    train_input=640,
)

get_net_symbol = partial(net_symbol, NETWORK)
