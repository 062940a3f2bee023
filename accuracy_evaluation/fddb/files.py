"""The text files of FDDB: annotations of the ten folds, result files, image sizes.

A face is an ellipse `major minor angle x y`: two radii in pixels, the angle of the major axis in radians from the x
axis towards the y axis, the centre. A detection is a rectangle `x y width height score` or an ellipse
`major minor angle x y score`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accuracy_evaluation.text_rows import corner_and_sides, format_block, parse_block, read_lines
from detection.detections import Detections
from lffd.errors import DataError, UsageError
from lffd.untrusted import parse_whole, shown

RECTANGLE, ELLIPSE = 5, 6
"""Numbers in a detection's row."""


@dataclass(frozen=True)
class FddbImage:
    """One annotated image: its name such as `2002/08/11/big/img_591`, its fold, and its faces, `(N, 5)` ellipses."""

    name: str
    fold: int
    ellipses: NDArray[np.float64]


def read_annotations(folder: str | os.PathLike[str]) -> list[FddbImage]:
    """Return the images of every `FDDB-fold-*-ellipseList.txt` in a folder, fold by fold.

    Raises:
        UsageError: when there is no such file.
        DataError: naming the line, when one is not what it should be, or an image is annotated twice.
    """
    root = Path(folder)
    pattern = re.compile(r"FDDB-fold-(\d+)-ellipseList\.txt")
    files = sorted((int(found[1]), path) for path in root.glob("*") if (found := pattern.fullmatch(path.name)))
    if not files:
        raise UsageError(f"{root}: holds no annotations of FDDB (FDDB-fold-01-ellipseList.txt, …)")
    images: dict[str, FddbImage] = {}
    for fold, path in files:
        for line, name, rows in _blocks(path, (6,)):
            if name in images:
                raise DataError(f"{path}:{line}: {name} is already annotated in fold {images[name].fold}")
            images[name] = FddbImage(name, fold, rows[:, :5])
    return list(images.values())


def read_results(
    path: str | os.PathLike[str], images: Sequence[FddbImage], missing_as_empty: bool = False
) -> list[NDArray[np.float64]]:
    """Return `(N, 5)` rectangles or `(N, 6)` ellipses of each image from a result file, best first, ties in file order.

    Raises:
        UsageError: when images are missing and that was not allowed.
        DataError: naming the line.
    """
    known = {image.name for image in images}
    found: dict[str, NDArray[np.float64]] = {}
    for line, name, rows in _blocks(Path(path), (RECTANGLE, ELLIPSE)):
        if name not in known:
            raise DataError(f"{path}:{line}: {name!r} is not an annotated image")
        if name in found:
            raise DataError(f"{path}:{line}: {name} is already listed above")
        found[name] = rows[np.argsort(-rows[:, -1], kind="stable")]
    missing = [image.name for image in images if image.name not in found]
    if len(missing) == len(images) or (missing and not missing_as_empty):
        raise UsageError(
            f"{path}: {len(missing):,} of {len(images):,} annotated images are not in it, the first is {missing[0]}; "
            "take them as images without detections with --missing-as-empty"
        )
    return [found.get(image.name, np.zeros((0, RECTANGLE))) for image in images]


def format_result(name: str, detections: Detections, ellipses: bool = False) -> str:
    """Return an image's part of a result file: its boxes, or the upright ellipses that fit into them."""
    rows = corner_and_sides(detections)
    if not ellipses:
        return format_block(name, rows, "%.3f %.3f %.3f %.3f %.9g")
    corners, sides, scores = rows[:, :2], rows[:, 2:4], rows[:, 4]
    angles = np.where(sides[:, 1] >= sides[:, 0], np.pi / 2, 0)
    rows = np.column_stack([sides.max(axis=1) / 2, sides.min(axis=1) / 2, angles, corners + sides / 2, scores])
    return format_block(name, rows, "%.3f %.3f %.6f %.3f %.3f %.9g")


def read_image_sizes(path: str | os.PathLike[str]) -> dict[str, tuple[int, int]]:
    """Return width and height by image name from a file with lines `name width height`; DataError names the line."""
    sizes, expected = {}, "an image's name, width and height"
    for number, line in enumerate(read_lines(path), 1):
        where, (name, *sides) = f"{path}:{number}", line.split() or [""]
        found = [parse_whole(side, where, expected) for side in sides]
        if len(found) != 2 or not all(found):
            raise DataError(f"{where}: expected {expected}, found {shown(line)}")
        sizes[name] = found[0], found[1]
    return sizes


def _blocks(path: Path, columns: Sequence[int]) -> list[tuple[int, str, NDArray[np.float64]]]:
    """Return line number, name and rows of each image in a file."""
    lines, position, blocks = read_lines(path), 0, []
    while position < len(lines):
        name = lines[position].strip()
        if not name or "/" not in name:
            wanted = "an image's name such as 2002/08/11/big/img_591"
            raise DataError(f"{path}:{position + 1}: expected {wanted}, not {name!r}")
        rows, end = parse_block(path, lines, position + 1, columns)
        if rows.shape[1] == ELLIPSE and np.any(rows[:, :2] <= 0):
            raise DataError(f"{path}:{position + 1}: {name} has an ellipse with a radius that is not above 0")
        blocks.append((position + 1, name, rows))
        position = end
    return blocks
