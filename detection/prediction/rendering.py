"""What written and shown pictures look like: marked with what was found, or with it hidden."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.drawing import draw_detections
from detection.hiding import Hiding, hide
from detection.prediction.inputs import Source
from detection.prediction.writers import Prediction
from lffd.boxes import Boxes

STAYS_HIDDEN_S = 0.5
"""In videos a face stays hidden for so long after it was last found: detectors miss one here and there."""


@dataclass(frozen=True)
class Marked:
    """Pictures with boxes, points, and texts beside the boxes; see `draw_detections`."""

    scores: bool = True
    label: str = ""
    every_label: bool = False

    def __call__(self, prediction: Prediction) -> NDArray[np.uint8]:
        """Return the picture of one prediction."""
        found, tracks = prediction.detections, prediction.tracks
        return draw_detections(
            prediction.pixels, found, self.scores, self.label, tracks=tracks, every_label=self.every_label
        )


class Hidden:
    """Pictures in which what was found cannot be recognised, and nothing is drawn."""

    def __init__(self, how: Hiding) -> None:
        self._how: Hiding = how
        self._source: Source | None = None
        self._recent: deque[tuple[float, Boxes]] = deque()

    def __call__(self, prediction: Prediction) -> NDArray[np.uint8]:
        """Return the picture of one prediction."""
        boxes, time = prediction.detections.boxes, prediction.time
        if time is None:
            return hide(prediction.pixels, boxes, self._how)
        if self._source is not prediction.source:
            self._source = prediction.source
            self._recent.clear()
        while self._recent and time - self._recent[0][0] > STAYS_HIDDEN_S:
            self._recent.popleft()
        self._recent.append((time, boxes))
        return hide(prediction.pixels, np.concatenate([boxes for _, boxes in self._recent]), self._how)
