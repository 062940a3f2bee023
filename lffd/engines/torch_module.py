"""An MXNet symbol's graph as a `torch.nn.Module`, with parameters by the same names.

This module and the other `torch_…` ones import PyTorch (2.4 or newer); nothing else of the project does, and they are
imported only when a PyTorch engine is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lffd.errors import ModelError
from lffd.graphs.graph import Graph
from lffd.graphs.network import raw_output
from lffd.graphs.operators import Node, normalisation_of, window


class BatchStatistics(NamedTuple):
    """What one batch normalisation saw: mean and biased variance of each channel, `(channels,)` each, float32."""

    mean: Tensor
    variance: Tensor


class GraphModule(torch.nn.Module):
    """Runs a graph on `data` `(B, 3, H, W)`, BGR, 0–255; the graph itself maps pixels to −1–1.

    Parameters and buffers (the running statistics) carry the symbol's names. In training mode batch normalisation uses
    the batch's own statistics and changes no buffer: `run` hands the statistics over, and who trains moves the
    averages. That keeps the module free of side effects, as compilation and several devices want it.

    Attributes:
        graph: what is executed.
    """

    def __init__(self, graph: Graph, parameters: Mapping[str, Tensor]) -> None:
        """Take the parameters, running statistics included; the tensors are used as they are, not copied.

        Raises:
            ModelError: for an operator or attribute that is not known here, or a parameter that is missing.
        """
        super().__init__()
        self.graph = graph
        self._steps = {position: _step(node) for position, node in enumerate(graph.nodes) if node.op != "null"}
        self._last_use = _last_uses(graph)
        if missing := [name for name in graph.parameter_names if name not in parameters]:
            raise ModelError(f"parameters do not fit the graph: missing {', '.join(missing)}")
        states = set(graph.state_names)
        for name in graph.parameter_names:
            if name in states:
                self.register_buffer(name, parameters[name])
            else:
                self.register_parameter(name, torch.nn.Parameter(parameters[name]))

    def forward(self, data: Tensor) -> tuple[Tensor, ...]:
        """Return the graph's outputs in order."""
        return self.run(data)[0]

    def run(self, data: Tensor) -> tuple[tuple[Tensor, ...], tuple[BatchStatistics, ...]]:
        """Return the outputs, and in training mode the batch statistics in the order of `graph.state_names` pairs."""
        values: list[Any] = []
        statistics: list[BatchStatistics] = []
        for position, node in enumerate(self.graph.nodes):
            if node.op == "null":
                values.append(data if node.name == "data" else getattr(self, node.name))
                continue
            inputs = [values[source] for source in node.inputs]
            if node.op == "BatchNorm" and self.training:
                value, seen = _normalise_batch(node, *inputs[:3])
                statistics.append(seen)
            else:
                value = self._steps[position](*inputs)
            values.append(value)
            for source in self._last_use.get(position, ()):
                values[source] = None  # without gradients this frees the map at once
        return tuple(values[output] for output in self.graph.outputs), tuple(statistics)


def last_convolutions(graph: Graph) -> list[Node]:
    """Return the convolutions whose results leave the graph, directly or as probabilities."""
    nodes = [graph.nodes[raw_output(graph, output)] for output in graph.outputs]
    return [node for node in nodes if node.op == "Convolution"]


def _last_uses(graph: Graph) -> dict[int, list[int]]:
    """Return position to the positions whose values nobody reads after it; outputs are read for ever."""
    last = {source: position for position, node in enumerate(graph.nodes) for source in node.inputs}
    found: dict[int, list[int]] = {}
    for source, position in last.items():
        if source not in graph.outputs:
            found.setdefault(position, []).append(source)
    return found


def _normalise_batch(node: Node, data: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, BatchStatistics]:
    """Return `data` normalised by its own statistics, and these.

    MXNet keeps the biased variance, PyTorch's own running average the unbiased one; the biased is recovered from the
    reciprocal that the operator returns.
    """
    epsilon = node.number("eps")
    output, mean, inverse = torch.native_batch_norm(data, gamma, beta, None, None, True, 0.0, epsilon)
    variance = inverse.detach().float() ** -2 - epsilon
    return output, BatchStatistics(mean.detach().float(), variance.clamp_min(0))


def _step(node: Node) -> Callable[..., Tensor]:
    """Return the function of a node's inputs that computes it.

    Raises:
        ModelError: for an operator that is not known here, or one with an attribute that is not.
    """
    maker = _MAKERS.get(node.op)
    if maker is None:
        raise ModelError(f"node {node.name}: operator {node.op} is not one of {', '.join(_MAKERS)}")
    return maker(node)


def _convolution(node: Node) -> Callable[..., Tensor]:
    stride, pad, dilate = (node.integers(key, default) for key, default in _CONVOLUTION_DEFAULTS.items())
    reach = dilate[1] * (node.integers("kernel")[1] - 1) - 2 * pad[1]
    groups = node.integer("num_group", 1)

    def convolve(data: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        one_column = stride[1] > 1 and data.shape[3] - reach <= stride[1]
        if one_column and data.device.type == "cpu":
            # oneDNN 3.x reads memory that nobody wrote when a strided bf16 convolution has one output column.
            data = functional.pad(data, (0, stride[1]))
        if data.dtype != weight.dtype and not torch.is_autocast_enabled(data.device.type):
            data = data.to(weight.dtype)
        output = functional.conv2d(data, weight, bias, stride, pad, dilate, groups)
        return output[..., :1] if one_column else output

    return convolve


_CONVOLUTION_DEFAULTS = {"stride": (1, 1), "pad": (0, 0), "dilate": (1, 1)}


def _batch_norm(node: Node) -> Callable[..., Tensor]:
    """Return normalisation by the running statistics."""
    epsilon = node.number("eps")
    if node.attrs.get("fix_gamma", "True") != "False":
        raise ModelError(f"node {node.name}: BatchNorm with fix_gamma is not supported; set fix_gamma=False")

    def normalise(data: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return functional.batch_norm(data, mean, variance, gamma, beta, False, 0.0, epsilon)

    return normalise


def _slice(node: Node) -> Callable[..., Tensor]:
    axis, begin, end = node.integer("axis"), node.integer("begin"), node.integer("end")
    return lambda data: data.narrow(axis, begin, end - begin)


def _activation(node: Node) -> Callable[..., Tensor]:
    return functional.relu if node.attrs["act_type"] == "relu" else lambda data: torch.sigmoid(data.float())


def _normalize(node: Node) -> Callable[..., Tensor]:
    offset, factor = (torch.tensor(values).reshape(1, 3, 1, 1) for values in normalisation_of(node))
    return lambda data: (data - offset.to(data)) / factor.to(data)


def _pool(node: Node) -> Callable[..., Tensor]:
    kernel, stride, pad = window(node)
    return partial(functional.max_pool2d, kernel_size=kernel, stride=stride, padding=pad)


_MAKERS: dict[str, Callable[[Node], Callable[..., Tensor]]] = {
    "_minus_scalar": lambda node: partial(torch.sub, other=node.number("scalar")),
    "_div_scalar": lambda node: partial(torch.div, other=node.number("scalar")),
    "Convolution": _convolution,
    "BatchNorm": _batch_norm,
    "Activation": _activation,
    "LeakyReLU": lambda node: partial(functional.leaky_relu, negative_slope=node.number("slope", 0.25)),
    "Pooling": _pool,
    "UpSampling": lambda node: partial(functional.interpolate, scale_factor=2, mode="nearest"),
    "_image_normalize": _normalize,
    "elemwise_add": lambda node: torch.add,
    "elemwise_sub": lambda node: torch.sub,
    "Concat": lambda node: lambda *maps: torch.cat(maps, dim=1),
    "softmax": lambda node: partial(functional.softmax, dim=node.integer("axis", -1), dtype=torch.float32),
    "slice_axis": _slice,
}
"""How each operator is computed; the same operators as in `lffd.graphs.graph`."""
