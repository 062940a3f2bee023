"""ONNX graphs that give boxes in pixels instead of maps, also with suppression inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lffd.graphs.branches import CHANNELS, BranchGeometry
from lffd.graphs.codes import CODES
from lffd.graphs.model import Model
from lffd.graphs.onnx_graph import (
    InputForm,
    OnnxBuilder,
    Size,
    Translator,
    add_input,
    check_form,
    input_shape,
    metadata,
)

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class GraphSuppression:
    """Suppression inside the graph, by intersection over union.

    Candidates must score more than `score_threshold`; one that overlaps a better one by more than `overlap_threshold`
    is dropped, and `max_detections` are kept per image at most.
    """

    score_threshold: float
    overlap_threshold: float
    max_detections: int


def decoded_onnx(
    model: Model,
    form: InputForm = "nchw-float",
    normalised: bool = False,
    suppression: GraphSuppression | None = None,
    fixed: Size | None = None,
) -> onnx.ModelProto:
    """Return the ONNX model with decoded outputs.

    Without suppression: `boxes` `(B, N, 4)` xyxy in pixels of the input and `scores` `(B, N)`, one row per cell, branch
    after branch. With it: `boxes` `(K, 4)`, clipped to the image, `scores` `(K,)` and `images` `(K,)`, the position in
    the batch that each belongs to; image after image, best first. A network with points also gives `landmarks`
    `(B, N, 5, 2)`, or `(K, 5, 2)`: x, y in pixels, not clipped.

    The input `data` has the given form; with `normalised` the user brings pixels mapped to -1–1. With `fixed`, its
    shape is that of one image of this size, and nothing in the graph is computed from the shape.

    Raises:
        UsageError, ModelError, EngineError: as `lffd.graphs.onnx_graph.maps_onnx`.
    """
    check_form(form, normalised)
    data = input_shape(model.network, form, fixed)
    builder = OnnxBuilder()
    pixels = add_input(builder, form)
    maps = Translator(builder, model).translate(pixels, normalised)
    prefix = "" if suppression is None else "all_"
    sizes = model.network.map_sizes(*fixed) if fixed else None
    add_candidates(builder, model.network.branch_geometry, maps, f"{prefix}boxes", f"{prefix}scores", sizes=sizes)
    if "landmarks" in maps[0]:
        _add_points(builder, model.network.branch_geometry, maps, f"{prefix}landmarks")
    lines: tuple[str | int, ...] = ("batch", "cells") if suppression is None else ("detections",)
    if sizes and suppression is None:
        counts = zip(sizes, model.network.predictions, strict=True)
        lines = (1, sum(rows * columns * count for (rows, columns), count in counts))
    outputs = {"boxes": ("FLOAT", (*lines, 4)), "scores": ("FLOAT", lines)}
    if "landmarks" in maps[0]:
        outputs["landmarks"] = ("FLOAT", (*lines, 5, 2))
    if suppression is not None:
        _add_suppression(builder, suppression, pixels, "landmarks" in maps[0], fixed)
        outputs["images"] = ("INT64", lines)
    facts = metadata(model, form, normalised)
    return builder.finish(f"lffd_{model.network.name}", {"data": data}, outputs, facts)


def _integers(builder: OnnxBuilder, name: str, values: list[int]) -> str:
    return builder.constant(name, np.array(values, np.int64))


class _Value:
    """A result in the graph, with the arithmetic in which box codes are written."""

    def __init__(self, builder: OnnxBuilder, name: str) -> None:
        self.builder, self.name = builder, name

    def _with(self, operator: str, other: _Value | float | None = None) -> _Value:
        names = [self.name]
        if isinstance(other, _Value):
            names.append(other.name)
        elif other is not None:
            names.append(self.builder.constant(f"number_{other:g}", np.float32(other)))
        return _Value(self.builder, self.builder.add(operator, names, "_".join([self.name, operator, *names[1:]])))

    def __add__(self, other: _Value | float) -> _Value:
        return self._with("Add", other)

    def __sub__(self, other: _Value | float) -> _Value:
        return self._with("Sub", other)

    def __mul__(self, other: _Value | float) -> _Value:
        return self._with("Mul", other)

    def __neg__(self) -> _Value:
        return self._with("Neg")

    @staticmethod
    def exp(value: _Value) -> _Value:
        """Return e to the power of a value."""
        return value._with("Exp")


def add_candidates(
    builder: OnnxBuilder,
    branches: tuple[BranchGeometry, ...],
    maps: list[dict[str, str]],
    boxes: str,
    scores: str,
    *,
    sizes: tuple[Size, ...] | None,
) -> None:
    """Decode every prediction of every branch, of maps of these sizes or of any, and join them into two outputs."""
    rows, flat = _integers(builder, "rows_of_boxes", [0, 4, -1]), _integers(builder, "flat", [0, -1])
    box_parts, score_parts = [], []
    for branch in branches:
        score, box, place = maps[branch.index]["score"], maps[branch.index]["box"], f"branch_{branch.index}"
        if sizes is None:
            centers = _add_centers(builder, branch, score)
        else:
            centers = _constant_centers(builder, branch, sizes[branch.index])
        for number, unit in enumerate(branch.units):
            label = f"{place}_{number}"
            channels = [
                _Value(builder, _channels(builder, box, channel, channel + 1, f"{place}_code_{channel}"))
                for channel in range(4 * number, 4 * number + 4)
            ]
            corners = CODES[branch.code].corners(channels, _Value)
            joined = builder.add("Concat", [corner.name for corner in corners], f"{label}_relative", axis=1)
            size = builder.constant(f"{label}_unit", np.array(unit * 2, np.float32).reshape(1, 4, 1, 1))
            moved = builder.add("Add", [builder.add("Mul", [joined, size], f"{label}_offset"), centers], f"{label}_at")
            listed = builder.add("Reshape", [moved, rows], f"{label}_listed")
            box_parts.append(builder.add("Transpose", [listed], f"{label}_boxes", perm=[0, 2, 1]))
        score_parts.append(builder.add("Reshape", [score, flat], f"{place}_scores"))
    builder.add("Concat", box_parts, boxes, axis=1)
    builder.add("Concat", score_parts, scores, axis=1)


def _channels(builder: OnnxBuilder, source: str, first: int, end: int, name: str) -> str:
    """Add the channels `first` to `end`, the last excluded, of a map."""
    ends = [_integers(builder, f"channel_{place}", [place]) for place in (first, end)]
    return builder.add("Slice", [source, *ends, _integers(builder, "channel_axis", [1])], name)


def _add_points(
    builder: OnnxBuilder, branches: tuple[BranchGeometry, ...], maps: list[dict[str, str]], landmarks: str
) -> None:
    """Decode the points of every prediction of every branch and join them into one output `(B, N, 5, 2)`."""
    count, parts = CHANNELS["landmarks"], []
    rows, pairs = (_integers(builder, *part) for part in (("rows_of_points", [0, count, -1]), ("pairs", [0, -1, 5, 2])))
    for branch in branches:
        place = f"branch_{branch.index}"
        # The centres x, y, x, y that the boxes use, five times x, y.
        five = _integers(builder, "five_points", [0, 1] * 5)
        centers = builder.add("Gather", [f"{place}_centers", five], f"{place}_point_centers", axis=1)
        for number, unit in enumerate(branch.units):
            label, ends = f"{place}_{number}_points", (count * number, count * (number + 1))
            codes = _channels(builder, maps[branch.index]["landmarks"], *ends, f"{label}_codes")
            share = CODES[branch.code].point_unit
            size = builder.constant(f"{label}_unit", share * np.array(unit * 5, np.float32).reshape(1, count, 1, 1))
            moved = builder.add("Add", [builder.add("Mul", [codes, size], f"{label}_offset"), centers], f"{label}_at")
            listed = builder.add("Reshape", [moved, rows], f"{label}_listed")
            parts.append(builder.add("Transpose", [listed], label, perm=[0, 2, 1]))
    joined = builder.add("Concat", parts, "listed_points", axis=1)
    builder.add("Reshape", [joined, pairs], landmarks)


def _constant_centers(builder: OnnxBuilder, branch: BranchGeometry, size: Size) -> str:
    """Store the centres of a branch's cells for a score map of one size, as x, y, x, y: `(1, 4, h, w)`."""
    x, y = np.meshgrid(branch.centers(size[1]), branch.centers(size[0], axis=1))
    return builder.constant(f"branch_{branch.index}_centers", np.stack([x, y, x, y])[None])


def _add_centers(builder: OnnxBuilder, branch: BranchGeometry, score: str) -> str:
    """Add the centres of a branch's cells for a score map of any size, as x, y, x, y: `(1, 4, h, w)`."""
    place = f"branch_{branch.index}"
    size = builder.add("Shape", [score], f"{place}_size", start=2, end=4)
    zero, one = (builder.constant(f"scalar_{value}", np.int64(value)) for value in (0, 1))
    parts = []
    sides = ((zero, "y", [1, 1, -1, 1], [0, 1, 0, 1]), (one, "x", [1, 1, 1, -1], [1, 0, 1, 0]))
    for (axis, letter, shape, corners), (start, step) in zip(sides, reversed(branch.grid), strict=True):
        label = f"{place}_{letter}"
        first, stride = (builder.constant(f"{label}_{n}", np.float32(v)) for n, v in (("first", start), ("step", step)))
        count = builder.add("Gather", [size, axis], f"{label}_count", axis=0)
        numbers = builder.add("Range", [zero, count, one], f"{label}_numbers")
        steps = builder.add("Mul", [builder.add("Cast", [numbers], f"{label}_float", to=1), stride], f"{label}_steps")
        moved = builder.add("Add", [steps, first], f"{label}_centers")
        line = builder.add("Reshape", [moved, _integers(builder, f"line_{letter}", shape)], f"{label}_line")
        chosen = builder.constant(f"corners_{letter}", np.array(corners, np.float32).reshape(1, 4, 1, 1))
        parts.append(builder.add("Mul", [line, chosen], f"{label}_map"))
    return builder.add("Add", parts, f"{place}_centers")


def _add_suppression(
    builder: OnnxBuilder, suppression: GraphSuppression, pixels: str, landmarks: bool, fixed: Size | None
) -> None:
    """Turn `all_boxes` `(B, N, 4)` and `all_scores` `(B, N)` into `boxes`, clipped to the image, `scores`, `images`.

    With `landmarks`, `all_landmarks` `(B, N, 5, 2)` into `landmarks` too.
    """
    by_class = builder.add("Unsqueeze", ["all_scores", _integers(builder, "class_axis", [1])], "class_scores")
    settings = [_integers(builder, "max_detections", [suppression.max_detections])]
    for name in ("overlap_threshold", "score_threshold"):
        settings.append(builder.constant(name, np.array([getattr(suppression, name)], np.float32)))
    # The operator would turn an inverted box (right of its left) the right way round; ours have no area.
    axis, ends = _integers(builder, "corner_axis", [2]), [_integers(builder, f"end_{end}", [end]) for end in (0, 2, 4)]
    near = builder.add("Slice", ["all_boxes", ends[0], ends[1], axis], "near_corners")
    far = builder.add("Slice", ["all_boxes", ends[1], ends[2], axis], "far_corners")
    upright = builder.add("Concat", [near, builder.add("Max", [near, far], "far_or_near")], "upright", axis=2)
    chosen = builder.add("NonMaxSuppression", [upright, by_class, *settings], "chosen")
    places = builder.add("Gather", [chosen, _integers(builder, "image_and_cell", [0, 2])], "places", axis=1)
    kept = builder.add("GatherND", ["all_boxes", places], "kept_boxes")
    if fixed:
        edges = builder.constant("image_edges", np.array([fixed[1], fixed[0]] * 2, np.float32))
    else:
        size = builder.add("Shape", [pixels], "image_size", start=2, end=4)
        limits = builder.add("Gather", [size, _integers(builder, "x_y_x_y", [1, 0, 1, 0])], "image_limits", axis=0)
        edges = builder.add("Cast", [limits], "image_edges", to=1)
    inside = builder.add("Min", [kept, edges], "boxes_before_edges")
    builder.add("Max", [inside, builder.constant("near_edge", np.float32(0))], "boxes")
    builder.add("GatherND", ["all_scores", places], "scores")
    if landmarks:
        builder.add("GatherND", ["all_landmarks", places], "landmarks")
    builder.add("Gather", [places, builder.constant("scalar_0", np.int64(0))], "images", axis=1)
