"""From branch maps to candidate boxes in the input's pixels: threshold first, so that only survivors are decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lffd.boxes import Boxes, scale
from lffd.engines import BranchMaps
from lffd.graphs.branches import BranchGeometry


@dataclass(frozen=True)
class Candidates:
    """What the branches propose, before suppression, in no order.

    Boxes `(N, 4)` xyxy in pixels of the network's input, scores `(N,)` 0–1, and the branch `(N,)` each came from;
    landmarks `(N, 5, 2)` x, y, where the network has them.
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    branches: NDArray[np.int8]
    landmarks: NDArray[np.float32] | None = None

    def best(self, count: int) -> Candidates:
        """Return the `count` best, in the order they have here."""
        chosen = best_indices(self.scores, count)
        landmarks = None if self.landmarks is None else self.landmarks[chosen]
        return Candidates(self.boxes[chosen], self.scores[chosen], self.branches[chosen], landmarks)

    def scaled(self, x_factor: float, y_factor: float) -> Candidates:
        """Return the same with all coordinates multiplied."""
        factors = np.array([x_factor, y_factor], np.float32)
        landmarks = None if self.landmarks is None else self.landmarks * factors
        return replace(self, boxes=scale(self.boxes, x_factor, y_factor), landmarks=landmarks)


def join(parts: Sequence[Candidates]) -> Candidates:
    """Return the candidates of several inputs or tiles of one network together."""
    landmarks = [part.landmarks for part in parts if part.landmarks is not None]
    return Candidates(
        np.concatenate([np.zeros((0, 4), np.float32), *(part.boxes for part in parts)]),
        np.concatenate([np.zeros(0, np.float32), *(part.scores for part in parts)]),
        np.concatenate([np.zeros(0, np.int8), *(part.branches for part in parts)]),
        np.concatenate(landmarks) if landmarks else None,
    )


def best_indices(scores: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Return the positions of the `count` highest scores, rising."""
    if scores.size <= count:
        return np.arange(scores.size)
    return np.sort(np.argpartition(-scores, count)[:count])


def decode(
    maps: Sequence[BranchMaps],
    branches: Sequence[BranchGeometry],
    score_threshold: float,
    top_k: int,
    *,
    row: int = 0,
    first_cells: Sequence[tuple[int, int]] | None = None,
) -> Candidates:
    """Return the `top_k` best cells over the threshold of one image as boxes (LFFD, arXiv 1904.10633, section 3.2).

    Args:
        maps: what each branch says.
        branches: geometry of each branch, in the same order; `Candidates.branches` holds their `index`.
        score_threshold: only predictions that score more are looked at.
        top_k: only so many of the best predictions are decoded.
        row: which image of the batch.
        first_cells: map row and column of each branch's first cell, where the maps are parts of larger ones.
    """
    found = [np.flatnonzero(part["score"][row] > score_threshold) for part in maps]
    scores = np.concatenate([part["score"][row].ravel()[flat] for part, flat in zip(maps, found, strict=True)])
    ends = np.cumsum([flat.size for flat in found])
    chosen = best_indices(scores, top_k)
    boxes = np.empty((chosen.size, 4), np.float32)
    owners = np.empty(chosen.size, np.int8)
    landmarks = np.empty((chosen.size, 5, 2), np.float32) if "landmarks" in maps[0] else None
    limits = [0, *np.searchsorted(chosen, ends)]
    for number, (part, geometry) in enumerate(zip(maps, branches, strict=True)):
        here = slice(limits[number], limits[number + 1])
        if here.start == here.stop:
            continue
        flat = found[number][chosen[here] - (ends[number] - found[number].size)]
        _, predictions, height, width = part["score"].shape
        prediction, cell = np.divmod(flat, height * width)
        rows, columns = np.divmod(cell, width)
        top, left = (0, 0) if first_cells is None else first_cells[number]
        centers = geometry.places(columns + left, rows + top)
        said = {name: part[name][row].reshape(predictions, -1, height, width) for name in part if name != "score"}
        boxes[here] = geometry.decode(said["box"][prediction, :, rows, columns], centers, prediction)
        if landmarks is not None:
            codes = said["landmarks"][prediction, :, rows, columns]
            landmarks[here] = geometry.decode_points(codes, centers, prediction)
        owners[here] = geometry.index
    return Candidates(boxes, scores[chosen], owners, landmarks)
