"""From branch maps to candidate boxes in the input's pixels: threshold first, so that only survivors are decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lffd.boxes import Boxes
from lffd.engines import BranchMaps
from lffd.graphs.network import BranchGeometry


@dataclass(frozen=True)
class Candidates:
    """What the branches propose, before suppression, in no order.

    Boxes `(N, 4)` xyxy in pixels of the network's input, scores `(N,)` 0–1, and the branch `(N,)` each came from.
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    branches: NDArray[np.int8]

    def best(self, count: int) -> Candidates:
        """Return the `count` best, in the order they have here."""
        chosen = best_indices(self.scores, count)
        return Candidates(self.boxes[chosen], self.scores[chosen], self.branches[chosen])


def join(parts: Sequence[Candidates]) -> Candidates:
    """Return the candidates of several inputs or tiles together."""
    return Candidates(
        np.concatenate([np.zeros((0, 4), np.float32), *(part.boxes for part in parts)]),
        np.concatenate([np.zeros(0, np.float32), *(part.scores for part in parts)]),
        np.concatenate([np.zeros(0, np.int8), *(part.branches for part in parts)]),
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
        places = np.stack([columns + left, rows + top], axis=1)
        centers = (geometry.first_center + geometry.stride * places).astype(np.float32)
        codes = part["box"][row].reshape(predictions, 4, height, width)[prediction, :, rows, columns]
        boxes[here] = geometry.decode(codes, centers, prediction)
        owners[here] = geometry.index
    return Candidates(boxes, scores[chosen], owners)
