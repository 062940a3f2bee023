"""Parameters and operations of an ONNX detector of another project, counted from its file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from detection.peers.kinds import PeerKind, peer_kind
from lffd.errors import ModelError
from lffd.hints import require

if TYPE_CHECKING:
    import onnx


WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "PRelu"})
"""Operators whose constant inputs are learnt."""


def peer_size(kind: str, path: Path, width: int, height: int) -> tuple[int, float]:
    """Return how many numbers an ONNX detector's weights are, and its billions of multiply–adds for one image.

    The image is `width` × `height` pixels; the network's input is what its kind, or the file, makes of it.

    Raises:
        ModelError: for a file that is no ONNX model, or whose shapes cannot be told.
        EngineError: when the package onnx is missing.
    """
    tools = require("onnx", "")
    from google.protobuf.message import DecodeError  # comes with onnx

    try:
        model = tools.load(str(path))
        tools.checker.check_model(model)
        weights = {item.name: tuple(item.dims) for item in model.graph.initializer}
        entry = next(item for item in model.graph.input if item.name not in weights)
        _fix_input(entry, peer_kind(kind), width, height)
        del model.graph.value_info[:], model.graph.output[:]  # shapes of another input size may stand there
        inferred = tools.shape_inference.infer_shapes(model).graph.value_info  # a size that is not known is 0
        shapes = {item.name: tuple(dim.dim_value for dim in item.type.tensor_type.shape.dim) for item in inferred}
        operations = sum(_multiply_adds(node, weights, shapes) for node in model.graph.node if node.op_type == "Conv")
    except (
        *(OSError, DecodeError, StopIteration, ValueError),
        *(tools.checker.ValidationError, tools.shape_inference.InferenceError),
    ) as error:
        raise ModelError(f"{path}: its size cannot be counted ({type(error).__name__}: {error})") from error
    learnt = {name for node in model.graph.node if node.op_type in WEIGHTED for name in node.input}
    return sum(math.prod(shape) for name, shape in weights.items() if name in learnt), operations / 1e9


def _fix_input(entry: onnx.ValueInfoProto, kind: PeerKind, width: int, height: int) -> None:
    """Give the network's input the shape that it has for an image; a size that the file prescribes stays."""
    dimensions = entry.type.tensor_type.shape.dim
    if len(dimensions) != 4:
        raise ValueError(f"its input has {len(dimensions)} axes, not 4")
    columns, rows = kind.input_size or kind.padded(width, height)
    shape = (1, 3, dimensions[2].dim_value or rows, dimensions[3].dim_value or columns)
    for dimension, value in zip(dimensions, shape, strict=True):
        dimension.dim_value = value


def _multiply_adds(
    node: onnx.NodeProto, weights: dict[str, tuple[int, ...]], shapes: dict[str, tuple[int, ...]]
) -> int:
    """Return the multiply–adds of a convolution: the kernel's numbers at each position of its output."""
    positions = math.prod(shapes.get(node.output[0], (0, 0, 0))[2:])
    if not positions or node.input[1] not in weights:
        raise ValueError(f"weights or output size of the convolution {node.name or node.output[0]} are not known")
    return math.prod(weights[node.input[1]]) * positions
