"""Any graph's outputs on the CPU, by whichever of MXNet and PyTorch is installed; for set-up work, not for speed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lffd.graphs.graph import Graph


def node_outputs(
    graph: Graph, names: Sequence[str], params: Mapping[str, NDArray[Any]], images: NDArray[np.uint8]
) -> list[NDArray[np.float32]]:
    """Return what the named nodes of a graph say of `images`.

    Args:
        graph: with the input `data`.
        names: of nodes.
        params: what the graph asks for, by name; more is allowed.
        images: `(B, H, W, 3)` uint8 BGR.

    Raises:
        EngineError: when neither library is installed.
    """
    positions = {node.name: position for position, node in enumerate(graph.nodes)}
    asked = graph.keep([positions[name] for name in names])
    data = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
    if importlib.util.find_spec("mxnet") is None and importlib.util.find_spec("torch") is not None:
        return _with_torch(asked, params, data)
    from lffd.engines.mxnet_engine import MXNetGraph

    return MXNetGraph(asked.to_json(), params).forward(data)


def _with_torch(
    graph: Graph, params: Mapping[str, NDArray[Any]], data: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    import torch

    from lffd.engines.torch_module import GraphModule

    tensors = {name: torch.tensor(np.asarray(params[name], np.float32)) for name in graph.parameter_names}
    with torch.inference_mode():
        return [output.numpy() for output in GraphModule(graph, tensors).eval()(torch.from_numpy(data))]
