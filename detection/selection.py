"""From many candidates to detections: the steps that every detector has in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lffd.boxes import Boxes, Overlap, suppress
from lffd.errors import UsageError


@dataclass(frozen=True)
class Selection:
    """Which candidates become detections. The defaults are those of an evaluation of average precision.

    Raises:
        UsageError: for a value outside its range.
    """

    score_threshold: float = 0.02
    """Detections must score more than this, 0-1. A higher floor costs average precision."""
    top_k: int = 5000
    """How many of the best candidates of an image enter suppression (NMS)."""
    suppression_threshold: float = 0.45
    """A candidate that overlaps a better one by more than this is dropped, 0-1."""
    overlap: Overlap = "iou"
    """What overlap means: iou, or own-area, the published LFFD rule."""
    max_detections: int = 750
    """How many detections are kept per image."""

    def __post_init__(self) -> None:
        for name in ("score_threshold", "suppression_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")
        for name in ("top_k", "max_detections"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")

    def select(self, boxes: Boxes, scores: NDArray[np.float32]) -> NDArray[np.intp]:
        """Return the indices of the detections among candidates `(N, 4)` and `(N,)`, best first."""
        over = np.flatnonzero(scores > self.score_threshold)
        best = over[np.argsort(-scores[over], kind="stable")[: self.top_k]]
        kept = suppress(boxes[best], scores[best], self.suppression_threshold, self.overlap, self.max_detections)
        return best[kept]
