"""WIDER FACE result files: one text file per image, `<event>/<image>.txt`, in the official layout.

Line 1 is the image's name without extension, line 2 the number of boxes, then `x y width height score` per box.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from accuracy_evaluation.text_rows import corner_and_sides, format_block, parse_block, read_lines
from accuracy_evaluation.widerface.ground_truth import ImageTruth
from detection.detections import Detections
from lffd.errors import DataError, UsageError
from lffd.files import write_atomic

PUBLISHED_FLOOR = 0.11
"""Score floor of the published LFFD scripts."""


def format_result(name: str, detections: Detections, published: bool = False) -> str:
    """Return the text of one image's result file.

    As the `published` LFFD scripts write it: whole pixels (corner rounded down, sides rounded up) and scores with three
    decimals, which costs average precision. Otherwise: three decimals, and the nine digits that hold any float32 score.
    """
    rows = corner_and_sides(detections)
    if not published:
        return format_block(name, rows, "%.3f %.3f %.3f %.3f %.9g")
    rows[:, :2], rows[:, 2:4] = np.floor(rows[:, :2]), np.ceil(rows[:, 2:4])
    return format_block(name, rows, "%d %d %d %d %.3f")


def write_result(
    folder: str | os.PathLike[str], image: ImageTruth, detections: Detections, published: bool = False
) -> Path:
    """Write one image's result file below `folder`, whole or not at all, and return its path."""
    path = result_path(folder, image)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, format_result(image.name, detections, published).encode())
    return path


def result_path(folder: str | os.PathLike[str], image: ImageTruth) -> Path:
    """Return where an image's result file lies."""
    return Path(folder, image.event, f"{image.name}.txt")


def read_result(path: str | os.PathLike[str]) -> NDArray[np.float64]:
    """Return one result file's rows `(N, 5)` float64: `x, y, width, height, score`, best first, ties in file order.

    The first line is not looked at: the official program goes by the file's name, and detectors write all sorts of
    names there. DataError names the line that is not in the official layout.
    """
    lines = read_lines(path)
    rows, end = parse_block(path, lines, 1, (5,))
    if end != len(lines):
        raise DataError(f"{path}:{end + 1}: line 2 says {len(rows)} boxes, but more lines follow")
    return rows[np.argsort(-rows[:, 4], kind="stable")]


def read_results(
    folder: str | os.PathLike[str], images: list[ImageTruth], missing_as_empty: bool = False
) -> list[NDArray[np.float64]]:
    """Return the rows of `read_result` for each of `images`; `folder` holds `<event>/<image>.txt`.

    Raises:
        UsageError: when files are missing and were not to be taken as empty, or all are.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder of result files")
    paths = [result_path(root, image) for image in images]
    missing = [path for path in paths if not path.is_file()]
    if len(missing) == len(paths) or (missing and not missing_as_empty):
        raise UsageError(
            f"{len(missing):,} of {len(paths):,} result files are missing, the first is {missing[0]}. Score only the "
            "images that you have with --images-present IMAGE_DIR, or take missing files as images without "
            "detections with --missing-as-empty"
        )
    absent = set(missing)
    progress = tqdm(paths, "reading results", unit="file", disable=None, leave=False)
    return [np.zeros((0, 5)) if path in absent else read_result(path) for path in progress]
