"""Face version 2: faces of 10–320 px, 20 layers, 5 branches.

One branch per stride, 4 to 64; it gives up faces above 320 px for speed.
"""

from __future__ import annotations

from functools import partial

from lffd.graphs.branches import Branch
from symbol_farm.lffd_network import Stage, lffd_network
from symbol_farm.symbols import net_symbol

NETWORK = lffd_network(
    name="10_320_20L_5scales_v2",
    stem=(64,),
    stages=(
        Stage(64, pairs=3),
        Stage(64, pairs=1),
        Stage(64, pairs=1),
        Stage(128, pairs=1),
        Stage(128, pairs=1),
    ),
    branches=(
        Branch("conv8", (10, 20)),
        Branch("conv11", (20, 40)),
        Branch("conv14", (40, 80)),
        Branch("conv17", (80, 160)),
        Branch("conv20", (160, 320)),
    ),
    head_channels=128,
    train_input=640,
)

get_net_symbol = partial(net_symbol, NETWORK)
