"""Licence plates of 64–512 px: 16 layers, 3 branches.

Three stem convolutions: the first branch sits at stride 16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lffd.graphs.receptive_field import Branch, Network, Stage
from symbol_farm.network import build_symbol

if TYPE_CHECKING:
    import mxnet as mx

NETWORK = Network(
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


def get_net_symbol(deploy_flag: bool = False, batch_norm: bool = False) -> mx.sym.Symbol:
    """Return the network as an `mx.sym.Group`; see `symbol_farm.network.build_symbol` for its outputs."""
    return build_symbol(NETWORK, deploy=deploy_flag, batch_norm=batch_norm)
