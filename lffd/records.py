"""What passes from packs to batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lffd.points import Points


@dataclass(frozen=True)
class Record:
    """One image of a pack, still encoded.

    Attributes:
        name: the image's name inside its dataset, such as `0--Parade/0_Parade_marchingband_1_849.jpg`.
        image: the encoded image file (JPEG unless stated otherwise).
        width, height: of the decoded image in pixels.
        boxes: `(N, 4)` float32 xyxy in pixels; `N` = 0 for a background image.
        ignored: `(N,)` bool; true boxes are neither objects to learn nor background.
        landmarks: `(N, 5, 3)` float32, see `lffd.points`; None where no box has points.
    """

    name: str
    image: bytes
    width: int
    height: int
    boxes: NDArray[np.float32]
    ignored: NDArray[np.bool_]
    landmarks: Points | None = None


class RecordSource(Protocol):
    """Random access to records, safe from many threads; a pack reader is one, a list of records another."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Record: ...
