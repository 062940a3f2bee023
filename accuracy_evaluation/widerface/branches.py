"""Recall by branch: which branch is responsible for a face, and which one found it.

Which branch made a detection is not part of the official result files. It is kept beside them, in
`branches/<event>/<image>.txt`: the image's name, the number of detections, then one branch index per line.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accuracy_evaluation.text_rows import format_block, parse_block, read_lines
from accuracy_evaluation.widerface.ground_truth import ImageTruth
from accuracy_evaluation.widerface.protocol import Matches
from accuracy_evaluation.widerface.report import HARD, RecallRow, recall_by_size, recall_lines, rows_to_json
from lffd.errors import DataError
from lffd.files import write_atomic
from lffd.graphs.network import Network

FOLDER = "branches"


BranchRecall = tuple[list[RecallRow], NDArray[np.intp]]
"""Recall of faces under the first branch's object range, in each branch's range, and over the last; how many of a row's
faces were found by each branch, `(rows, B)`."""


def branches_path(folder: str | os.PathLike[str], image: ImageTruth) -> Path:
    """Return where the branch indices of an image's detections lie."""
    return Path(folder, FOLDER, image.event, f"{image.name}.txt")


def write_branches(folder: str | os.PathLike[str], image: ImageTruth, branches: NDArray[np.int8]) -> None:
    """Write the branch index of each detection, in the order of the image's result file."""
    path = branches_path(folder, image)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, format_block(image.name, branches[:, None], "%d").encode())


def read_branches(folder: str | os.PathLike[str], image: ImageTruth, count: int) -> NDArray[np.intp]:
    """Return the branch index of each of an image's `count` detections.

    Raises:
        DataError: when the file is missing or does not go with the result file.
    """
    path = branches_path(folder, image)
    rows, _ = parse_block(path, read_lines(path), 1, (1,))
    if len(rows) != count or np.any(rows < 0) or np.any(rows % 1):
        raise DataError(f"{path}: must hold one branch index for each of the result file's {count} boxes")
    return rows[:, 0].astype(np.intp)


def recall_by_branch(
    images: Sequence[ImageTruth], matches: Matches, branches: Sequence[NDArray[np.intp]], network: Network, score: float
) -> BranchRecall:
    """Return recall by responsible branch, from the branches of each matched image's detections and `working_score`."""
    ranges = [branch.object_range for branch in network.branches]
    lowest, highest = min(low for low, _ in ranges), max(high for _, high in ranges)
    classes = [(0.0, lowest), *ranges, (highest, float("inf"))]
    kept = [found for image, found in zip(images, branches, strict=True) if len(image.boxes)]
    finder = np.concatenate([np.zeros(0, np.intp), *kept])
    if finder.size and finder.max() >= len(ranges):
        raise DataError(f"a detection is of branch {finder.max()}, but {network.name} has {len(ranges)} branches")
    hits = matches.hits(HARD)
    sides = matches.sides[matches.faces[hits]]
    owners = [finder[hits][(sides >= low) & (sides < high)] for low, high in classes]
    found_by = np.array([np.bincount(found, minlength=len(ranges)) for found in owners])
    return recall_by_size(matches, classes, score), found_by


def branches_to_json(recall: BranchRecall) -> list[dict[str, Any]]:
    """Return the rows as JSON values; `branch` is null for faces outside every range."""
    owners: list[int | None] = [None, *range(len(recall[0]) - 2), None]
    rows = zip(owners, rows_to_json(recall[0]), recall[1].tolist(), strict=True)
    return [{"branch": owner, **row, "found_by": found} for owner, row, found in rows]


def branches_to_text(recall: BranchRecall, score: float) -> str:
    """Return the table for people."""
    lines = recall_lines(recall[0], score)
    width = max(map(len, lines))
    columns = [[f"b{branch}" for branch in range(recall[1].shape[1])], *([f"{n:,}" for n in row] for row in recall[1])]
    pairs = zip(lines, columns, strict=True)
    table = [f"{line:{width}}" + "".join(f"{word:>7}" for word in words) for line, words in pairs]
    title = "Recall of the hard subset's faces by the range of the responsible branch, and which branch found them"
    return "\n".join([title, *table])
