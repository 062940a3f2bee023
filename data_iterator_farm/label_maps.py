"""What each branch is taught about a crop: the targets, or labels, of training.

That is a class for each prediction, and for positive ones a box code and whatever else the network says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lffd.boxes import Boxes
from lffd.graphs.branches import BranchGeometry
from lffd.graphs.network import Network
from lffd.points import Points, known

POSITIVE, BACKGROUND, IGNORED = 1, 0, -1

ClassMap = NDArray[np.int8]
Targets = Sequence[Mapping[str, NDArray[Any]]]


class Positives(NamedTuple):
    """Positive predictions of one branch.

    Attributes:
        places: `(M,)` growing positions in the branch's class map `(B, A, h, w)`, flattened.
        owners: `(M,)` the box that each is positive for.
        classes: `(M,)` or one: `POSITIVE`, or `lffd.training.losses.BOX_ALONE`.
    """

    places: NDArray[np.intp]
    owners: NDArray[np.intp]
    classes: ClassMap | int = POSITIVE


class LabelMaker(ABC):
    """Writes the targets of all crops of a batch at once: most of the time is overhead that one call pays once.

    Subclasses say by which rule objects claim cells.
    """

    def __init__(self, network: Network) -> None:
        self._branches = network.branch_geometry

    @abstractmethod
    def claim(
        self, boxes: Boxes, ignored: NDArray[np.bool_], crops: NDArray[np.intp], classes: Sequence[ClassMap]
    ) -> list[Positives]:
        """Mark ignored cells, and return the positive ones of each branch.

        Args: as for `write`; `classes` are the targets of the scores, per branch `(B, A, h, w)` int8.
        """

    def write(
        self,
        boxes: Boxes,
        ignored: NDArray[np.bool_],
        crops: NDArray[np.intp],
        targets: Targets,
        landmarks: Points | None = None,
    ) -> None:
        """Write the labels of `B` crops.

        Args:
            boxes: `(N, 4)` xyxy in pixels, of all crops; they may reach beyond them.
            ignored: `(N,)`.
            crops: `(N,)` the crop that each box lies in.
            targets: per branch and output, see `Batch`: contiguous, all 0.
            landmarks: `(N, 5, 3)`, see `lffd.points`; a face is taught its points where all five are known.
        """
        if not len(boxes):
            return
        found = self.claim(boxes, ignored, crops, [said["score"] for said in targets])
        for branch, positives, said in zip(self._branches, found, targets, strict=True):
            said["score"].reshape(-1)[positives.places] = positives.classes
            _, predictions, height, width = said["score"].shape
            rest, column = np.divmod(positives.places, width)
            rest, row = np.divmod(rest, height)
            crop, prediction = np.divmod(rest, predictions)
            centers = branch.places(column, row)
            apart = {
                name: said[name].reshape(len(said[name]), predictions, -1, height, width)
                for name in ("box", "landmarks")
                if name in said
            }
            for number in range(predictions):
                mine = prediction == number
                owners, at = positives.owners[mine], (crop[mine], number, slice(None), row[mine], column[mine])
                apart["box"][at] = branch.encode(boxes[owners], centers[mine], number)
                if landmarks is not None and "landmarks" in apart:
                    apart["landmarks"][at] = _point_targets(branch, landmarks[owners], centers[mine], number)


def _point_targets(
    branch: BranchGeometry, points: Points, centers: NDArray[np.float32], prediction: int
) -> NDArray[np.float32]:
    """Return the codes of points and whether they are known, `(N, 11)`; all 0 where they are not."""
    fine = known(points)
    codes = branch.encode_points(points[:, :, :2], centers, prediction)
    return np.column_stack((codes, np.ones(len(points), np.float32))) * fine[:, None]
