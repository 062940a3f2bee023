"""Images without objects: folders of them, and empty regions cut from images that do hold objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_provider_farm.readers.annotations import Listing, build_source
from lffd.boxes import Boxes, areas, intersections, longer_sides
from lffd.images.files import list_images

TRIES = 200
MARGIN = 0.25
"""Share of a box's longer side kept clear around it: hair, chin and ears reach over a face's box."""


def read_backgrounds(folders: Sequence[Path]) -> Listing:
    """Return every image under each folder, sorted, without boxes; names begin with the folder's own name."""
    found = [(folder, path) for folder in folders for path in list_images(folder)]
    named = ((path, f"{folder.resolve().name}/{path.relative_to(folder).as_posix()}") for folder, path in found)
    return Listing(len(found), (build_source(path, name, str(path)) for path, name in named))


def find_empty_windows(
    rng: np.random.Generator, size: tuple[int, int], boxes: Boxes, count: int, smallest: int
) -> NDArray[np.int64]:
    """Return up to `count` windows that touch no box, nor a margin around it, nor each other.

    Windows are drawn at random, sides log-uniform from `smallest` to the image's own; the largest empty ones win.

    Args:
        rng: source of the draws.
        size: width and height of the image in pixels.
        boxes: `(N, 4)` xyxy in pixels, ignored ones included.
        count: of the windows wanted.
        smallest: side of a window in pixels.

    Returns:
        `(M, 4)` xyxy in whole pixels, largest first, `M <= count`; none when the image is too small.
    """
    if min(size) < smallest:
        return np.zeros((0, 4), np.int64)
    image = np.array(size)
    sides = np.exp(rng.uniform(np.log(smallest), np.log(image + 1), (TRIES, 2))).astype(np.int64)
    sides = np.clip(sides, smallest, image)
    corner = rng.integers(0, image - sides + 1)
    windows = np.concatenate((corner, corner + sides), axis=1)
    margin = (MARGIN * longer_sides(boxes))[:, None]
    taken = boxes + margin * np.array([-1, -1, 1, 1], np.float32)
    candidates = windows.astype(np.float32)
    found: list[int] = []
    for index in np.argsort(-areas(candidates), kind="stable").tolist():
        if len(found) == count:
            break
        if not intersections(candidates[[index]], taken).any():
            found.append(index)
            taken = np.concatenate((taken, candidates[[index]]))
    return windows[found].reshape(-1, 4)
