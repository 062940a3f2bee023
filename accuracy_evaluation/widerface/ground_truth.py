"""The official WIDER FACE validation ground truth, read from the `.mat` files of its evaluation tools.

`wider_face_val.mat` lists events, images and all face boxes; `wider_easy_val.mat`, `wider_medium_val.mat` and
`wider_hard_val.mat` say which of them each subset evaluates. The other boxes are ignored there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lffd.errors import DataError, UsageError
from lffd.matlab import read_matlab

SUBSETS = ("easy", "medium", "hard")


@dataclass(frozen=True)
class ImageTruth:
    """The faces of one image.

    Attributes:
        event, name: folder and file without extension, such as `0--Parade` and `0_Parade_marchingband_1_465`.
        boxes: `(N, 4)` float64 `x, y, width, height` in pixels, as annotated.
        evaluated: `(3, N)` bool, for each of `SUBSETS`: whether the face counts; the other faces are ignored.
    """

    event: str
    name: str
    boxes: NDArray[np.float64]
    evaluated: NDArray[np.bool_]

    @property
    def path(self) -> str:
        """The image's place in the official layout, without extension: `event/name`."""
        return f"{self.event}/{self.name}"


def load_ground_truth(folder: str | os.PathLike[str]) -> list[ImageTruth]:
    """Return every validation image in the official order, from a folder that holds the four `.mat` files.

    Raises:
        DataError: when a file is missing, cannot be read, or is not laid out as the official ones.
    """
    root = Path(folder)
    main = _load_cells(root / "wider_face_val.mat", ("event_list", "file_list", "face_bbx_list"))
    subsets = [_load_cells(root / f"wider_{subset}_val.mat", ("gt_list",))["gt_list"] for subset in SUBSETS]
    for subset, cells in zip(SUBSETS, subsets, strict=True):
        if len(cells) != len(main["event_list"]):
            raise DataError(
                f"{root / f'wider_{subset}_val.mat'}: lists {len(cells)} events, wider_face_val.mat lists "
                f"{len(main['event_list'])}; the four files must come from one release"
            )
    images: list[ImageTruth] = []
    for number, cell in enumerate(main["event_list"]):
        event = _file_name(cell, root / "wider_face_val.mat", f"event {number + 1}")
        lists = [main["file_list"][number], main["face_bbx_list"][number], *(cells[number] for cells in subsets)]
        images.extend(_event_images(root, event, lists))
    return images


def images_present(images: list[ImageTruth], folder: str | os.PathLike[str]) -> list[ImageTruth]:
    """Return those of `images` whose file `event/name.jpg` lies under `folder`.

    Raises:
        UsageError: when the folder is missing or holds none of them.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder; name the one that holds 0--Parade, 1--Handshaking, …")
    present = [image for image in images if (root / f"{image.path}.jpg").is_file()]
    if not present:
        hint = f"; did you mean {root / 'images'}?" if (root / "images").is_dir() else ""
        what = f"{root} holds none of the {len(images):,} WIDER FACE validation images"
        raise UsageError(f"{what}, expected as {images[0].path}.jpg below it{hint}")
    return present


def _load_cells(path: Path, names: tuple[str, ...]) -> dict[str, list[Any]]:
    """Return the named `(n, 1)` cell arrays of a `.mat` file as lists."""
    if not path.is_file():
        origin = "the evaluation tools of WIDER FACE (eval_tools/ground_truth)"
        raise DataError(f"{path}: no such file; it comes with {origin}")
    content = read_matlab(path, names)
    cells: dict[str, list[Any]] = {}
    for name in names:
        if name not in content:
            raise DataError(f"{path}: has no variable {name!r}; is it one of the official WIDER FACE files?")
        cells[name] = _cells(content[name], path, name)
        if len(cells[name]) != len(cells[names[0]]):
            raise DataError(f"{path}: {name} has {len(cells[name])} entries, {names[0]} {len(cells[names[0]])}")
    return cells


def _cells(array: Any, path: Path, what: str) -> list[Any]:
    """Return an `(n, 1)` cell array as a list."""
    if not isinstance(array, np.ndarray) or array.dtype != object or array.ndim != 2 or array.shape[1] != 1:
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise DataError(f"{path}: {what} must be an n×1 cell array, not {found}")
    return list(array[:, 0])


def _file_name(cell: Any, path: Path, what: str) -> str:
    """Return a cell's text, which must be usable as the name of one file or folder."""
    text = str(cell[0]) if isinstance(cell, np.ndarray) and cell.shape == (1,) and cell.dtype.kind == "U" else ""
    if text in ("", ".", "..") or any(sign in text for sign in "/\\\0\n"):
        raise DataError(f"{path}: {what} must be the name of a file, not {text or cell!r}")
    return text


def _event_images(root: Path, event: str, lists: list[Any]) -> list[ImageTruth]:
    """Return one event's images from its file list, box list and the three subsets' index lists."""
    files = [root / "wider_face_val.mat"] * 2 + [root / f"wider_{subset}_val.mat" for subset in SUBSETS]
    columns = [_cells(cells, path, f"the list of {event}") for cells, path in zip(lists, files, strict=True)]
    for column, path in zip(columns, files, strict=True):
        if len(column) != len(columns[0]):
            raise DataError(f"{path}: {event} has {len(column)} entries for {len(columns[0])} images")
    images = []
    for row, (file_cell, box_cell, *index_cells) in enumerate(zip(*columns, strict=True)):
        name = _file_name(file_cell, files[0], f"image {row + 1} of {event}")
        boxes = _numbers(box_cell, 4, files[0], f"the boxes of {event}/{name}")
        evaluated = np.zeros((len(SUBSETS), len(boxes)), bool)
        for subset, (indices, path) in enumerate(zip(index_cells, files[2:], strict=True)):
            chosen = _numbers(indices, 1, path, f"the evaluated indices of {event}/{name}")[:, 0]
            if np.any((chosen < 1) | (chosen > len(boxes)) | (chosen % 1 != 0)):
                raise DataError(f"{path}: {event}/{name} has {len(boxes)} boxes, but an index outside 1–{len(boxes)}")
            evaluated[subset, chosen.astype(np.intp) - 1] = True
        images.append(ImageTruth(event, name, boxes, evaluated))
    return images


def _numbers(cell: Any, columns: int, path: Path, what: str) -> NDArray[np.float64]:
    """Return a cell's numbers as `(n, columns)` float64; an empty cell of any shape becomes `(0, columns)`."""
    if isinstance(cell, np.ndarray) and cell.dtype.kind in "uif":
        if cell.size == 0:
            return np.zeros((0, columns))
        if cell.ndim == 2 and cell.shape[1] == columns and np.isfinite(cell).all():
            return cell.astype(np.float64)
    raise DataError(f"{path}: {what} must be an n×{columns} array of numbers")
