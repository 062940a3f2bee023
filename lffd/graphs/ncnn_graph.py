"""A model's graph in ncnn's own two files: the text that lists layers, and the binary that holds their parameters.

ncnn runs layer by layer, so what other runtimes fuse while loading is fused here: the ReLU that alone reads a
convolution becomes part of it. Every blob may be read once; one that is read more often passes a `Split` first.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lffd.errors import ModelError
from lffd.graphs.graph import Node
from lffd.graphs.onnx_graph import result_name
from lffd.model import Model

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
        if self.readers[position] != 1:
            return None
        users = [i for i, node in enumerate(self.graph.nodes) if position in node.inputs]
        return users[0] if users and self.graph.nodes[users[0]].op == "Activation" else None

    def convolution(self, node: Node, inputs: list[str], output: str, activated: bool) -> None:
        """Append a convolution, with its ReLU where `activated`."""
        weight, bias = (self.model.params[self.graph.nodes[i].name] for i in node.inputs[1:])
        if node.integer("num_group", 1) != 1 or node.integers("dilate", (1, 1)) != (1, 1):
            raise ModelError(f"node {node.name}: grouped and dilated convolutions have no ncnn translation here")
        settings = {
            0: weight.shape[0],
            1: weight.shape[3],
            11: weight.shape[2],
            3: node.integers("stride", (1, 1))[1],
            13: node.integers("stride", (1, 1))[0],
            4: node.integers("pad", (0, 0))[1],
            14: node.integers("pad", (0, 0))[0],
            5: 1,
            6: weight.size,
            9: int(activated),
        }
        self.layer("Convolution", node.name, inputs, [output], " ".join(f"{k}={v}" for k, v in settings.items()))
        self.weights += [_FLOAT32, _float32(weight), _float32(bias)]

    def simple(self, node: Node, inputs: list[str], output: str) -> None:
        """Append a layer without parameters.

        Raises:
            ModelError: for an operator that deployed networks do not use.
        """
        if node.op in ("_minus_scalar", "_div_scalar"):
            kind, values = "BinaryOp", f"0={1 if node.op == '_minus_scalar' else 3} 1=1 2={node.number('scalar')}"
        elif node.op == "elemwise_add":
            kind, values = "BinaryOp", "0=0"
        elif node.op == "Activation" and node.attrs.get("act_type") == "relu":
            kind, values = "ReLU", ""
        elif node.op == "softmax" and node.integer("axis", -1) == 1:
            kind, values = "Softmax", "0=0 1=1"
        elif node.op == "slice_axis" and node.integer("axis") == 1:
            kind = "Crop"
            values = f"-23309=1,{node.integer('begin')} -23310=1,{node.integer('end')} -23311=1,0"
        else:
            raise ModelError(f"node {node.name}: operator {node.op} has no ncnn translation here")
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
            blob = result_name(self.graph, result)
            if node.op == "Convolution":
                self.convolution(node, inputs, blob, activated=relu is not None)
                fused.add(result)
            else:
                self.simple(node, inputs, blob)
            self.provide(result, blob)
        outputs = tuple(self.waiting[position][0] for position in self.graph.outputs)
        text = "\n".join([str(_MAGIC), f"{len(self.lines)} {len(self.blobs)}", *self.lines]) + "\n"
        return NcnnFiles(text, b"".join(self.weights), outputs)


def _float32(values: NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(values, "<f4").tobytes()


def ncnn_files(model: Model) -> NcnnFiles:
    """Return the model in ncnn's format.

    The input blob `data` is `(3, H, W)` float, BGR, 0–255 (what `ncnn::Mat::from_pixels` gives with `PIXEL_BGR`); the
    outputs are score `(1, h, w)` and box code `(4, h, w)` of each branch.

    Raises:
        ModelError: for an operator that deployed networks do not use.
    """
    return _Writer(model).write()
