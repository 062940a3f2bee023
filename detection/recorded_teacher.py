"""What a teacher said of whole images at many sizes, kept in a folder, and read back for any crop of them.

A crop shows a window of an image at some scale. Of the scales at which the teacher looked, the nearest one says what it
thinks of an object of about that size (they lie a factor of √2 apart, so none is over 2^¼ away); each cell of the crop
takes the teacher's nearest cell of the same stride there. The teacher has also seen what lies around the crop, so
objects that the crop mostly cuts off are left out.

A recording is a folder: `recording.json` (what, of what), and parts `NNNNNN.npz` of `PART` records each. Cells below
`FLOOR` are not kept: almost all of them, and they count as 0.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_iterator_farm.rendering import Origin
from lffd.boxes import Boxes, areas, clip
from lffd.errors import DataError
from lffd.graphs.branches import BranchGeometry
from lffd.untrusted import read_file, read_text

CARD, PART, FLOOR = "recording.json", 64, 0.05
FORMAT = "lffd teacher recording 1"
_NEAR = math.log(1.8)
"""How far, in the logarithm, the scale of a crop may be from the nearest recorded one; else nothing is known of it."""
_VISIBLE = 0.4
"""Share of a teacher's box that must show in a crop, as `SamplingPolicy.min_visible` wants of annotated ones."""

COLUMNS: dict[str, tuple[type, tuple[int, ...]]] = {
    "stride": (np.uint16, ()),
    "row": (np.uint16, ()),
    "column": (np.uint16, ()),
    "score": (np.float16, ()),
    "box": (np.float32, (4,)),
}
"""Of the cells that a part keeps, one after another: record by record, scale by scale."""


class Maps(NamedTuple):
    """What a teacher says at the cells of one stride: score `(B, h, w)`, −1 for unknown; box `(B, h, w, 4)` xyxy."""

    score: NDArray[np.float32]
    box: NDArray[np.float32]


def is_recording(spec: str) -> bool:
    """Say whether `spec` names the folder of a recording."""
    return (Path(spec) / CARD).is_file()


class Recording:
    """The parts of a recording that are there, in memory; one that is still being made can be read, too.

    Attributes:
        card: what `recording.json` says.
        strides: of the teacher's maps.

    Raises:
        DataError: when a file is damaged or of another format.
    """

    def __init__(self, folder: Path) -> None:
        self.card = read_card(folder / CARD)
        self.strides = frozenset(self.card["strides"])
        self._scales = np.log(self.card["scales"])
        parts = [_read_part(path, len(self._scales)) for path in sorted(folder.glob("[0-9]*.npz"))]
        if not parts:
            raise DataError(f"{folder}: the recording has no part yet")
        self._cells = {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS}
        counts = np.concatenate([part["counts"] for part in parts]).reshape(-1)
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        names = np.concatenate([part["names"] for part in parts]).tolist()
        self._numbers = {name: number for number, name in enumerate(names)}

    def __contains__(self, name: object) -> bool:
        """Say whether the image of that name is in it."""
        return name in self._numbers

    def read(self, origins: Sequence[Sequence[Origin]], branch: BranchGeometry, size: Sequence[int]) -> Maps:
        """Return what the teacher says at a branch's cells of crops; `size`: rows and columns of the branch's map."""
        height, width = size
        maps = Maps(
            np.zeros((len(origins), height, width), np.float32), np.zeros((len(origins), height, width, 4), np.float32)
        )
        centers = branch.centers(height, axis=1), branch.centers(width)
        for number, tiles in enumerate(origins):
            for origin in tiles:
                self._tile(origin, branch.stride, centers, maps.score[number], maps.box[number])
        return maps

    def _tile(
        self,
        origin: Origin,
        stride: int,
        centers: tuple[NDArray[Any], NDArray[Any]],
        score: NDArray[np.float32],
        box: NDArray[np.float32],
    ) -> None:
        """Write one tile of one crop into its maps."""
        window = origin.window
        down = slice(*np.searchsorted(centers[0], [origin.y, origin.y + window.height]))
        across = slice(*np.searchsorted(centers[1], [origin.x, origin.x + window.width]))
        cells = self._nearest(origin.name, window.scale, stride)
        if cells is None:
            score[down, across] = -1
            return
        which, step, found = cells
        if not which.size:
            return
        rows, valid_rows = _teacher_cells(centers[0][down] - origin.y, window, 1, step, which.shape[0])
        columns, valid_columns = _teacher_cells(centers[1][across] - origin.x, window, 0, step, which.shape[1])
        chosen = np.where(valid_rows[:, None] & valid_columns, which[np.ix_(rows, columns)], -1)
        row, column = np.nonzero(chosen >= 0)
        picked = found[chosen[row, column]]
        boxes = window.boxes(self._cells["box"][picked])
        shown = areas(clip(boxes, window.width, window.height)) >= _VISIBLE * areas(boxes)
        place = row + down.start, column + across.start
        score[place] = np.where(shown, self._cells["score"][picked], -1)
        box[place] = boxes + np.array([origin.x, origin.y] * 2, np.float32)

    def _nearest(
        self, name: str, scale: float, stride: int
    ) -> tuple[NDArray[np.int32], float, NDArray[np.intp]] | None:
        """Return the teacher's cells for an image at about this scale; None where nothing is known.

        Which of the kept cells lies at each row and column (−1 for none); how far apart cells are in pixels of the
        image; and the kept cells.
        """
        number, distances = self._numbers.get(name), np.abs(self._scales - math.log(scale))
        nearest = int(distances.argmin())
        if number is None or distances[nearest] > _NEAR:
            return None
        step = stride / float(np.exp(self._scales[nearest]))
        first, last = self._starts[number * len(self._scales) + nearest :][:2]
        found = first + np.flatnonzero(self._cells["stride"][first:last] == stride)
        row, column = self._cells["row"][found], self._cells["column"][found]
        shape = (int(row.max()) + 1, int(column.max()) + 1) if found.size else (0, 0)
        which = np.full(shape, -1, np.int32)
        which[row, column] = np.arange(found.size)
        return which, step, found


def _teacher_cells(
    places: NDArray[Any], window: Any, axis: int, step: float, count: int
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the teacher's cell for each place on one axis of a window, and whether it is one of `count`."""
    length, start, turned = (
        (window.width, window.left, window.mirror) if axis == 0 else (window.height, window.top, window.upside_down)
    )
    inside = (length - places if turned else places) + start
    cells = np.rint(inside / window.scale / step).astype(np.intp)
    return np.clip(cells, 0, count - 1), (cells >= 0) & (cells < count)


def read_card(path: Path) -> dict[str, Any]:
    """Return the card of a recording; raises DataError for anything else."""
    try:
        card = json.loads(read_text(path))
        scales, strides = card["scales"], card["strides"]
        sound = (
            card["format"] == FORMAT
            and isinstance(card["pack"], str)
            and all(0 < scale < math.inf for scale in scales)
            and len(scales) > 0
        )
        if not sound or not all(isinstance(stride, int) and 0 < stride < 1 << 16 for stride in strides):
            raise ValueError
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"{path}: not the card of a teacher's recording; make it again") from error
    return dict(card)


def _read_part(path: Path, scales: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of a part; raises DataError unless they fit each other."""
    try:
        with np.load(io.BytesIO(read_file(path)), allow_pickle=False) as data:
            arrays = {name: data[name] for name in ("names", "counts", *COLUMNS)}
        total = int(arrays["counts"].sum())
        sound = arrays["counts"].shape == (len(arrays["names"]), scales) and (arrays["counts"] >= 0).all()
        sound &= all(arrays[name].shape == (total, *shape) for name, (_, shape) in COLUMNS.items())
        sound &= all(arrays[name].dtype == kind for name, (kind, _) in COLUMNS.items())
        if not sound or not np.isfinite(arrays["box"]).all():
            raise ValueError
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: damaged; remove it and record the teacher again") from error
    return arrays


def kept_cells(maps: dict[int, Maps], scale: float) -> dict[str, NDArray[Any]]:
    """Return the cells worth keeping of a teacher's maps by stride of one image at a scale; boxes in its own pixels."""
    found: dict[str, list[NDArray[Any]]] = {name: [] for name in COLUMNS}
    for stride, (score, box) in maps.items():
        row, column = np.nonzero(score[0] > FLOOR)
        values: dict[str, Boxes | NDArray[Any]] = {
            "stride": np.full(len(row), stride),
            "row": row,
            "column": column,
            "score": score[0, row, column],
            "box": box[0, row, column] / scale,
        }
        for name, value in values.items():
            found[name].append(value)
    return {name: np.concatenate(found[name]).astype(COLUMNS[name][0]) for name in COLUMNS}
