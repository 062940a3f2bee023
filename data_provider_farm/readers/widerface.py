"""Reader of WIDER FACE annotations: the official text file and the official `.mat` file.

In both a face is `x, y, w, h` in pixels, and `invalid` marks faces that even people cannot make out: they are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_provider_farm.readers.annotations import Listing, RawBox, SourceImage, build_source, xywh
from lffd.errors import DataError
from lffd.matlab import read_matlab
from lffd.untrusted import parse_whole, read_text, shown

FIELDS = 10
LAYOUT = "ten numbers (x y w h blur expression illumination invalid occlusion pose)"
Entry = tuple[str, list[list[float]], list[int]]

MAT_TABLES = ("event_list", "file_list", "face_bbx_list", "invalid_label_list")


def read_widerface(images: Path, annotations: Path) -> Listing:
    """Return the images that `wider_face_*_bbx_gt.txt` or `wider_face_*.mat` lists, in its order."""
    if annotations.suffix == ".mat":
        entries = _load_mat(annotations)
        return Listing(len(entries), _read_entries(images, annotations, entries))
    lines = read_text(annotations).splitlines()
    return Listing(sum(map(_is_name, lines)), _read_lines(images, str(annotations), lines))


def _is_name(line: str) -> bool:
    return line.rstrip().lower().endswith((".jpg", ".jpeg", ".png"))


def _read_lines(images: Path, file: str, lines: list[str]) -> Iterator[SourceImage]:
    """Yield the images of the text form.

    An image is a name, a count, then that many lines of ten numbers. One with the count 0 is followed by a line of
    zeros all the same; it stands for no face.
    """
    position = 0
    while position < len(lines):
        name, where = lines[position].strip(), f"{file}:{position + 1}"
        if not name:
            position += 1
            continue
        if not _is_name(name):
            raise DataError(f"{where}: expected the name of an image, found {shown(name)}")
        text, first = lines[position + 1] if position + 1 < len(lines) else "the end of the file", position + 2
        count = parse_whole(text, f"{file}:{first}", f"the number of faces in {name}")
        if first + count > len(lines):
            left = len(lines) - first
            raise DataError(f"{where}: {name} announces {count} faces, but the file ends after {left} lines")
        faces = [_read_face(lines[number], f"{file}:{number + 1}") for number in range(first, first + count)]
        position = first + count
        if count == 0 and position < len(lines) and len(lines[position].split()) == FIELDS:
            position += 1
        yield build_source(images / name, name, where, faces, folder=images)


def _read_face(line: str, where: str) -> RawBox:
    """Return the face of one line."""
    try:
        x, y, width, height, _, _, _, invalid, _, _ = map(float, line.split())
    except ValueError as error:
        raise DataError(f"{where}: expected {LAYOUT}, found {shown(line.strip())}") from error
    if "_" in line or invalid not in (0, 1):  # Python takes 1_0 for 10
        raise DataError(f"{where}: expected {LAYOUT}, invalid being 0 or 1, found {shown(line.strip())}")
    return RawBox(xywh(x, y, width, height), where, invalid == 1)


def _read_entries(images: Path, annotations: Path, entries: list[Entry]) -> Iterator[SourceImage]:
    """Yield the images of the `.mat` form."""
    for name, faces, flags in entries:
        where = f"{annotations}: {name}"
        if len(flags) != len(faces):
            raise DataError(f"{where}: has {len(faces)} faces but {len(flags)} invalid flags")
        raw = [
            RawBox(xywh(*face), f"{where}, face {number}", flag == 1)
            for number, (face, flag) in enumerate(zip(faces, flags, strict=True), start=1)
        ]
        lone_zeros = len(faces) == 1 and not any(faces[0])  # it stands for no face
        yield build_source(images / name, name, where, [] if lone_zeros else raw, folder=images)


def _mat_entries(tables: dict[str, Any]) -> Iterator[Entry]:
    """Yield each image's name, faces and invalid flags, event by event."""
    columns = (tables[key] for key in MAT_TABLES)
    for event, *lists in zip(*columns, strict=True):
        for file, boxes, invalid in zip(*(rows[0] for rows in lists), strict=True):
            name = f"{event[0][0]}/{file[0][0]}.jpg"
            yield name, boxes[0].reshape(-1, 4).astype(float).tolist(), invalid[0].ravel().tolist()


def _load_mat(annotations: Path) -> list[Entry]:
    """Return the entries of a MATLAB file."""
    tables = read_matlab(annotations, MAT_TABLES)
    if missing := [key for key in MAT_TABLES if key not in tables]:
        models = "one like wider_face_train.mat or wider_face_val.mat"
        raise DataError(f"{annotations}: has no {', '.join(missing)}; expected {models}")
    try:
        return list(_mat_entries(tables))
    except (IndexError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{annotations}: is not laid out like wider_face_train.mat and wider_face_val.mat") from error
