"""Light face version 3: faces of 10–320 px, 22 layers, 5 branches, a fifth of version 2's operations.

Version 2's idea, one branch per stride of 4 to 64, on a backbone that starts thin and widens with depth: most of
version 2's operations are spent at stride 4, where the map is largest.
"""

from __future__ import annotations

from functools import partial

from lffd.graphs.branches import Branch
from symbol_farm.lffd_network import Stage, lffd_network
from symbol_farm.symbols import net_symbol

NETWORK = lffd_network(
    name="10_320_light_v3",
    stem=(16,),
    stages=(
        Stage(24, pairs=2),
        Stage(48, pairs=2),
        Stage(64, pairs=2),
        Stage(96, pairs=1),
        Stage(96, pairs=1),
    ),
    branches=(
        Branch("conv6", (10, 20)),
        Branch("conv11", (20, 40)),
        Branch("conv16", (40, 80)),
        Branch("conv19", (80, 160)),
        Branch("conv22", (160, 320)),
    ),
    head_channels=48,
    train_input=320,
)

get_net_symbol = partial(net_symbol, NETWORK)
