"""ONNX graphs that give boxes in pixels instead of maps, also with suppression inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lffd.graphs.codes import CODES
from lffd.graphs.network import BranchGeometry
from lffd.graphs.onnx_graph import (
    INPUT_SHAPES,
    InputForm,
    OnnxBuilder,
    Translator,
    add_input,
    check_form,
    metadata,
)
from lffd.model import Model

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class GraphSuppression:
    """Suppression inside the graph, by intersection over union.

    Attributes:
        score_threshold: candidates must score more.
        overlap_threshold: a candidate that overlaps a better one by more is dropped.
        max_detections: kept per image at most.
    """

    score_threshold: float
    overlap_threshold: float
    max_detections: int


def decoded_onnx(
    model: Model, form: InputForm = "nchw-float", normalised: bool = False, suppression: GraphSuppression | None = None
) -> onnx.ModelProto:
    """Return the ONNX model with decoded outputs.

    Without suppression: `boxes` `(B, N, 4)` xyxy in pixels of the input and `scores` `(B, N)`, one row per cell, branch
    after branch. With it: `boxes` `(K, 4)`, clipped to the image, `scores` `(K,)` and `images` `(K,)`, the position in
    the batch that each belongs to; image after image, best first.

    Args:
        model: what to translate.
        form: of the input `data`.
        normalised: the user brings pixels mapped to -1–1.
        suppression: put into the graph where given.

    Raises:
        UsageError, ModelError, EngineError: as `lffd.graphs.onnx_graph.maps_onnx`.
    """
    check_form(form, normalised)
    builder = OnnxBuilder()
    pixels = add_input(builder, form)
    maps = Translator(builder, model).translate(pixels, normalised)
    names = ("boxes", "scores") if suppression is None else ("all_boxes", "all_scores")
    _add_candidates(builder, model.network.branch_geometry, maps, *names)
    outputs: dict[str, tuple[str, tuple[str | int, ...]]]
    if suppression is None:
        outputs = {"boxes": ("FLOAT", ("batch", "cells", 4)), "scores": ("FLOAT", ("batch", "cells"))}
    else:
        _add_suppression(builder, suppression, pixels)
        outputs = {
            "boxes": ("FLOAT", ("detections", 4)),
            "scores": ("FLOAT", ("detections",)),
            "images": ("INT64", ("detections",)),
        }
    facts = metadata(model, form, normalised)
    return builder.finish(f"lffd_{model.network.name}", {"data": INPUT_SHAPES[form]}, outputs, facts)


def _integers(builder: OnnxBuilder, name: str, values: list[int]) -> str:
    return builder.constant(name, np.array(values, np.int64))


class _Value:
    """A result in the graph, with the arithmetic in which box codes are written."""

    def __init__(self, builder: OnnxBuilder, name: str) -> None:
        self.builder, self.name = builder, name

    def _with(self, operator: str, other: _Value | float) -> _Value:
        if isinstance(other, _Value):
            right = other.name
        else:
            right = self.builder.constant(f"number_{other:g}", np.float32(other))
        return _Value(self.builder, self.builder.add(operator, [self.name, right], f"{self.name}_{operator}_{right}"))

    def __add__(self, other: _Value | float) -> _Value:
        return self._with("Add", other)

    def __sub__(self, other: _Value | float) -> _Value:
        return self._with("Sub", other)

    def __mul__(self, other: _Value | float) -> _Value:
        return self._with("Mul", other)

    def __neg__(self) -> _Value:
        return _Value(self.builder, self.builder.add("Neg", [self.name], f"{self.name}_negated"))

    @staticmethod
    def exp(value: _Value) -> _Value:
        """Return e to the power of a value."""
        return _Value(value.builder, value.builder.add("Exp", [value.name], f"{value.name}_exp"))


def _add_candidates(
    builder: OnnxBuilder, branches: tuple[BranchGeometry, ...], maps: list[dict[str, str]], boxes: str, scores: str
) -> None:
    """Decode every prediction of every branch and join them into two outputs of the given names."""
    rows, flat = _integers(builder, "rows_of_boxes", [0, 4, -1]), _integers(builder, "flat", [0, -1])
    axis = _integers(builder, "channel_axis", [1])
    box_parts, score_parts = [], []
    for branch in branches:
        said, place = maps[branch.index], f"branch_{branch.index}"
        centers = _add_centers(builder, branch, said["score"])
        for number, unit in enumerate(branch.units):
            label = f"{place}_{number}"
            channels = []
            for channel in range(4 * number, 4 * number + 4):
                ends = [_integers(builder, f"channel_{end}", [end]) for end in (channel, channel + 1)]
                cut = builder.add("Slice", [said["box"], *ends, axis], f"{place}_code_{channel}")
                channels.append(_Value(builder, cut))
            corners = CODES[branch.code].corners(channels, _Value)
            joined = builder.add("Concat", [corner.name for corner in corners], f"{label}_relative", axis=1)
            size = builder.constant(f"{label}_unit", np.array(unit * 2, np.float32).reshape(1, 4, 1, 1))
            moved = builder.add("Add", [builder.add("Mul", [joined, size], f"{label}_offset"), centers], f"{label}_at")
            listed = builder.add("Reshape", [moved, rows], f"{label}_listed")
            box_parts.append(builder.add("Transpose", [listed], f"{label}_boxes", perm=[0, 2, 1]))
        score_parts.append(builder.add("Reshape", [said["score"], flat], f"{place}_scores"))
    builder.add("Concat", box_parts, boxes, axis=1)
    builder.add("Concat", score_parts, scores, axis=1)


def _add_centers(builder: OnnxBuilder, branch: BranchGeometry, score: str) -> str:
    """Add the centres of a branch's cells for a score map of any size, as x, y, x, y: `(1, 4, h, w)`."""
    place = f"branch_{branch.index}"
    size = builder.add("Shape", [score], f"{place}_size", start=2, end=4)
    ones = _integers(builder, "two_ones", [1, 1])
    grid = builder.add("Concat", [ones, size], f"{place}_grid", axis=0)
    zero, one = (builder.constant(f"scalar_{value}", np.int64(value)) for value in (0, 1))
    stride = builder.constant(f"{place}_stride", np.float32(branch.stride))
    first = builder.constant(f"{place}_first_center", np.float32(branch.first_center))
    axes = {}
    for axis, shape in ((0, [1, 1, -1, 1]), (1, [1, 1, 1, -1])):
        label = f"{place}_{'yx'[axis]}"
        index = builder.constant(f"axis_{axis}", np.int64(axis))
        count = builder.add("Gather", [size, index], f"{label}_count", axis=0)
        numbers = builder.add("Range", [zero, count, one], f"{label}_numbers")
        steps = builder.add("Mul", [builder.add("Cast", [numbers], f"{label}_float", to=1), stride], f"{label}_steps")
        centers = builder.add("Add", [steps, first], f"{label}_centers")
        line = builder.add("Reshape", [centers, _integers(builder, f"line_{axis}", shape)], f"{label}_line")
        axes["yx"[axis]] = builder.add("Expand", [line, grid], f"{label}_map")
    return builder.add("Concat", [axes["x"], axes["y"], axes["x"], axes["y"]], f"{place}_centers", axis=1)


def _add_suppression(builder: OnnxBuilder, suppression: GraphSuppression, pixels: str) -> None:
    """Turn `all_boxes` `(B, N, 4)` and `all_scores` `(B, N)` into `boxes`, clipped to the image, `scores`, `images`."""
    by_class = builder.add("Unsqueeze", ["all_scores", _integers(builder, "class_axis", [1])], "class_scores")
    settings = [
        _integers(builder, "max_detections", [suppression.max_detections]),
        builder.constant("overlap_threshold", np.array([suppression.overlap_threshold], np.float32)),
        builder.constant("score_threshold", np.array([suppression.score_threshold], np.float32)),
    ]
    # The operator would turn an inverted box (right of its left) the right way round; ours have no area.
    axis, ends = _integers(builder, "corner_axis", [2]), [_integers(builder, f"end_{end}", [end]) for end in (0, 2, 4)]
    near = builder.add("Slice", ["all_boxes", ends[0], ends[1], axis], "near_corners")
    far = builder.add("Slice", ["all_boxes", ends[1], ends[2], axis], "far_corners")
    upright = builder.add("Concat", [near, builder.add("Max", [near, far], "far_or_near")], "upright", axis=2)
    chosen = builder.add("NonMaxSuppression", [upright, by_class, *settings], "chosen")
    columns = _integers(builder, "image_and_cell", [0, 2])
    places = builder.add("Gather", [chosen, columns], "places", axis=1)
    kept = builder.add("GatherND", ["all_boxes", places], "kept_boxes")
    size = builder.add("Shape", [pixels], "image_size", start=2, end=4)
    limits = builder.add("Gather", [size, _integers(builder, "x_y_x_y", [1, 0, 1, 0])], "image_limits", axis=0)
    far_edges = builder.add("Cast", [limits], "image_edges", to=1)
    inside = builder.add("Min", [kept, far_edges], "boxes_before_edges")
    builder.add("Max", [inside, builder.constant("near_edge", np.float32(0))], "boxes")
    builder.add("GatherND", ["all_scores", places], "scores")
    column = builder.constant("scalar_0", np.int64(0))
    builder.add("Gather", [places, column], "images", axis=1)
