"""Licence plates of 64–512 px, small: 16 layers, 3 branches, about half the weights.

As `64_512_16L_3scales_v1`, with a thinner stem, thinner heads, and pairs whose first convolution has half the width.
"""

from __future__ import annotations

from functools import partial

from lffd.graphs.branches import Branch
from symbol_farm.lffd_network import Stage, lffd_network
from symbol_farm.symbols import net_symbol

NETWORK = lffd_network(
    name="64_512_16L_3scales_v1_small",
    stem=(32, 32, 32),
    stages=(
        Stage(64, pairs=3, inner_channels=32),
        Stage(64, pairs=1, inner_channels=32),
        Stage(128, pairs=1, inner_channels=64),
    ),
    branches=(
        Branch("conv10", (64, 128)),
        Branch("conv13", (128, 256)),
        Branch("conv16", (256, 512)),
    ),
    head_channels=64,
    train_input=640,
)

get_net_symbol = partial(net_symbol, NETWORK)
