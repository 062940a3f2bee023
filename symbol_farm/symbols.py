"""Any declared network as an MXNet symbol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lffd.engines.mxnet_engine import import_mxnet
from lffd.graphs.batch_norm import training_graph
from lffd.graphs.network import Network

if TYPE_CHECKING:
    import mxnet as mx


def net_symbol(network: Network, deploy_flag: bool = False, batch_norm: bool = False) -> mx.sym.Symbol:
    """Return the graph of `network` on the input `data` `(B, 3, H, W)`, BGR, 0–255, loaded from its own JSON.

    Args:
        network: the declaration.
        deploy_flag: the outputs are, per branch in order, the object's probability `(B, 1, h, w)` and the box code
            `(B, 4, h, w)`. Otherwise they are what losses attach to: raw scores, such as `(B, 2, h, w)` with the
            object in channel 0, and the box code.
        batch_norm: put batch normalisation where the network has it while training; never in a deployed graph.
    """
    graph = network.graph if deploy_flag else training_graph(network, batch_norm)
    return import_mxnet().sym.load_json(graph.to_json())
