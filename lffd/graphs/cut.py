"""Cut branches that a task does not need: their heads go, and with the deepest ones the layers that only they used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lffd.errors import ModelError, UsageError
from lffd.graphs.graph import parse_graph
from lffd.graphs.receptive_field import Network, Stage
from lffd.model import Model


def keep_branches(model: Model, kept: Sequence[int]) -> Model:
    """Return the model with some of its branches only; what they say stays the same.

    Args:
        model: any deployed model.
        kept: indices of the branches to keep, 0 the shallowest.

    Raises:
        UsageError: for no branch, an unknown one, or one named twice.
    """
    order = sorted(kept)
    count = len(model.network.branches)
    if not order or len(set(order)) != len(order) or not 0 <= order[0] <= order[-1] < count:
        raise UsageError(f"branches {list(kept)}: name one or more of 0 to {count - 1}, each once ({_ranges(model)})")
    if len(order) == count:
        return model
    outputs = [output for branch in order for output in (2 * branch, 2 * branch + 1)]
    symbol_json = keep_outputs(model.symbol_json, outputs)
    names = parse_graph(symbol_json).parameter_names
    params = {name: model.params[name] for name in names}
    return Model(cut_network(model.network, order), symbol_json, params, {"cut_from": model.network.name})


def _ranges(model: Model) -> str:
    """Return what each branch finds, for an error."""
    ranges = (branch.object_range for branch in model.network.branches)
    return ", ".join(f"{index}: {low:g}–{high:g} px" for index, (low, high) in enumerate(ranges))


def cut_network(network: Network, kept: Sequence[int]) -> Network:
    """Return the declaration with the branches `kept` (rising), ending at the deepest one's layer."""
    branches = tuple(network.branches[index] for index in kept)
    last = [layer.name for layer in network.backbone].index(branches[-1].layer)
    stages: list[Stage] = []
    position = len(network.stem)
    for stage in network.stages:
        if position > last:
            break
        pairs = min(stage.pairs, (last - position) // 2)
        stages.append(replace(stage, pairs=pairs))
        position += 1 + 2 * stage.pairs
    name = f"{network.name}_branches_{'_'.join(map(str, kept))}"
    return replace(network, name=name, stages=tuple(stages), branches=branches)


def keep_outputs(symbol_json: str, kept: Sequence[int]) -> str:
    """Return an MXNet symbol's JSON with some of its outputs, without the nodes that no kept one needs.

    Raises:
        ModelError: when it is not such JSON.
    """
    graph = parse_graph(symbol_json)
    needed = {graph.outputs[output] for output in kept}
    for position in range(len(graph.nodes) - 1, -1, -1):
        if position in needed:
            needed.update(graph.nodes[position].inputs)
    old = sorted(needed)
    new = {position: index for index, position in enumerate(old)}
    content: dict[str, Any] = json.loads(symbol_json)
    try:
        nodes = [content["nodes"][position] for position in old]
        for node in nodes:
            node["inputs"] = [[new[source], *rest] for source, *rest in node["inputs"]]
        starts = content.get("node_row_ptr", range(len(graph.nodes) + 1))
        sizes = [starts[position + 1] - starts[position] for position in old]
        heads = [content["heads"][output] for output in kept]
        content["heads"] = [[new[source], *rest] for source, *rest in heads]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelError(f"not the JSON of an MXNet symbol: {type(error).__name__}: {error}") from error
    content["nodes"] = nodes
    content["arg_nodes"] = [index for index, node in enumerate(nodes) if node["op"] == "null"]
    content["node_row_ptr"] = [sum(sizes[:index]) for index in range(len(sizes) + 1)]
    return json.dumps(content)
