"""Exported graphs with the outputs of other projects' detectors, for programs that are made for those.

Each layout is written twice: as nodes of an ONNX graph, and in NumPy, from an engine's maps, to check the graph by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deployment.decoded_graph import add_candidates
from detection.decoding import decode
from lffd.engines import BranchMaps
from lffd.errors import UsageError
from lffd.graphs.branches import CHANNELS
from lffd.graphs.model import Model
from lffd.graphs.network import Network
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

Shape = tuple[str | int, ...]
Maps = list[dict[str, str]]
"""Names of the maps in the graph, by branch and output."""
Outputs = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Layout:
    """One form of outputs.

    Attributes:
        input_name: what the image is called.
        code, landmarks: what a network must have: its box code, and whether it needs five points.
        add: adds the outputs to a graph, from its maps and its image; returns name to shape.
        compute: the same from an engine's maps, for an image of height × width.
    """

    input_name: str
    code: str
    landmarks: bool
    add: Callable[[OnnxBuilder, Network, Maps, str], dict[str, Shape]]
    compute: Callable[[Network, Sequence[BranchMaps], int, int], Outputs]


_LISTED = {"score": "face_rpn_cls_prob", "box": "face_rpn_bbox_pred", "landmarks": "face_rpn_landmark_pred"}
_MAPS = {"score": "face_rpn_cls_prob_reshape_stride", "box": "face_rpn_bbox_stride"} | {
    "landmarks": "face_rpn_landmark_pred_stride"
}


def _integers(builder: OnnxBuilder, values: Sequence[int]) -> str:
    return builder.constant("integers_" + "_".join(map(str, values)), np.array(values, np.int64))


def _rest(builder: OnnxBuilder, score: str) -> str:
    """Add the probability of background."""
    return builder.add("Sub", [builder.constant("one", np.float32(1)), score], f"{score}_background")


def _add_listed(builder: OnnxBuilder, network: Network, maps: Maps, image: str) -> dict[str, Shape]:
    for role, name in _LISTED.items():
        parts = []
        for said in maps:
            moved = builder.add("Transpose", [said[role]], f"{said[role]}_last", perm=[0, 2, 3, 1])
            shape = _integers(builder, [0, -1, CHANNELS[role]])
            parts.append(builder.add("Reshape", [moved, shape], f"{said[role]}_listed"))
        whole = builder.add("Concat", parts, name if role != "score" else "faces", axis=1)
        if role == "score":
            builder.add("Concat", [_rest(builder, whole), whole], name, axis=2)
    return {name: ("batch", "anchors", max(CHANNELS[role], 2)) for role, name in _LISTED.items()}


def _listed(maps: Sequence[BranchMaps], role: str) -> NDArray[np.float32]:
    """Return `(B, anchors, channels)`: level by level, cell by cell, the anchors of a cell one after the other."""
    parts = [said[role].transpose(0, 2, 3, 1).reshape(len(said[role]), -1, CHANNELS[role]) for said in maps]
    return np.concatenate(parts, axis=1)


def _compute_listed(network: Network, maps: Sequence[BranchMaps], height: int, width: int) -> Outputs:
    faces = _listed(maps, "score")
    boxes, points = (_listed(maps, role) for role in ("box", "landmarks"))
    found = (np.concatenate([1 - faces, faces], axis=2), boxes, points)
    return dict(zip(_LISTED.values(), found, strict=True))


def _add_maps(builder: OnnxBuilder, network: Network, maps: Maps, image: str) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for branch in reversed(network.branch_geometry):
        said, count = maps[branch.index], len(branch.units)
        for role, prefix in _MAPS.items():
            name, cells = f"{prefix}{branch.stride}", (f"rows_{branch.stride}", f"columns_{branch.stride}")
            if role == "score":
                builder.add("Concat", [_rest(builder, said[role]), said[role]], name, axis=1)
            else:
                builder.add("Identity", [said[role]], name)
            shapes[name] = ("batch", count * max(CHANNELS[role], 2), *cells)
    return shapes


def _compute_maps(network: Network, maps: Sequence[BranchMaps], height: int, width: int) -> Outputs:
    found: Outputs = {}
    for branch in reversed(network.branch_geometry):
        said = dict(maps[branch.index])
        said["score"] = np.concatenate([1 - said["score"], said["score"]], axis=1)
        found |= {f"{prefix}{branch.stride}": said[role] for role, prefix in _MAPS.items()}
    return found


def _add_corners(builder: OnnxBuilder, network: Network, maps: Maps, image: str) -> dict[str, Shape]:
    parts: dict[str, list[str]] = {"boxes": [], "scores": []}
    for branch in network.branch_geometry:
        names = {role: f"{role}_of_{branch.index}" for role in parts}
        add_candidates(builder, (branch,), maps, names["boxes"], names["scores"], sizes=None)
        for role, channels in (("boxes", 4), ("scores", 1)):
            # Candidates come anchor by anchor; here the anchors of a cell follow each other.
            apart = _integers(builder, [0, len(branch.units), -1, channels])
            split = builder.add("Reshape", [names[role], apart], f"{names[role]}_apart")
            moved = builder.add("Transpose", [split], f"{names[role]}_moved", perm=[0, 2, 1, 3])
            whole = _integers(builder, [0, -1, channels])
            parts[role].append(builder.add("Reshape", [moved, whole], f"{names[role]}_listed"))
    size = builder.add("Shape", [image], "image_shape")
    sides = builder.add("Gather", [size, _integers(builder, [3, 2, 3, 2])], "image_sides", axis=0)
    pixels = builder.add("Concat", parts["boxes"], "boxes_in_pixels", axis=1)
    builder.add("Div", [pixels, builder.add("Cast", [sides], "image_sides_float", to=1)], "boxes")
    faces = builder.add("Concat", parts["scores"], "faces", axis=1)
    builder.add("Concat", [_rest(builder, faces), faces], "scores", axis=2)
    return {"boxes": ("batch", "anchors", 4), "scores": ("batch", "anchors", 2)}


def _compute_corners(network: Network, maps: Sequence[BranchMaps], height: int, width: int) -> Outputs:
    boxes = []
    for row in range(len(maps[0]["score"])):
        parts = []
        for said, branch in zip(maps, network.branch_geometry, strict=True):
            every = decode([said], [branch], -1, said["score"][row].size, row=row).boxes
            parts.append(every.reshape(len(branch.units), -1, 4).transpose(1, 0, 2).reshape(-1, 4))
        boxes.append(np.concatenate(parts) / np.array([width, height, width, height], np.float32))
    faces = _listed(maps, "score")
    return {"boxes": np.stack(boxes), "scores": np.concatenate([1 - faces, faces], axis=2)}


LAYOUTS: dict[str, Layout] = {
    "retinaface": Layout("data", "center-size", True, _add_listed, _compute_listed),
    "retinaface-maps": Layout("data", "center-size-plain", True, _add_maps, _compute_maps),
    "ultra-light": Layout("input", "center-size", False, _add_corners, _compute_corners),
}
"""Every layout by name.

`retinaface`: probabilities of background and face, box codes and point codes of every anchor. `retinaface-maps`: the
same as nine maps, coarsest first, the background of all anchors of a cell before their faces. `ultra-light`: boxes as
corners in 0–1, and both probabilities.
"""


def layout_onnx(
    model: Model, form: InputForm, normalised: bool, fixed: Size | None = None, *, layout: str
) -> onnx.ModelProto:
    """Return the ONNX model with the outputs of a layout.

    Args:
        model: what to translate.
        form: of the input.
        normalised: the user brings pixels as the network's own normalisation makes them; still blue, green, red.
        fixed: the only size of input, for tools that take no open one.
        layout: a name from `LAYOUTS`.

    Raises:
        UsageError: for a network that lacks what the layout says.
        ModelError, EngineError: as `lffd.graphs.onnx_graph.maps_onnx`.
    """
    check_form(form, normalised)
    chosen, network = LAYOUTS[layout], model.network
    if network.code != chosen.code or (chosen.landmarks and "landmarks" not in network.outputs):
        points = " and five points" if chosen.landmarks else ""
        raise UsageError(
            f"--layout {layout} is for networks with box code {chosen.code}{points}; {network.name} has box code "
            f"{network.code} and says {', '.join(network.outputs)}"
        )
    builder = OnnxBuilder()
    image = add_input(builder, form, chosen.input_name)
    maps = Translator(builder, model).translate(image, normalised)
    shapes = chosen.add(builder, network, maps, image)
    outputs = {name: ("FLOAT", shape) for name, shape in shapes.items()}
    inputs = {chosen.input_name: input_shape(network, form, fixed)}
    return builder.finish(f"lffd_{network.name}", inputs, outputs, metadata(model, form, normalised))
