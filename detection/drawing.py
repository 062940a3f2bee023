"""Detections drawn into pictures, at a line width that suits the picture's size."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray

from detection.detections import Detections
from detection.labels import place_labels
from lffd.boxes import Boxes, longer_sides

BOX_COLOR = (80, 220, 60)
TEXT_COLOR = (0, 0, 0)
LANDMARK_COLORS = ((255, 160, 60), (60, 160, 255), (80, 220, 60), (255, 60, 200), (60, 230, 230))
"""BGR of the five landmarks, in their order."""

_SHIFT = 3
_SMALLEST_LABELLED = 24
"""A box gets its text only from this longer side on, in line widths; crowds would be hidden otherwise."""

_GOLDEN = 0.618034
"""A turn of the colour circle after which colours stay far apart, however many there are."""


def draw_detections(
    image: NDArray[np.uint8],
    detections: Detections,
    scores: bool = True,
    label: str = "",
    *,
    tracks: NDArray[np.int64] | None = None,
    every_label: bool = False,
) -> NDArray[np.uint8]:
    """Return a copy of an image `(H, W, 3)` uint8 BGR with boxes, landmarks, and texts beside the boxes.

    Args:
        image: not changed.
        detections: best first; a text that finds no free place is left out, the last ones first.
        scores: write `label` and score; without, only the ids of `tracks`, if there are any.
        label: name of what was found.
        tracks: `(N,)` ids; each has a colour of its own.
        every_label: write texts also at small boxes, and over each other where there is no room.
    """
    import cv2

    drawn = image.copy()
    line = max(1, round(min(image.shape[:2]) / 400))
    factor = 1 << _SHIFT
    colors = [BOX_COLOR] * len(detections) if tracks is None else [track_color(track) for track in tracks.tolist()]
    sides = longer_sides(detections.boxes)
    for index in range(len(detections) - 1, -1, -1):
        corners = np.rint(detections.boxes[index] * factor).astype(int).tolist()
        cv2.rectangle(drawn, corners[:2], corners[2:], colors[index], line, cv2.LINE_AA, _SHIFT)
        if detections.landmarks is not None:
            radius = round(factor * max(1, min(line + 1, float(sides[index]) / 20)))
            for point, color in zip(detections.landmarks[index], LANDMARK_COLORS, strict=True):
                place = np.rint(point * factor).astype(int).tolist()
                cv2.circle(drawn, place, radius, color, -1, cv2.LINE_AA, _SHIFT)
    labelled = np.flatnonzero(sides >= (0 if every_label else _SMALLEST_LABELLED * line)).tolist()
    texts = {index: (_text(detections, index, scores, label, tracks), colors[index]) for index in labelled}
    _write(drawn, detections.boxes, texts, line, every_label)
    return drawn


def track_color(track: int) -> tuple[int, int, int]:
    """Return the light colour (BGR) of an id, under which black letters can be read."""
    red, green, blue = colorsys.hsv_to_rgb(track * _GOLDEN % 1, 0.6, 1.0)
    return round(255 * blue), round(255 * green), round(255 * red)


def _text(detections: Detections, index: int, scores: bool, label: str, tracks: NDArray[np.int64] | None) -> str:
    """Return what is written beside one box."""
    name = label if scores else ""
    parts = [name, "" if tracks is None else f"#{tracks[index]}", f"{detections.scores[index]:.2f}" if scores else ""]
    return " ".join(filter(None, parts))


def _write(
    drawn: NDArray[np.uint8], boxes: Boxes, texts: dict[int, tuple[str, tuple[int, int, int]]], line: int, always: bool
) -> None:
    """Write texts, each on a ground of its colour, beside the boxes of these indices."""
    import cv2

    font, scale, pad = cv2.FONT_HERSHEY_SIMPLEX, 0.4 * line, line
    sizes: list[tuple[int, int] | None] = [None] * len(boxes)
    below = 0
    for index, (text, _) in texts.items():
        (width, height), below = cv2.getTextSize(text, font, scale, line)
        sizes[index] = (width + 2 * pad, height + below + pad) if text else None
    for index, place in enumerate(place_labels(boxes, sizes, (drawn.shape[1], drawn.shape[0]), always)):
        if place is not None and (size := sizes[index]) is not None:
            (x, y), (text, color) = place, texts[index]
            cv2.rectangle(drawn, (x, y), (x + size[0] - 1, y + size[1] - 1), color, -1)
            cv2.putText(drawn, text, (x + pad, y + size[1] - below), font, scale, TEXT_COLOR, line, cv2.LINE_AA)
