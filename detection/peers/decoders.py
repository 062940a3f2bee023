"""How the raw outputs of other projects' detectors become boxes, scores and landmarks.

Every decoder takes the outputs in the order of its kind's `PeerKind.outputs`, the size of the network's input and a
score floor; it decodes only what is over the floor and returns `PeerBoxes` in pixels of the network's input. All
landmarks come in one order: eye, eye, nose, mouth corner, mouth corner, each pair from the image's left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lffd.errors import ModelError

Array = NDArray[np.float32]

STRIDES = (8, 16, 32)

RETINAFACE_SIDES = {8: (16.0, 32.0), 16: (64.0, 128.0), 32: (256.0, 512.0)}
"""Sides of RetinaFace's two square anchors per cell, by stride, in pixels."""


class PeerBoxes(NamedTuple):
    """Boxes before suppression, in no order: `(N, 4)` xyxy, `(N,)` scores, `(N, 5, 2)` x, y of landmarks or None."""

    boxes: Array
    scores: Array
    landmarks: Array | None


Decoder = Callable[[Sequence[Array], int, int, float], PeerBoxes]
"""`(outputs, height, width, score floor) -> boxes`."""


def decode_ultra_light(outputs: Sequence[Array], height: int, width: int, floor: float) -> PeerBoxes:
    """Decode Ultra-Light-Fast: `scores` `(1, A, 2)` background and face, `boxes` `(1, A, 4)` corners in 0–1."""
    scores, boxes = outputs[0][0, :, 1], outputs[1][0]
    kept = scores > floor
    return PeerBoxes(boxes[kept] * np.array([width, height, width, height], np.float32), scores[kept], None)


def decode_retinaface(outputs: Sequence[Array], height: int, width: int, floor: float) -> PeerBoxes:
    """Decode RetinaFace's anchor form: `(1, A, 4)` box deltas, `(1, A, 2)` classes, `(1, A, 10)` landmark deltas.

    Two anchors per cell of strides 8, 16 and 32 (16,800 in all at 640×640), centred in the cell, the smaller first.
    Deltas carry variances, 0.1 for positions and 0.2 for sizes. Exports differ in whether softmax is part of the
    graph: it is applied when the rows do not sum to 1.
    """
    deltas, classes, marks = (output[0] for output in outputs)
    scores = classes[:, 1]
    if not np.allclose(classes.sum(axis=1), 1, atol=1e-3):
        scores = 1 / (1 + np.exp(np.clip(classes[:, 0] - scores, -80, 80)))
    parts = []
    for stride in STRIDES:
        cells = _cells(math.ceil(height / stride), math.ceil(width / stride), 2)
        sides = np.tile(np.array(RETINAFACE_SIDES[stride], np.float32), len(cells) // 2)
        parts.append(np.column_stack([(cells + 0.5) * stride, sides]))
    anchors = np.concatenate(parts)
    _check_count(scores, anchors, height, width)
    kept = scores > floor
    center, side = anchors[kept, :2], anchors[kept, 2:]
    middle = center + 0.1 * deltas[kept, :2] * side
    half = 0.5 * side * np.exp(0.2 * deltas[kept, 2:])
    landmarks = center[:, None] + 0.1 * marks[kept].reshape(-1, 5, 2) * side[:, None]
    return PeerBoxes(np.hstack([middle - half, middle + half]), scores[kept], landmarks)


def decode_retinaface_maps(outputs: Sequence[Array], height: int, width: int, floor: float) -> PeerBoxes:
    """Decode RetinaFace's form with nine maps.

    Per stride 32, 16 and 8: classes `(1, 4, h, w)`, boxes `(1, 8, h, w)`, landmarks `(1, 20, h, w)`; sizes and
    channels tell them apart, so that their order does not matter. Two anchors per cell, the larger first. Sides count
    their border pixel, so that an anchor's centre is 7.5 + stride × cell. The class channels are background of both
    anchors, then face of both; the other channels go anchor by anchor. Deltas carry no variances.
    """
    parts = []
    maps = sorted(outputs, key=lambda output: (output.shape[2] * output.shape[3], output.shape[1]))
    for number, stride in enumerate(reversed(STRIDES)):
        classes, deltas, marks = (output[0].transpose(1, 2, 0) for output in maps[3 * number : 3 * number + 3])
        scores = classes[..., 2:].ravel()
        cells = _cells(height // stride, width // stride, 2)
        _check_count(scores, cells, height, width)
        kept = scores > floor
        center = (cells * stride + 7.5)[kept]
        side = np.tile(np.array(RETINAFACE_SIDES[stride][::-1], np.float32), scores.size // 2)[kept, None]
        delta = deltas.reshape(-1, 4)[kept]
        middle = center + delta[:, :2] * side
        half = 0.5 * (side * np.exp(delta[:, 2:]) - 1)
        landmarks = center[:, None] + marks.reshape(-1, 5, 2)[kept] * side[:, None]
        parts.append(PeerBoxes(np.hstack([middle - half, middle + half]), scores[kept], landmarks))
    return _join(parts)


def decode_yunet(outputs: Sequence[Array], height: int, width: int, floor: float) -> PeerBoxes:
    """Decode YuNet: `cls` and `obj` `(1, A, 1)`, `bbox` `(1, A, 4)` and `kps` `(1, A, 10)`, each for strides 8, 16, 32.

    Score: the geometric mean of class and objectness. Box: centre `(cell + b[:2])` and sides `exp(b[2:])` in strides.
    """

    def geometric_mean(fields: Sequence[Array]) -> Array:
        return np.sqrt(np.clip(fields[0], 0, 1) * np.clip(fields[1], 0, 1)).ravel()

    parts = []
    for stride, cells, scores, (_, _, deltas, marks) in _strides(outputs, geometric_mean, 1, (height, width), floor):
        middle = (cells + deltas[:, :2]) * stride
        half = 0.5 * np.exp(deltas[:, 2:]) * stride
        landmarks = (cells[:, None] + marks.reshape(-1, 5, 2)) * stride
        parts.append(PeerBoxes(np.hstack([middle - half, middle + half]), scores, landmarks.astype(np.float32)))
    return _join(parts)


def decode_scrfd(outputs: Sequence[Array], height: int, width: int, floor: float) -> PeerBoxes:
    """Decode SCRFD: `score` `(A, 1)`, `bbox` `(A, 4)` and `kps` `(A, 10)`, each for strides 8, 16, 32.

    Two anchors per cell at `(column, row) × stride`; distances to the four sides and offsets of landmarks in strides.
    """
    parts = []
    levels = _strides(outputs, lambda fields: fields[0].ravel(), 2, (height, width), floor)
    for stride, cells, scores, (_, distances, marks) in levels:
        points, distance = cells * stride, distances * stride
        boxes = np.hstack([points - distance[:, :2], points + distance[:, 2:]])
        parts.append(PeerBoxes(boxes, scores, points[:, None] + marks.reshape(-1, 5, 2) * stride))
    return _join(parts)


def _strides(
    outputs: Sequence[Array],
    score: Callable[[Sequence[Array]], Array],
    anchors: int,
    size: tuple[int, int],
    floor: float,
) -> Iterator[tuple[int, Array, Array, list[Array]]]:
    """Yield stride, then cells, scores and fields over the floor, from outputs that list each field's three strides."""
    for number, stride in enumerate(STRIDES):
        fields = [output.reshape(-1, output.shape[-1]) for output in outputs[number :: len(STRIDES)]]
        scores, cells = score(fields), _cells(size[0] // stride, size[1] // stride, anchors)
        _check_count(scores, cells, *size)
        kept = scores > floor
        yield stride, cells[kept], scores[kept], [field[kept] for field in fields]


def _check_count(scores: Array, anchors: Array, height: int, width: int) -> None:
    """Refuse a network that has another number of anchors than its kind."""
    if len(scores) != len(anchors):
        found = f"the network gives {len(scores):,} scores for an input of {width}×{height}"
        cause = "the file is of another kind, or a variant with other anchors"
        raise ModelError(f"{found}, its kind has {len(anchors):,} anchors there: {cause}")


def _cells(rows: int, columns: int, anchors: int) -> Array:
    """Return column and row of each cell, row by row, each `anchors` times: `(rows · columns · anchors, 2)`."""
    row, column = np.divmod(np.repeat(np.arange(rows * columns), anchors), columns)
    return np.column_stack([column, row]).astype(np.float32)


def _join(parts: Sequence[PeerBoxes]) -> PeerBoxes:
    """Return the boxes of all strides together."""
    boxes, scores, landmarks = zip(*parts, strict=True)
    return PeerBoxes(np.concatenate(boxes), np.concatenate(scores), np.concatenate(landmarks))
