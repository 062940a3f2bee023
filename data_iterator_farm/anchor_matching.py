"""The rule of SSD and its descendants: objects train the anchors that overlap them (arXiv 1512.02325, section 2.2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data_iterator_farm.label_maps import IGNORED, ClassMap, LabelMaker, Positives
from data_iterator_farm.policies import LabelPolicy
from lffd.boxes import Boxes, areas, iou, longer_sides
from lffd.graphs.network import Network

MATCH = 0.35
"""Intersection over union from which an anchor is an object's (RetinaFace and the ultra-light detectors alike)."""

LEAST = 0.2
"""An object's best anchor is its own below `MATCH` too, but not below this: nothing could be learnt from it."""

HIDDEN = 0.5
"""Share of an anchor inside an ignored box from which it takes no part."""

AT_ONCE = 32
"""Boxes of a crop that are compared with all anchors together, which bounds the memory."""


class AnchorAssignment(LabelMaker):
    """Anchors are positive for the object that they overlap most, from `MATCH` on; every object has its best one.

    Anchors that lie in ignored boxes, or match one, take no part in the score's loss; all else is background.
    """

    def __init__(self, network: Network, size: int, policy: LabelPolicy) -> None:
        super().__init__(network)
        self._policy, parts = policy, []
        self._shapes = [(len(b.units), *s) for b, s in zip(self._branches, network.map_sizes(size, size), strict=True)]
        for branch, (count, height, width) in zip(self._branches, self._shapes, strict=True):
            rows, columns = np.divmod(np.arange(height * width), width)
            middle = np.tile(branch.places(columns, rows), (count, 1))
            half = np.repeat(np.asarray(branch.units, np.float32) / 2, height * width, axis=0)
            parts.append(np.hstack([middle - half, middle + half]))
        self._anchors: Boxes = np.concatenate(parts)
        self._areas = areas(self._anchors)
        self._ends = np.cumsum([len(part) for part in parts])

    def claim(
        self, boxes: Boxes, ignored: NDArray[np.bool_], crops: NDArray[np.intp], classes: Sequence[ClassMap]
    ) -> list[Positives]:
        """Mark ignored anchors, and return the positive ones of each branch; see `LabelMaker`."""
        small = longer_sides(boxes) < self._policy.smallest
        hidden = (small & ~ignored) | (ignored & (self._policy.ignored_boxes == "ignore"))
        anchors, owners, images = [], [], []
        for crop in np.unique(crops):
            here = np.flatnonzero((crops == crop) & ~ignored & ~small)
            found, faces = self._match(boxes[here])
            anchors.append(found)
            owners.append(here[faces])
            images.append(np.full(len(found), crop))
            for number, mask in self._split(self._hidden(boxes[(crops == crop) & hidden])):
                classes[number][crop].reshape(-1)[mask] = IGNORED
        return self._positives(*(np.concatenate(part).astype(np.intp) for part in (anchors, owners, images)))

    def _match(self, faces: Boxes) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return positive anchors, rising, and the face `(M,)` of each."""
        overlap, owner = np.zeros(len(self._anchors), np.float32), np.zeros(len(self._anchors), np.intp)
        best = np.zeros(len(faces), np.intp)
        reached = np.zeros(len(faces), np.float32)
        for start in range(0, len(faces), AT_ONCE):
            table = iou(self._anchors, faces[start : start + AT_ONCE])
            stop = start + table.shape[1]
            best[start:stop] = table.argmax(axis=0)
            reached[start:stop] = table.max(axis=0)
            most = table.max(axis=1)
            better = most > overlap
            owner[better] = start + table[better].argmax(axis=1)
            overlap = np.maximum(overlap, most)
        # Of two faces with one best anchor, the later one keeps it.
        kept = np.flatnonzero(reached >= LEAST)
        owner[best[kept]] = kept
        overlap[best[kept]] = 1
        positive = np.flatnonzero(overlap >= MATCH)
        return positive, owner[positive]

    def _hidden(self, boxes: Boxes) -> NDArray[np.bool_]:
        """Return which anchors match one of these boxes or lie in it."""
        hidden = np.zeros(len(self._anchors), bool)
        for start in range(0, len(boxes), AT_ONCE):
            part = boxes[start : start + AT_ONCE]
            corner = np.maximum(self._anchors[:, None, :2], part[None, :, :2])
            sides = np.maximum(np.minimum(self._anchors[:, None, 2:], part[None, :, 2:]) - corner, 0)
            inside = (sides.prod(axis=2) >= HIDDEN * self._areas[:, None]).any(axis=1)
            hidden |= inside | (iou(self._anchors, part) >= MATCH).any(axis=1)
        return hidden

    def _split(self, values: NDArray[np.bool_]) -> list[tuple[int, NDArray[np.bool_]]]:
        """Return branch numbers and the part of each; branches without any are left out."""
        parts = np.split(values, self._ends[:-1])
        return [(number, part) for number, part in enumerate(parts) if part.any()]

    def _positives(
        self, anchors: NDArray[np.intp], owners: NDArray[np.intp], images: NDArray[np.intp]
    ) -> list[Positives]:
        """Return matched anchors, crop by crop and rising within one, branch by branch."""
        found, branches, begins = [], np.searchsorted(self._ends, anchors, side="right"), [0, *self._ends]
        for number, shape in enumerate(self._shapes):
            mine = branches == number
            places = images[mine] * int(np.prod(shape)) + anchors[mine] - begins[number]
            found.append(Positives(places, owners[mine]))
        return found
