"""What each branch is taught about a crop: the targets, or labels, of training.

That is a class for each prediction, and for positive ones a box code and whatever else the network says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_iterator_farm.assignment import ASSIGNMENTS, POSITIVE
from data_iterator_farm.policies import LabelPolicy
from lffd.boxes import Boxes
from lffd.errors import UsageError
from lffd.graphs.network import Network


class LabelMaker:
    """Writes the targets of all crops of a batch at once: most of the time is overhead that one call pays once.

    Args:
        network: whose branches are labelled.
        size: side of the crops in pixels.
        policy: which cells are positive or ignored.
    """

    def __init__(self, network: Network, size: int, policy: LabelPolicy) -> None:
        if network.assignment not in ASSIGNMENTS:
            known = ", ".join(ASSIGNMENTS)
            raise UsageError(f"{network.name}: assignment {network.assignment!r} is not one of {known}")
        self._branches = network.branch_geometry
        self._assignment = ASSIGNMENTS[network.assignment](network, size, policy)

    def write(
        self,
        boxes: Boxes,
        ignored: NDArray[np.bool_],
        crops: NDArray[np.intp],
        targets: Sequence[Mapping[str, NDArray[Any]]],
    ) -> None:
        """Write the labels of `B` crops.

        Args:
            boxes: `(N, 4)` xyxy in pixels, of all crops; they may reach beyond them.
            ignored: `(N,)`.
            crops: `(N,)` the crop that each box lies in.
            targets: per branch and output, see `Batch`: contiguous, all 0.
        """
        if not len(boxes):
            return
        found = self._assignment.claim(boxes, ignored, crops, [said["score"] for said in targets])
        for branch, positives, said in zip(self._branches, found, targets, strict=True):
            said["score"].reshape(-1)[positives.places[positives.scored]] = POSITIVE
            _, predictions, height, width = said["score"].shape
            rest, column = np.divmod(positives.places, width)
            rest, row = np.divmod(rest, height)
            crop, prediction = np.divmod(rest, predictions)
            centers = (branch.first_center + branch.stride * np.stack((column, row), axis=1)).astype(np.float32)
            codes = said["box"].reshape(len(said["box"]), predictions, 4, height, width)
            for number in range(predictions):
                mine = prediction == number
                encoded = branch.encode(boxes[positives.owners[mine]], centers[mine], number)
                codes[crop[mine], number, :, row[mine], column[mine]] = encoded
