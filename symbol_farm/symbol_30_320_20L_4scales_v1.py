"""Pedestrians of 30–320 px: 20 layers, 4 branches.

Two stem convolutions: the first branch sits at stride 8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lffd.graphs.receptive_field import Branch, Network, Stage
from symbol_farm.network import build_symbol

if TYPE_CHECKING:
    import mxnet as mx

NETWORK = Network(
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


def get_net_symbol(deploy_flag: bool = False, batch_norm: bool = False) -> mx.sym.Symbol:
    """Return the network as an `mx.sym.Group`; see `symbol_farm.network.build_symbol` for its outputs."""
    return build_symbol(NETWORK, deploy=deploy_flag, batch_norm=batch_norm)
