"""A model's graph as ONNX, built node by node; needs the `onnx` package.

Every operator of a deployed network becomes one ONNX node; the normalisation of the image goes into the convolutions
that read it, where that is exact. Operator set and file version are
pinned below what current runtimes ask for, so that older ones read the file too. Batch, height and width stay open.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from lffd.errors import ModelError, UsageError
from lffd.graphs.graph import Graph
from lffd.graphs.model import Model
from lffd.graphs.network import Network
from lffd.graphs.operators import Node, normalisation_of, window
from lffd.hints import require

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

Size = tuple[int, int]
"""Height and width in pixels of the only input that a graph takes, one image at a time."""

NORMALISING = ("_minus_scalar", "_div_scalar", "_image_normalize")
"""Operators that shift and scale pixels at the start of the graph."""


class OnnxBuilder:
    """Collects nodes and constants, and closes them into a checked ONNX model."""

    def __init__(self) -> None:
        self._onnx = require("onnx", "")
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
    """Adds a deployed network to a builder; a subclass may change how convolutions and other operators are written."""

    def __init__(self, builder: OnnxBuilder, model: Model) -> None:
        self.builder = builder
        self.network, self.graph, self.params = model.network, model.graph, model.params
        self._names = dict(zip(self.graph.outputs, self.network.output_names, strict=True))
        self._left_out = set(foldable(self.graph))

    def translate(self, data: str, normalised: bool = False) -> list[dict[str, str]]:
        """Add every node and return the names of the outputs by branch, such as `score_0` and `box_0`.

        Args:
            data: name of the float input `(B, 3, H, W)`.
            normalised: the input is what the graph's own normalisation would make of it, which is then left out.

        """
        if normalised:
            self._left_out = {i for i, node in enumerate(self.graph.nodes) if node.op in NORMALISING}
        self._fold = not normalised
        names: list[str] = []
        for position, node in enumerate(self.graph.nodes):
            inputs = [names[source] for source in node.inputs]
            if node.op == "null":
                names.append(data if node.name == "data" else node.name)
            elif position in self._left_out:
                names.append(inputs[0])
            else:
                layer = self.convolution if node.op == "Convolution" else self.simple
                names.append(layer(node, inputs, self.result_name(position)))
        return self.network.by_branch([names[output] for output in self.graph.outputs])

    def result_name(self, position: int) -> str:
        """Return what the exported graph calls a node's result: outputs by what they say, others as they are."""
        return self._names.get(position, self.graph.nodes[position].name)

    def convolution(self, node: Node, inputs: list[str], output: str) -> str:
        """Convolve; the parameters are stored under their own names, with the image's normalisation in them."""
        for name, value in zip(inputs[1:], self.parameters(node), strict=True):
            self.builder.constant(name, value.astype(np.float32))
        return self.builder.add("Conv", inputs, output, **convolution_attributes(node))

    def parameters(self, node: Node) -> list[NDArray[np.float64]]:
        """Return weight and bias of a convolution, with the normalisation of the image where it reads that."""
        values = [self.params[name].astype(np.float64) for name in self.graph.parameters_of(node).values()]
        source = node.inputs[0]
        if not self._fold or source not in self._left_out:
            return values
        offset, factor = normalisation(self.graph, source)
        weight = values[0] / factor
        return [weight, *(bias - (weight * offset).sum((1, 2, 3)) for bias in values[1:])]

    def simple(self, node: Node, inputs: list[str], output: str) -> str:
        """Add an operator without parameters; scalars, scales and bounds become constants."""
        if node.op == "_image_normalize":
            parts = [np.reshape(values, (1, 3, 1, 1)).astype(np.float32) for values in normalisation_of(node)]
            mean, std = (self.builder.constant(f"{output}_{n}", v) for n, v in zip(("mean", "std"), parts, strict=True))
            return self.builder.add("Div", [self.builder.add("Sub", [*inputs, mean], f"{output}_shifted"), std], output)
        operator, constants, attributes = _SIMPLE[node.op](node)
        names = [value and self.builder.constant(f"{output}_{name}", value[0]) for name, value in constants.items()]
        return self.builder.add(operator, [*inputs, *names], output, **attributes)


Simple = tuple[str, dict[str, Any], dict[str, Any]]
"""ONNX operator, further inputs by name (each in a tuple of one; empty for none), and attributes."""


def _slice(node: Node) -> Simple:
    bounds = {key: (np.array([node.integer(key)], np.int64),) for key in ("begin", "end", "axis")}
    return "Slice", bounds, {}


def _pool(node: Node) -> Simple:
    kernel, stride, pad = window(node)
    return "MaxPool", {}, {"kernel_shape": (kernel,) * 2, "strides": (stride,) * 2, "pads": (pad,) * 4}


def _enlarge(node: Node) -> Simple:
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return "Resize", {"region": "", "scales": (np.array([1, 1, 2, 2], np.float32),)}, how


_SIMPLE: dict[str, Callable[[Node], Simple]] = {
    "_minus_scalar": lambda node: ("Sub", {"value": (np.float32(node.number("scalar")),)}, {}),
    "_div_scalar": lambda node: ("Div", {"value": (np.float32(node.number("scalar")),)}, {}),
    "Activation": lambda node: ({"relu": "Relu", "sigmoid": "Sigmoid"}[node.attrs["act_type"]], {}, {}),
    "LeakyReLU": lambda node: ("LeakyRelu", {}, {"alpha": node.number("slope", 0.25)}),
    "Pooling": _pool,
    "UpSampling": _enlarge,
    "elemwise_add": lambda node: ("Add", {}, {}),
    "elemwise_sub": lambda node: ("Sub", {}, {}),
    "Concat": lambda node: ("Concat", {}, {"axis": 1}),
    "softmax": lambda node: ("Softmax", {}, {"axis": 1}),
    "slice_axis": _slice,
}
"""How each operator without parameters is written."""


def foldable(graph: Graph) -> list[int]:
    """Return the nodes that normalise the image and can go into the convolutions that read it.

    What is subtracted can go into unpadded convolutions only: the zeros around the image stand for that grey.
    """
    chain = [position for position, node in enumerate(graph.nodes) if node.op in NORMALISING]
    shifted = chain and normalisation(graph, chain[-1])[0].any()
    readers = [graph.nodes[i] for i in (graph.readers[chain[-1]] if chain else ())]
    fitting = all(node.op == "Convolution" and (not shifted or window(node)[2] == 0) for node in readers)
    return chain if fitting and (not chain or chain[-1] not in graph.outputs) else []


def normalisation(graph: Graph, position: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what is subtracted from the image, and by what the rest is divided, to get the node at `position`.

    Both are `(3, 1, 1)`, for blue, green and red.
    """
    offset, factor, node = np.zeros((3, 1, 1)), np.ones((3, 1, 1)), graph.nodes[position]
    while node.op in NORMALISING:
        before = graph.nodes[node.inputs[0]].op
        if node.op == "_div_scalar":
            factor = factor * node.number("scalar")
        elif before not in NORMALISING:
            values = (
                normalisation_of(node) if node.op == "_image_normalize" else ((node.number("scalar"),) * 3, (1,) * 3)
            )
            offset, divisor = (np.reshape(part, (3, 1, 1)).astype(np.float64) for part in values)
            factor = factor * divisor
        else:
            raise ModelError(f"node {node.name}: the image must be shifted before it is scaled, and once")
        node = graph.nodes[node.inputs[0]]
    if node.name != "data":
        raise ModelError(f"node {graph.nodes[position].name}: only the image itself may be shifted and scaled")
    return offset, factor


def convolution_attributes(node: Node) -> dict[str, Any]:
    """Return the attributes of the ONNX node `Conv` for a convolution."""
    _, stride, pad = window(node)
    dilate = node.pair("dilate", 1)
    return {
        "kernel_shape": node.pair("kernel"),
        "strides": (stride,) * 2,
        **({} if dilate == (1, 1) else {"dilations": dilate}),
        "group": node.integer("num_group", 1),
        "pads": (pad,) * 4,
    }


def add_input(builder: OnnxBuilder, form: InputForm, name: str = "data") -> str:
    """Add what turns the input `name` into float `(B, 3, H, W)`, and return the name of that."""
    if form == "nchw-float":
        return name
    moved = builder.add("Transpose", [name], f"{name}_nchw", perm=[0, 3, 1, 2])
    return builder.add("Cast", [moved], f"{name}_float", to=1)


def input_shape(network: Network, form: InputForm, fixed: Size | None = None) -> tuple[str, tuple[str | int, ...]]:
    """Return element type and shape of the input `data`, open or of one size.

    Raises:
        UsageError: for a size that the network does not take.
    """
    kind, shape = INPUT_SHAPES[form]
    if fixed is None:
        return kind, shape
    if tuple(map(network.fitting, fixed)) != fixed:
        sides = f"of at least {network.minimum_input} px, multiples of {network.input_step}"
        raise UsageError(f"{network.name} takes no {fixed[1]}x{fixed[0]}: its sides are {sides}")
    sizes = {"batch": 1, "height": fixed[0], "width": fixed[1]}
    return kind, tuple(sizes[part] if isinstance(part, str) else part for part in shape)


def map_shapes(network: Network, fixed: Size | None = None) -> dict[str, tuple[str, tuple[str | int, ...]]]:
    """Return element type and shape of a network's raw outputs, by name."""
    sizes = network.map_sizes(*fixed) if fixed else ()
    channels = (network.graph.places[output].channels for output in network.graph.outputs)
    names = ((name, name.rsplit("_", 1)[1]) for name in network.output_names)
    return {
        name: (
            "FLOAT",
            (1, count, *sizes[int(index)]) if fixed else ("batch", count, f"rows_{index}", f"columns_{index}"),
        )
        for (name, index), count in zip(names, channels, strict=True)
    }


def metadata(model: Model, form: str, normalised: bool) -> dict[str, str]:
    """Return the facts that travel in an ONNX file, each value as JSON or plain text."""
    offset, factor = normalisation(model.graph, image_position(model.graph))
    shift, divisor = (_text(values.ravel()) for values in (offset, factor))
    scale = f"(pixel - {shift}) / {divisor}" if normalised else "0–255"
    geometry = [
        {"stride": b.stride, "first_center": b.first_center, "normalizer": b.normalizer, "units": b.units}
        for b in model.network.branch_geometry
    ]
    return {
        "version": model.network.name,
        "input": f"{form}, BGR, {scale}",
        "network": json.dumps(model.network.to_dict()),
        "branches": json.dumps(geometry),
        "sides": f"at least {model.network.minimum_input}, multiples of {model.network.input_step}",
    }


def _text(values: NDArray[np.float64]) -> str:
    """Return one number where all are the same, or a list."""
    return f"{values[0]:g}" if len(set(values)) == 1 else f"({', '.join(f'{value:g}' for value in values)})"


def image_position(graph: Graph) -> int:
    """Return the position of the normalised image."""
    chain = [i for i, node in enumerate(graph.nodes) if node.op in NORMALISING or node.name == "data"]
    return chain[-1]


def maps_onnx(
    model: Model, form: InputForm = "nchw-float", normalised: bool = False, fixed: Size | None = None
) -> onnx.ModelProto:
    """Return the ONNX model with the raw maps `score_0` `(B, 1, h, w)`, `box_0` `(B, 4, h, w)`, … as outputs.

    Args:
        model: what to translate.
        form: of the input `data`.
        normalised: the user brings pixels normalised as the network wants them, so the graph does not do it.
        fixed: the only size of input, for tools that take no open one.

    Raises:
        UsageError: when uint8 input is said to be normalised, or for a size that the network does not take.
        ModelError: for an operator that deployed networks do not use.
        EngineError: when the package `onnx` is missing.
    """
    check_form(form, normalised)
    builder = OnnxBuilder()
    Translator(builder, model).translate(add_input(builder, form), normalised)
    data = input_shape(model.network, form, fixed)
    facts = metadata(model, form, normalised)
    return builder.finish(f"lffd_{model.network.name}", {"data": data}, map_shapes(model.network, fixed), facts)


def check_form(form: str, normalised: bool) -> None:
    """Refuse an unknown input form, and uint8 pixels that would have to be -1–1."""
    if form not in INPUT_SHAPES:
        raise UsageError(f"unknown input form {form!r}: choose one of {', '.join(INPUT_SHAPES)}")
    if normalised and form == "nhwc-uint8":
        raise UsageError("uint8 pixels cannot be normalised outside: keep the normalisation in, or choose nchw-float")
