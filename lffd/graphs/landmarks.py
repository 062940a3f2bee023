"""Five points for any network: one more output, beside the boxes that it finds."""

from __future__ import annotations

from dataclasses import replace

from lffd.graphs.branches import CHANNELS
from lffd.graphs.graph import Graph, parameter_node
from lffd.graphs.network import Network, raw_output
from lffd.graphs.operators import OPERATORS, Node

LANDMARKS = "landmarks"


def with_landmarks(network: Network) -> Network:
    """Return the network with an output `landmarks` on every branch; one that has it already stays as it is.

    A 1×1 convolution reads what the one of the boxes reads. Everything else, names, order and first random weights
    included, stays the same, so that a model without points is a start for one with them.
    """
    if LANDMARKS in network.outputs:
        return network
    nodes, outputs = list(network.graph.nodes), []
    for said, count in zip(network.by_branch(network.graph.outputs), network.predictions, strict=True):
        box = nodes[raw_output(network.graph, said["box"])]
        name = f"{box.name.rpartition('_')[0]}_{LANDMARKS}"
        attrs = {**box.attrs, "num_filter": str(CHANNELS[LANDMARKS] * count)}
        first = len(nodes)
        roles = OPERATORS[box.op].parameters
        nodes += [parameter_node(name, role, attrs) for role in roles]
        nodes.append(Node(name, box.op, attrs, (box.inputs[0], *range(first, first + len(roles)))))
        outputs += [*said.values(), len(nodes) - 1]
    graph = Graph(tuple(nodes), tuple(outputs))
    return replace(network, graph=graph, outputs=(*network.outputs, LANDMARKS))
