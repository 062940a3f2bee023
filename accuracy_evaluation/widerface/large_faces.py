"""Average precision over the faces above a size, as model cards give it that do not use the official subsets.

One class; only faces whose width and height both exceed a limit count, and all others are ignored: whoever meets one is
neither right nor wrong. A detection finds the face that it overlaps most, from an IoU of 0.5 on; later ones on the same
face are wrong. The figure is the area under the precision–recall curve over all scores, with precision made monotone.
RetinaFace-R50's card gives its limit, 64 pixels; the mAP of slim-320's is of the same kind. A limit of 0 counts all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from accuracy_evaluation.widerface.ground_truth import SUBSETS, ImageTruth
from accuracy_evaluation.widerface.protocol import Matches


@dataclass(frozen=True)
class LargeFaces:
    """Attributes: over: width and height in pixels that faces exceed; faces: how many do; average_precision: or nan."""

    over: float
    faces: int
    average_precision: float


def precision_over(images: Sequence[ImageTruth], matches: Matches, over: float) -> LargeFaces:
    """Return the average precision over the faces that are wider and higher than `over` pixels.

    `matches` are those of `protocol.match` on the same images.
    """
    boxes = np.concatenate([np.zeros((0, 4)), *(image.boxes for image in images)])
    large = (boxes[:, 2:] > over).all(axis=1)
    if not large.any():
        return LargeFaces(over, 0, float("nan"))
    judged = replace(matches, evaluated=np.tile(large, (len(SUBSETS), 1)))
    counted = judged.counted(0)
    order = np.argsort(-judged.raw_scores[counted], kind="stable")
    found = np.cumsum(judged.hits(0)[counted][order])
    precision = found / np.arange(1, len(found) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    faces = int(np.count_nonzero(large))
    return LargeFaces(over, faces, float(np.sum(np.diff(found / faces, prepend=0.0) * envelope)))
