"""The convolutions of an ONNX file, with normalisation folded in, and what the file does to its image first.

Exporters rename and fold layers, so a file is read by what it computes: each convolution's sizes, and which others it
reads through which activations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lffd.errors import ModelError
from lffd.graphs.network import Network
from lffd.graphs.operators import Node
from lffd.hints import require

if TYPE_CHECKING:
    import onnx

Array = NDArray[np.float64]

Signature = tuple[Any, ...]
"""Shape of the weight, stride, padding, groups, dilation."""


class Reads(NamedTuple):
    """What a convolution reads: positions of others among the convolutions (−1 for the image), and activations."""

    layers: frozenset[int]
    activations: frozenset[str]


@dataclass(frozen=True)
class ReadLayer:
    """One convolution: weight `(O, I, k, k)`, bias `(O,)`."""

    signature: Signature
    weight: Array
    bias: Array
    reads: Reads


class InputScale(NamedTuple):
    """`image × factor + offset`, one number for each channel in the file's order of colours, `(3,)` each."""

    factor: Array
    offset: Array


class OnnxFile:
    """An ONNX file's graph, as far as it has to be known here.

    Raises:
        ModelError: for a file that is no ONNX model, or keeps its numbers elsewhere.
        EngineError: when the package onnx is missing.
    """

    def __init__(self, path: Path) -> None:
        tools = require("onnx", "onnx")
        from google.protobuf.message import DecodeError  # comes with onnx

        self.path = path
        try:
            graph = tools.load(str(path), load_external_data=False).graph
        except (OSError, DecodeError, ValueError) as error:
            raise ModelError(f"{path}: not a readable ONNX file ({type(error).__name__}: {error})") from error
        self._nodes: list[onnx.NodeProto] = list(graph.node)
        self._maker = {output: node for node in self._nodes for output in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self._nodes:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        stored = [*graph.initializer]
        if any(tensor.external_data for tensor in stored):
            raise ModelError(f"{path}: keeps its weights in other files; save it as one file")
        self._tensors = {tensor.name: tensor for tensor in stored}
        self._tensors |= {
            n.output[0]: a.t for n in self._nodes if n.op_type == "Constant" for a in n.attribute if a.HasField("t")
        }
        self._to_array = tools.numpy_helper.to_array
        inputs = [entry.name for entry in graph.input if entry.name not in self._tensors]
        if len(inputs) != 1:
            raise ModelError(f"{path}: has {len(inputs)} inputs instead of one image")
        self._image = inputs[0]

    def input_scale(self) -> InputScale | None:
        """Return what the file does to its image before the first convolution; None for nothing."""
        factor, offset, touched, name = np.ones(3), np.zeros(3), False, self._image
        while len(readers := self._readers.get(name, [])) == 1:
            node = readers[0]
            if node.op_type == "BatchNormalization":
                gain, shift = self._gain(node)
                factor, offset = factor * gain, offset * gain + shift
            elif node.op_type in ("Sub", "Add", "Mul", "Div"):
                others = [self._constant(entry) for entry in node.input if entry != name]
                if len(others) != 1 or others[0].size not in (1, 3):
                    break
                value = np.broadcast_to(others[0].reshape(-1), 3)
                if node.op_type in ("Sub", "Add"):
                    offset = offset + (value if node.op_type == "Add" else -value)
                else:
                    value = value if node.op_type == "Mul" else 1 / value
                    factor, offset = factor * value, offset * value
            elif node.op_type not in ("Cast", "Identity"):
                break
            touched |= node.op_type not in ("Cast", "Identity")
            name = node.output[0]
        return InputScale(factor, offset) if touched else None

    def layers(self) -> list[ReadLayer]:
        """Return every convolution, in the file's order."""
        nodes = [node for node in self._nodes if node.op_type == "Conv"]
        places = {node.output[0]: number for number, node in enumerate(nodes)}
        return [self._layer(node, places) for node in nodes]

    def _layer(self, node: onnx.NodeProto, places: dict[str, int]) -> ReadLayer:
        weight = self._constant(node.input[1])
        if weight.ndim != 4:
            raise ModelError(f"{self.path}: the weight of {node.output[0]} has shape {weight.shape}")
        bias = self._constant(node.input[2]) if len(node.input) > 2 else np.zeros(len(weight))
        after = self._readers.get(node.output[0], [])
        if len(after) == 1 and after[0].op_type == "BatchNormalization":
            gain, shift = self._gain(after[0])
            weight, bias = weight * gain[:, None, None, None], bias * gain + shift
        found = {entry.name: (list(entry.ints) or [entry.i]) for entry in node.attribute if entry.name != "auto_pad"}
        pads = found.get("pads", [0])
        sides = (found.get("strides", [1])[0], pads[0] if len(set(pads)) == 1 else -1)
        signature = (weight.shape, *sides, found.get("group", [1])[0], found.get("dilations", [1])[0])
        return ReadLayer(signature, weight, bias, self._reads(node.input[0], places))

    def _reads(self, name: str, places: dict[str, int]) -> Reads:
        """Walk back from a map to the convolutions that it is made of."""
        layers, activations, waiting, seen = set(), set(), [name], set()
        while waiting:
            name = waiting.pop()
            node = self._maker.get(name)
            if name in places or name == self._image:
                layers.add(places.get(name, -1))
            elif node is not None and name not in seen:
                seen.add(name)
                if node.op_type == "LeakyRelu":
                    slope = next((entry.f for entry in node.attribute if entry.name == "alpha"), 0.01)
                    activations.add(f"leaky {slope:.4g}")
                elif node.op_type in ("Relu", "PRelu", "Clip", "HardSwish", "Sigmoid"):
                    activations.add(node.op_type.lower())
                # Sizes of enlarged maps are computed from other maps; only what comes in first is enlarged.
                waiting += (
                    node.input[:1] if node.op_type in ("Resize", "Upsample", "BatchNormalization") else node.input
                )
        return Reads(frozenset(layers), frozenset(activations))

    def _gain(self, node: onnx.NodeProto) -> tuple[Array, Array]:
        """Return the gain and shift of each channel that a normalisation by stored statistics amounts to."""
        gamma, beta, mean, variance = (self._constant(name) for name in node.input[1:5])
        epsilon = next((entry.f for entry in node.attribute if entry.name == "epsilon"), 1e-5)
        gain = gamma / np.sqrt(variance + epsilon)
        return gain, beta - mean * gain

    def _constant(self, name: str) -> Array:
        if name not in self._tensors:
            raise ModelError(f"{self.path}: {name} is computed, and not a stored number")
        values: Array = np.asarray(self._to_array(self._tensors[name]), np.float64)
        return values


def network_layers(network: Network) -> Iterator[tuple[Node, Signature, Reads]]:
    """Yield every convolution of one of our networks with the same facts, in the order of its declaration."""
    graph = network.graph
    places = [i for i, node in enumerate(graph.nodes) if node.op == "Convolution"]
    order = {position: number for number, position in enumerate(places)}
    for position in places:
        node = graph.nodes[position]
        shape = graph.parameter_shapes[graph.parameters_of(node)["weight"]]
        sides = (node.pair("stride", 1)[0], node.pair("pad", 0)[0])
        signature = (shape, *sides, node.integer("num_group", 1), node.pair("dilate", 1)[0])
        layers, activations, waiting = set(), set(), [node.inputs[0]]
        while waiting:
            source = waiting.pop()
            before = graph.nodes[source]
            if source in order:
                layers.add(order[source])
            elif before.name == "data":
                layers.add(-1)
            else:
                if before.op == "LeakyReLU":
                    activations.add(f"leaky {before.number('slope', 0.25):.4g}")
                elif before.op == "Activation":
                    activations.add(before.attrs["act_type"])
                waiting += graph.map_inputs(before)
        yield node, signature, Reads(frozenset(layers), frozenset(activations))


def match_layers(network: Network, layers: Sequence[ReadLayer], path: Path) -> dict[str, ReadLayer]:
    """Return the file's layer for each of a network's convolutions, by name.

    Of layers of the same sizes the first one is the first one there; then each must read what its fellow reads.

    Raises:
        ModelError: when the file is of another structure.
    """
    ours = list(network_layers(network))
    waiting: dict[Signature, list[int]] = {}
    for number, layer in enumerate(layers):
        waiting.setdefault(layer.signature, []).append(number)
    fellow: list[int] = []
    for node, signature, _ in ours:
        if not waiting.get(signature):
            raise ModelError(
                f"{path}: not of the structure of {network.name}: it has no {'further ' if fellow else ''}convolution "
                f"of weight {signature[0]}, stride {signature[1]} and padding {signature[2]} for {node.name}"
            )
        fellow.append(waiting[signature].pop(0))
    if left := sum(map(len, waiting.values())):
        raise ModelError(f"{path}: not of the structure of {network.name}: {left} of its convolutions are too many")
    for (node, _, reads), number in zip(ours, fellow, strict=True):
        expected = Reads(frozenset(fellow[i] if i >= 0 else -1 for i in reads.layers), reads.activations)
        if layers[number].reads != expected:
            raise ModelError(f"{path}: not of the structure of {network.name}: {node.name} reads other layers there")
    return {node.name: layers[number] for (node, _, _), number in zip(ours, fellow, strict=True)}
