"""Parameters and operations of an ONNX detector of another project, counted from its file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from accuracy_evaluation.peer_kinds import peer_kind
from lffd.errors import ModelError
from lffd.onnx_graph import import_onnx

if TYPE_CHECKING:
    import onnx


def peer_size(kind: str, path: Path, width: int, height: int) -> tuple[int, float]:
    """Count what an ONNX detector holds and computes.

    Args:
        kind: a name from `peer_kinds.KINDS`.
        path: the ONNX file.
        width: of the image in pixels; the network's input is what its kind makes of it.
        height: likewise.

    Returns:
        Numbers in its weights, and billions of multiply–adds in its convolutions for one image.

    Raises:
        ModelError: for a file that is no ONNX model, or whose shapes cannot be told.
        EngineError: when the package onnx is missing.
    """
    tools = import_onnx()
    from google.protobuf.message import DecodeError  # comes with onnx

    known = peer_kind(kind)
    padded = (-(-width // known.multiple) * known.multiple, -(-height // known.multiple) * known.multiple)
    columns, rows = known.input_size or padded
    try:
        model = tools.load(str(path))
        weights = {item.name: tuple(item.dims) for item in model.graph.initializer}
        entry = next(item for item in model.graph.input if item.name not in weights)
        _set_shape(entry, (1, 3, rows, columns))
        del model.graph.value_info[:], model.graph.output[:]  # shapes of another input size may stand there
        shapes = _shapes(tools.shape_inference.infer_shapes(model))
        operations = sum(_multiply_adds(node, weights, shapes) for node in model.graph.node if node.op_type == "Conv")
    except (OSError, DecodeError, StopIteration, KeyError, ValueError, tools.shape_inference.InferenceError) as error:
        raise ModelError(f"{path}: its size cannot be counted ({type(error).__name__}: {error})") from error
    counted = {name for node in model.graph.node if node.op_type != "Reshape" for name in node.input}
    return sum(math.prod(shape) for name, shape in weights.items() if name in counted), operations / 1e9


def _set_shape(entry: onnx.ValueInfoProto, shape: tuple[int, ...]) -> None:
    """Give an input a fixed shape."""
    dimensions = entry.type.tensor_type.shape
    del dimensions.dim[:]
    for value in shape:
        dimensions.dim.add().dim_value = value


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the shapes of tensors by name; a size that is not known is 0."""
    return {
        item.name: tuple(int(dim.dim_value) for dim in item.type.tensor_type.shape.dim)
        for item in model.graph.value_info
    }


def _multiply_adds(
    node: onnx.NodeProto, weights: dict[str, tuple[int, ...]], shapes: dict[str, tuple[int, ...]]
) -> int:
    """Return the multiply–adds of a convolution: the kernel's numbers at each position of its output."""
    positions = math.prod(shapes[node.output[0]][2:])
    if not positions:
        raise ValueError(f"the output size of {node.name or node.output[0]} is not known")
    return math.prod(weights[node.input[1]]) * positions
