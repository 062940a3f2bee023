"""An 8-bit network as ONNX with quantise–dequantise pairs, in the two shapes that two engines run fastest.

Weights are int8 with one scale per output channel. Maps are uint8: after a ReLU from 0, otherwise with a zero point
(ONNX Runtime) or as int8 around 0 (OpenVINO, whose matrix units want no zero point). The image itself is uint8 and
enters as it is: the normalisation is folded into the first convolution. The output convolutions take 8-bit maps and
give float32, since 256 steps are too few for box codes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from deployment.calibration import Ranges
from lffd.engines import onnxruntime_engine, openvino_engine
from lffd.errors import ModelError
from lffd.graphs.model import Model
from lffd.graphs.onnx_graph import (
    INPUT_SHAPES,
    OnnxBuilder,
    Translator,
    convolution_attributes,
    foldable,
    map_shapes,
    metadata,
)
from lffd.graphs.operators import Node

if TYPE_CHECKING:
    import onnx

Target = Literal["onnxruntime", "openvino"]

INT8_FILES: dict[str, str] = {"onnxruntime": onnxruntime_engine.INT8_FILE, "openvino": openvino_engine.INT8_FILE}
"""In a model directory, the 8-bit graph of each engine."""


class QuantizedTranslator(Translator):
    """Adds a network with 8-bit convolutions to a builder; see the module's text for the scheme."""

    def __init__(self, builder: OnnxBuilder, model: Model, ranges: Ranges, target: Target) -> None:
        super().__init__(builder, model)
        self.ranges = ranges
        self.target = target
        self.scales: dict[str, float] = {}
        self._limits: dict[str, tuple[float, float]] = {}
        graph = model.graph
        if not foldable(graph):
            raise ModelError(f"{model.network.name}: its normalisation cannot be folded into its first convolution")
        self._readers = {
            self.result_name(position): {graph.nodes[reader].op for reader in readers}
            for position, readers in enumerate(graph.readers)
        }

    def image(self) -> str:
        """Add the input: uint8 `(B, H, W, 3)` turned to `(B, 3, H, W)`, each step worth 1."""
        moved = self.builder.add("Transpose", ["data"], "data_nchw", perm=[0, 3, 1, 2])
        one, zero = self.builder.constant("data_scale", np.float32(1)), self.builder.constant("data_zero", np.uint8(0))
        self.scales["data_float"] = 1.0
        return self.builder.add("DequantizeLinear", [moved, one, zero], "data_float")

    def convolution(self, node: Node, inputs: list[str], output: str) -> str:
        """Convolve with int8 weights; a map that is not activated at once is stored in 8 bits."""
        weight, *rest = self.parameters(node)
        bias = rest[0] if rest else np.zeros(len(weight))
        inputs = [*inputs, f"{node.name}_bias"] if not rest else inputs
        is_output = self.network.output_of(self.graph.nodes.index(node)) is not None
        if is_output and self.target == "onnxruntime":
            return self._output_product(inputs, weight, bias, output)
        made = self._convolve(node, inputs, weight, bias, output)
        return made if is_output or self._readers[output] == {"Activation"} else self._store(made)

    def simple(self, node: Node, inputs: list[str], output: str) -> str:
        """Add an operator, and store its map in 8 bits where another layer reads it as such.

        Pooled and enlarged maps have the steps of their source; a sum that only a ReLU reads is not stored itself, nor
        are probabilities.
        """
        made = super().simple(node, inputs, output)
        if node.op in ("Pooling", "UpSampling"):
            return self._store(made, self._limits[inputs[0]])
        active = node.op == "Activation" and node.attrs["act_type"] == "relu"
        summed = node.op == "elemwise_add" and self._readers[output] != {"Activation"}
        return self._store(made) if active or summed or node.op in ("LeakyReLU", "Concat") else made

    def _convolve(
        self, node: Node, inputs: list[str], weight: NDArray[np.float64], bias: NDArray[np.float64], output: str
    ) -> str:
        """Add a convolution with 8-bit weights and a 32-bit bias."""
        stored, scale = self._weight(inputs[1], weight, axis=0)
        steps = (scale * self.scales[inputs[0]]).astype(np.float32)
        limit = float(np.iinfo(np.int32).max)
        offset = self._constant(inputs[2], np.clip(np.round(bias / steps), -limit, limit).astype(np.int32), steps, 0)
        return self.builder.add("Conv", [inputs[0], stored, offset], output, **convolution_attributes(node))

    def _output_product(
        self, inputs: list[str], weight: NDArray[np.float64], bias: NDArray[np.float64], output: str
    ) -> str:
        """Add a 1×1 convolution as a matrix product over channels: ONNX Runtime has 8-bit ones with a float result."""
        if weight.shape[2:] != (1, 1):
            raise ModelError(f"{output}: an output convolution of {weight.shape[2:]} cannot run in 8 bits here")
        stored, _ = self._weight(inputs[1], np.ascontiguousarray(weight[:, :, 0, 0].T), axis=1)
        moved = self.builder.add("Transpose", [inputs[0]], f"{output}_nhwc", perm=[0, 2, 3, 1])
        product = self.builder.add("MatMul", [moved, stored], f"{output}_product")
        offset = self.builder.constant(inputs[2], bias.astype(np.float32))
        total = self.builder.add("Add", [product, offset], f"{output}_sum")
        return self.builder.add("Transpose", [total], output, perm=[0, 3, 1, 2])

    def _weight(self, name: str, weight: NDArray[np.float64], axis: int) -> tuple[str, NDArray[np.float64]]:
        """Store weights in int8 with one scale per slice of `axis`; return the float name and the scales."""
        others = tuple(i for i in range(weight.ndim) if i != axis)
        scale = np.maximum(np.abs(weight).max(others), 1e-12) / 127
        shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
        steps = np.round(weight / scale.reshape(shape)).astype(np.int8)
        return self._constant(name, steps, scale.astype(np.float32), axis), scale

    def _constant(self, name: str, steps: NDArray[Any], scale: NDArray[np.float32], axis: int) -> str:
        """Store numbers as whole steps, one scale per slice of `axis`; return the name of what comes back."""
        stored = {"steps": steps, "scale": scale, "zero": np.zeros(scale.size, steps.dtype)}
        parts = [self.builder.constant(f"{name}_{part}", value) for part, value in stored.items()]
        return self.builder.add("DequantizeLinear", parts, f"{name}_float", axis=axis)

    def _store(self, name: str, limits: tuple[float, float] | None = None) -> str:
        """Put a map through 8 bits that cover its range, or `limits`; return the name of what comes back."""
        limits = self.ranges[name] if limits is None else limits
        self._limits[f"{name}_stored"] = limits
        scale, zero = step_and_zero(limits, self.target)
        parts = [self.builder.constant(f"{name}_scale", np.float32(scale)), self.builder.constant(f"{name}_zero", zero)]
        stored = self.builder.add("QuantizeLinear", [name, *parts], f"{name}_steps")
        self.scales[f"{name}_stored"] = scale
        return self.builder.add("DequantizeLinear", [stored, *parts], f"{name}_stored")


def step_and_zero(limits: tuple[float, float], target: Target) -> tuple[float, np.uint8 | np.int8]:
    """Return step and zero point of 8-bit numbers that cover a range; its ends take in 0."""
    low, high = min(limits[0], 0.0), max(limits[1], 0.0, 1e-6)
    if low == 0:
        return high / 255, np.uint8(0)
    if target == "openvino":
        return max(-low, high) / 127, np.int8(0)
    step = (high - low) / 255
    return step, np.uint8(round(-low / step))


def quantized_onnx(model: Model, ranges: Ranges, target: Target) -> onnx.ModelProto:
    """Return the 8-bit network: input `data` uint8 `(B, H, W, 3)` BGR, outputs as `lffd.graphs.onnx_graph.maps_onnx`.

    `ranges` are of its inner maps, from `calibration.collect_ranges`; `target` is the engine to shape the graph for,
    though both read both.

    Raises:
        ModelError: for a network whose normalisation cannot be folded, or whose output convolutions are not 1×1.
    """
    builder = OnnxBuilder()
    translator = QuantizedTranslator(builder, model, ranges, target)
    translator.translate(translator.image())
    facts: dict[str, Any] = metadata(model, "nhwc-uint8", normalised=False)
    outputs = map_shapes(model.network)
    return builder.finish(f"lffd_{model.network.name}_int8", {"data": INPUT_SHAPES["nhwc-uint8"]}, outputs, facts)


def with_8_bit_graphs(model: Model, ranges: Ranges) -> Model:
    """Return the model with the 8-bit graph of each engine; raises what `quantized_onnx` does."""
    made = {INT8_FILES[name]: quantized_onnx(model, ranges, name).SerializeToString() for name in get_args(Target)}
    return replace(model, extra_files={**model.extra_files, **made})
