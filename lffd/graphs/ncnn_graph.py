"""A model's graph in ncnn's own two files: the text that lists layers, and the binary that holds their parameters.

ncnn runs layer by layer, so what other runtimes fuse while loading is fused here: the ReLU that alone reads a
convolution becomes part of it. Every blob may be read once; one that is read more often passes a `Split` first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lffd.errors import ModelError
from lffd.graphs.model import Model
from lffd.graphs.operators import Node, normalisation_of, window

_MAGIC = 7767517
_FLOAT32 = np.zeros(1, "<u4").tobytes()
"""Tag before the weights of a convolution: stored as float32."""


class NcnnFiles(NamedTuple):
    """Attributes: param: the text file; weights: the binary file; outputs: blobs `score_0`, `box_0`, `score_1`, …."""

    param: str
    weights: bytes
    outputs: tuple[str, ...]


@dataclass
class _Writer:
    """Collects layers; `waiting` holds, per node of the graph, the blob names that are still to be read."""

    model: Model

    def __post_init__(self) -> None:
        self.graph = self.model.graph
        self.lines: list[str] = []
        self.blobs: set[str] = set()
        self.weights: list[bytes] = []
        self.waiting: dict[int, list[str]] = {}
        self.readers = Counter(source for node in self.graph.nodes for source in node.inputs)
        self.readers.update(self.graph.outputs)
        self.names = dict(zip(self.graph.outputs, self.model.network.output_names, strict=True))

    def layer(self, kind: str, name: str, inputs: list[str], outputs: list[str], values: str = "") -> None:
        """Append one layer; ncnn crashes on two blobs of one name, so they are refused."""
        if self.blobs & set(outputs):
            raise ModelError(f"node {name}: a blob of the name {', '.join(self.blobs & set(outputs))} is there already")
        counts = f"{len(inputs)} {len(outputs)}"
        self.lines.append(" ".join([f"{kind:<12} {name:<20}", counts, *inputs, *outputs, values]).rstrip())
        self.blobs.update(outputs)

    def provide(self, position: int, blob: str) -> None:
        """Register the blob that holds a node's result, split when it is read more than once."""
        count = self.readers[position]
        names = [blob] if count == 1 else [f"{blob}_part{part}" for part in range(count)]
        if count > 1:
            self.layer("Split", f"split_{blob}", [blob], names)
        self.waiting[position] = names

    def activated_by(self, position: int) -> int | None:
        """Return the position of the ReLU that alone reads a node, if there is one."""
        if self.readers[position] != 1 or not (users := self.graph.readers[position]):
            return None
        user = self.graph.nodes[users[0]]
        return users[0] if user.op == "Activation" and user.attrs["act_type"] == "relu" else None

    def convolution(self, node: Node, inputs: list[str], output: str, activated: bool) -> None:
        """Append a convolution, with its ReLU where `activated`."""
        values = [self.model.params[name] for name in self.graph.parameters_of(node).values()]
        (_, stride, pad), kernel, dilate = window(node), node.pair("kernel")[0], node.pair("dilate", 1)[0]
        filters, groups = node.integer("num_filter"), node.integer("num_group", 1)
        settings = {0: filters, 1: kernel, 3: stride, 4: pad, 5: len(values) - 1, 6: values[0].size}
        if dilate > 1:
            settings[2] = dilate
        if groups > 1:
            settings[7] = groups
        settings[9] = int(activated)
        kind = "ConvolutionDepthWise" if groups > 1 else "Convolution"
        self.layer(kind, node.name, inputs, [output], " ".join(f"{k}={v}" for k, v in settings.items()))
        self.weights += [_FLOAT32, *map(_float32, values)]

    def normalize(self, node: Node, inputs: list[str], output: str) -> None:
        """Append what shifts and scales each channel of the image."""
        offset, factor = (np.array(values) for values in normalisation_of(node))
        self.layer("Scale", node.name, inputs, [output], "0=3 1=1")
        self.weights += [_float32(values) for values in (1 / factor, -offset / factor)]

    def simple(self, node: Node, inputs: list[str], output: str) -> None:
        """Append a layer without parameters.

        Raises:
            ModelError: for an operator that deployed networks do not use.
        """
        if node.op not in _SIMPLE:
            raise ModelError(f"node {node.name}: operator {node.op} has no ncnn translation here")
        kind, values = _SIMPLE[node.op](node)
        self.layer(kind, node.name, inputs, [output], values)

    def write(self) -> NcnnFiles:
        """Append every layer and return the files."""
        fused: set[int] = set()
        for position, node in enumerate(self.graph.nodes):
            inputs = [self.waiting[source].pop(0) for source in node.inputs if self.waiting.get(source)]
            if position in fused:
                continue
            if node.op == "null":
                if node.name == "data":
                    self.layer("Input", "data", [], ["data"])
                    self.provide(position, "data")
                continue
            relu = self.activated_by(position) if node.op == "Convolution" else None
            result = position if relu is None else relu
            blob = self.names.get(result, self.graph.nodes[result].name)
            if node.op == "Convolution":
                self.convolution(node, inputs, blob, activated=relu is not None)
                fused.add(result)
            elif node.op == "_image_normalize":
                self.normalize(node, inputs, blob)
            else:
                self.simple(node, inputs, blob)
            self.provide(result, blob)
        outputs = tuple(self.waiting[position][0] for position in self.graph.outputs)
        text = "\n".join([str(_MAGIC), f"{len(self.lines)} {len(self.blobs)}", *self.lines]) + "\n"
        return NcnnFiles(text, b"".join(self.weights), outputs)


def _scalar(node: Node) -> tuple[str, str]:
    return "BinaryOp", f"0={1 if node.op == '_minus_scalar' else 3} 1=1 2={node.number('scalar')}"


def _pooling(node: Node) -> tuple[str, str]:
    kernel, stride, pad = window(node)
    return "Pooling", f"0=0 1={kernel} 2={stride} 3={pad} 5=1"


def _slice(node: Node) -> tuple[str, str]:
    return "Crop", f"-23309=1,{node.integer('begin')} -23310=1,{node.integer('end')} -23311=1,0"


_SIMPLE: dict[str, Callable[[Node], tuple[str, str]]] = {
    "_minus_scalar": _scalar,
    "_div_scalar": _scalar,
    "elemwise_add": lambda node: ("BinaryOp", "0=0"),
    "elemwise_sub": lambda node: ("BinaryOp", "0=1"),
    "Concat": lambda node: ("Concat", "0=0"),
    "Activation": lambda node: ({"relu": "ReLU", "sigmoid": "Sigmoid"}[node.attrs["act_type"]], ""),
    "LeakyReLU": lambda node: ("ReLU", f"0={node.number('slope', 0.25)}"),
    "Pooling": _pooling,
    "UpSampling": lambda node: ("Interp", "0=1 1=2.0 2=2.0"),
    "softmax": lambda node: ("Softmax", "0=0 1=1"),
    "slice_axis": _slice,
}
"""Operators without parameters: ncnn's layer and its settings."""


def _float32(values: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(values, "<f4").tobytes()


def ncnn_files(model: Model) -> NcnnFiles:
    """Return the model in ncnn's format.

    The input blob `data` is `(3, H, W)` float, BGR, 0–255 (what `ncnn::Mat::from_pixels` gives with `PIXEL_BGR`); the
    outputs are those of the graph, `(channels, h, w)` each.

    Raises:
        ModelError: for an operator that deployed networks do not use.
    """
    return _Writer(model).write()
