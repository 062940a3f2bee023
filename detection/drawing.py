"""Detections drawn into pictures, at a line width that suits the picture's size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detection.detections import Detections
from lffd.boxes import longer_sides

BOX_COLOR = (80, 220, 60)
TEXT_COLOR = (0, 0, 0)
LANDMARK_COLORS = ((255, 160, 60), (60, 160, 255), (80, 220, 60), (255, 60, 200), (60, 230, 230))
"""BGR of the five landmarks, in their order."""

_SHIFT = 3
_SMALLEST_LABELLED = 24
"""A box gets its score written only from this longer side on, in line widths; crowds would be hidden otherwise."""


def draw_detections(
    image: NDArray[np.uint8], detections: Detections, scores: bool = True, label: str = ""
) -> NDArray[np.uint8]:
    """Return a copy of an image `(H, W, 3)` uint8 BGR with boxes, landmarks, and label and score at large boxes."""
    import cv2

    drawn = image.copy()
    line = max(1, round(min(image.shape[:2]) / 400))
    factor = 1 << _SHIFT
    for index in range(len(detections) - 1, -1, -1):
        side = float(longer_sides(detections.boxes[index : index + 1])[0])
        corners = np.rint(detections.boxes[index] * factor).astype(int).tolist()
        cv2.rectangle(drawn, corners[:2], corners[2:], BOX_COLOR, line, cv2.LINE_AA, _SHIFT)
        if scores and side >= _SMALLEST_LABELLED * line:
            _write(drawn, detections.boxes[index], f"{label} {detections.scores[index]:.2f}".strip(), line)
        if detections.landmarks is not None:
            radius = round(factor * max(1, min(line + 1, side / 20)))
            for point, color in zip(detections.landmarks[index], LANDMARK_COLORS, strict=True):
                place = np.rint(point * factor).astype(int).tolist()
                cv2.circle(drawn, place, radius, color, -1, cv2.LINE_AA, _SHIFT)
    return drawn


def _write(drawn: NDArray[np.uint8], box: NDArray[np.float32], text: str, line: int) -> None:
    """Write a text above the box, or inside it at the picture's upper edge."""
    import cv2

    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.4 * line
    (width, height), below = cv2.getTextSize(text, font, size, line)
    left = min(max(int(box[0]), 0), max(drawn.shape[1] - width, 0))
    bottom = int(box[1]) if box[1] >= height + below else int(box[1]) + height + below
    cv2.rectangle(drawn, (left, bottom - height - below), (left + width, bottom), BOX_COLOR, -1)
    cv2.putText(drawn, text, (left, bottom - below // 2), font, size, TEXT_COLOR, line, cv2.LINE_AA)
