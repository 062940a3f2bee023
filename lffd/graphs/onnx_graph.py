"""A model's graph as ONNX, built node by node; needs the `onnx` package.

Deployed networks have seven kinds of operators, and each becomes one ONNX node. Operator set and file version are
pinned below what current runtimes ask for, so that older ones read the file too. Batch, height and width stay open.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from lffd.errors import ModelError, UsageError
from lffd.graphs.graph import Graph, Node
from lffd.hints import require
from lffd.model import Model

if TYPE_CHECKING:
    import onnx

OPERATOR_SET = 17
FILE_VERSION = 8

InputForm = Literal["nchw-float", "nhwc-uint8"]
"""`nchw-float`: float32 `(B, 3, H, W)`, BGR; `nhwc-uint8`: uint8 `(B, H, W, 3)`, BGR, as cameras and files give it."""

INPUT_SHAPES: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "nchw-float": ("FLOAT", ("batch", 3, "height", "width")),
    "nhwc-uint8": ("UINT8", ("batch", "height", "width", 3)),
}
"""Element type and shape of the input `data`, by form; strings are open dimensions."""

NORMALISING = ("_minus_scalar", "_div_scalar")
"""Operators that map pixels to -1–1 at the start of the graph."""


class OnnxBuilder:
    """Collects nodes and constants, and closes them into a checked ONNX model."""

    def __init__(self) -> None:
        self._onnx = require("onnx", "onnx")
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        """Store an array under `name` and return the name; a name that is there already keeps its array."""
        if name not in self._constants:
            self._constants[name] = self._onnx.numpy_helper.from_array(np.asarray(value), name)
        return name

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Append a node with one output, and return the output's name."""
        self._nodes.append(self._onnx.helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def finish(
        self,
        name: str,
        inputs: Mapping[str, tuple[str, Sequence[str | int]]],
        outputs: Mapping[str, tuple[str, Sequence[str | int]]],
        metadata: Mapping[str, str],
    ) -> onnx.ModelProto:
        """Return the whole as a model that passed ONNX's checker, shape inference included.

        Args:
            name: of the graph.
            inputs: name to element type (`FLOAT`, `UINT8`, `INT64`) and shape.
            outputs: as `inputs`.
            metadata: facts that travel in the file.
        """
        helper = self._onnx.helper
        described = [
            [
                helper.make_tensor_value_info(key, getattr(self._onnx.TensorProto, kind), list(shape))
                for key, (kind, shape) in group.items()
            ]
            for group in (inputs, outputs)
        ]
        graph = helper.make_graph(self._nodes, name, *described, initializer=list(self._constants.values()))
        opset = [helper.make_opsetid("", OPERATOR_SET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=FILE_VERSION, producer_name="lffd")
        helper.set_model_props(model, dict(metadata))
        self._onnx.checker.check_model(model, full_check=True)
        return model


class Translator:
    """Adds a deployed network to a builder, one method per kind of operator; a subclass may change any of them."""

    def __init__(self, builder: OnnxBuilder, graph: Graph, params: Mapping[str, NDArray[np.float32]]) -> None:
        self.builder = builder
        self.graph = graph
        self.params = params
        self.normalised = False

    def translate(self, data: str, normalised: bool = False) -> list[str]:
        """Add every node and return the names of the outputs: `score_0`, `box_0`, `score_1`, ….

        Args:
            data: name of the float input `(B, 3, H, W)`.
            normalised: the input is -1–1 already.

        Raises:
            ModelError: for an operator that deployed networks do not use.
        """
        self.normalised = normalised
        methods = {
            "_minus_scalar": self.subtract,
            "_div_scalar": self.divide,
            "Convolution": self.convolution,
            "Activation": self.activation,
            "elemwise_add": self.addition,
            "softmax": self.softmax,
            "slice_axis": self.slice,
        }
        names: list[str] = []
        for position, node in enumerate(self.graph.nodes):
            inputs = [names[source] for source in node.inputs]
            if node.op == "null":
                names.append(data if node.name == "data" else node.name)
            elif node.op in methods:
                names.append(methods[node.op](node, inputs, result_name(self.graph, position)))
            else:
                raise ModelError(f"node {node.name}: operator {node.op} has no ONNX translation here")
        return [names[output] for output in self.graph.outputs]

    def subtract(self, node: Node, inputs: list[str], output: str) -> str:
        """Subtract a scalar, unless the input comes normalised."""
        return self._scalar("Sub", node, inputs, output)

    def divide(self, node: Node, inputs: list[str], output: str) -> str:
        """Divide by a scalar, unless the input comes normalised."""
        return self._scalar("Div", node, inputs, output)

    def _scalar(self, operator: str, node: Node, inputs: list[str], output: str) -> str:
        if self.normalised:
            return inputs[0]
        value = self.builder.constant(f"{output}_value", np.float32(node.number("scalar")))
        return self.builder.add(operator, [inputs[0], value], output)

    def convolution(self, node: Node, inputs: list[str], output: str) -> str:
        """Convolve; the parameters are stored under their own names."""
        for name in inputs[1:]:
            self.builder.constant(name, self.params[name])
        return self.builder.add("Conv", inputs, output, **convolution_attributes(node))

    def activation(self, node: Node, inputs: list[str], output: str) -> str:
        """Apply ReLU.

        Raises:
            ModelError: for another activation.
        """
        if node.attrs.get("act_type") != "relu":
            raise ModelError(f"node {node.name}: activation {node.attrs.get('act_type')} has no ONNX translation here")
        return self.builder.add("Relu", inputs, output)

    def addition(self, node: Node, inputs: list[str], output: str) -> str:
        """Add two maps."""
        return self.builder.add("Add", inputs, output)

    def softmax(self, node: Node, inputs: list[str], output: str) -> str:
        """Apply softmax over one axis."""
        return self.builder.add("Softmax", inputs, output, axis=node.integer("axis", -1))

    def slice(self, node: Node, inputs: list[str], output: str) -> str:
        """Keep a range along one axis."""
        bounds = [
            self.builder.constant(f"{node.op}_{node.integer(key)}", np.array([node.integer(key)], np.int64))
            for key in ("begin", "end", "axis")
        ]
        return self.builder.add("Slice", [inputs[0], *bounds], output)


def result_name(graph: Graph, position: int) -> str:
    """Return what exported graphs call a node's result: outputs by their role, `score_0`, `box_0`, …, others as is."""
    if position not in graph.outputs:
        return graph.nodes[position].name
    branch, kind = divmod(graph.outputs.index(position), 2)
    return f"{('score', 'box')[kind]}_{branch}"


def convolution_attributes(node: Node) -> dict[str, Any]:
    """Return the attributes of the ONNX node `Conv` for a convolution."""
    padding = node.integers("pad", (0, 0))
    return {
        "kernel_shape": node.integers("kernel"),
        "strides": node.integers("stride", (1, 1)),
        "dilations": node.integers("dilate", (1, 1)),
        "group": node.integer("num_group", 1),
        "pads": padding + padding,
    }


def add_input(builder: OnnxBuilder, form: InputForm) -> str:
    """Add what turns the input `data` into float `(B, 3, H, W)`, and return the name of that."""
    if form == "nchw-float":
        return "data"
    return builder.add("Cast", [builder.add("Transpose", ["data"], "data_nchw", perm=[0, 3, 1, 2])], "data_float", to=1)


def map_shapes(branches: int) -> dict[str, tuple[str, tuple[str | int, ...]]]:
    """Return element type and shape of the raw outputs of a network with so many branches, by name."""
    return {
        f"{role}_{index}": ("FLOAT", ("batch", channels, f"rows_{index}", f"columns_{index}"))
        for index in range(branches)
        for role, channels in (("score", 1), ("box", 4))
    }


def metadata(model: Model, form: str, normalised: bool) -> dict[str, str]:
    """Return the facts that travel in an ONNX file, each value as JSON or plain text."""
    scale = "-1–1, that is (pixel - 127.5) / 127.5" if normalised else "0–255"
    geometry = [
        {"stride": b.stride, "first_center": b.first_center, "normalizer": b.normalizer}
        for b in model.network.branch_geometry
    ]
    return {
        "version": model.network.name,
        "input": f"{form}, BGR, {scale}",
        "network": json.dumps(model.network.to_dict()),
        "branches": json.dumps(geometry),
    }


def maps_onnx(model: Model, form: InputForm = "nchw-float", normalised: bool = False) -> onnx.ModelProto:
    """Return the ONNX model with the raw maps `score_0` `(B, 1, h, w)`, `box_0` `(B, 4, h, w)`, … as outputs.

    Args:
        model: what to translate.
        form: of the input `data`.
        normalised: the user brings pixels mapped to -1–1, so the graph does not do it.

    Raises:
        UsageError: when uint8 input is said to be normalised.
        ModelError: for an operator that deployed networks do not use.
        EngineError: when the package `onnx` is missing.
    """
    check_form(form, normalised)
    builder = OnnxBuilder()
    Translator(builder, model.graph, model.params).translate(add_input(builder, form), normalised)
    outputs = map_shapes(len(model.network.branches))
    facts = metadata(model, form, normalised)
    return builder.finish(f"lffd_{model.network.name}", {"data": INPUT_SHAPES[form]}, outputs, facts)


def check_form(form: str, normalised: bool) -> None:
    """Refuse an unknown input form, and uint8 pixels that would have to be -1–1."""
    if form not in INPUT_SHAPES:
        raise UsageError(f"unknown input form {form!r}: choose one of {', '.join(INPUT_SHAPES)}")
    if normalised and form == "nhwc-uint8":
        raise UsageError("uint8 pixels cannot be normalised outside: keep the normalisation in, or choose nchw-float")
