"""Face version 1: faces of 10–560 px, 25 layers, 8 branches.

LFFD (arXiv 1904.10633), table 2 and section 3.2.
"""

from __future__ import annotations

from functools import partial

from lffd.graphs.branches import Branch
from symbol_farm.lffd_network import Stage, lffd_network
from symbol_farm.symbols import net_symbol

NETWORK = lffd_network(
    name="10_560_25L_8scales_v1",
    stem=(64,),
    stages=(
        Stage(64, pairs=4),
        Stage(64, pairs=2),
        Stage(128, pairs=1),
        Stage(128, pairs=3),
    ),
    branches=(
        Branch("conv8", (10, 15)),
        Branch("conv10", (15, 20)),
        Branch("conv13", (20, 40)),
        Branch("conv15", (40, 70)),
        Branch("conv18", (70, 110)),
        Branch("conv21", (110, 250)),
        Branch("conv23", (250, 400)),
        Branch("conv25", (400, 560)),
    ),
    head_channels=128,
    train_input=640,
)

get_net_symbol = partial(net_symbol, NETWORK)
