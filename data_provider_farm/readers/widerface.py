"""Reader of WIDER FACE annotations: the official text file and the official `.mat` file.

In both a face is `x, y, w, h` in pixels, and `invalid` marks faces that even people cannot make out: they are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_provider_farm.readers.annotations import (
    Listing,
    RawBoxes,
    SourceImage,
    build_source,
    build_sources,
    read_text,
    xywh,
)
from lffd.errors import DataError

FIELDS = 10
Entry = tuple[str, list[list[float]], list[int]]

MAT_TABLES = ("event_list", "file_list", "face_bbx_list", "invalid_label_list")


def read_widerface(images: Path, annotations: Path) -> Listing:
    """Return the images that a WIDER FACE annotation file lists, in its order.

    Args:
        images: the folder that holds the event folders, such as `WIDER_train/images`.
        annotations: `wider_face_*_bbx_gt.txt` or `wider_face_*.mat`.

    Raises:
        DataError: when the file is not such a file, with the line.
    """
    if annotations.suffix == ".mat":
        entries = _load_mat(annotations)
        return Listing(len(entries), _read_entries(images, annotations, entries))
    lines = read_text(annotations).splitlines()
    return Listing(sum(map(_is_name, lines)), build_sources(_read_lines(images, annotations, lines)))


def _is_name(line: str) -> bool:
    return line.rstrip().lower().endswith((".jpg", ".jpeg", ".png"))


def _read_lines(images: Path, annotations: Path, lines: list[str]) -> Iterator[tuple[Path, str, str, RawBoxes]]:
    """Yield path, name, place and faces of the images of the text form.

    An image is a name, a count, then that many lines of ten numbers. One with the count 0 is followed by a line of
    zeros all the same; it stands for no face.
    """
    file, position = str(annotations), 0
    while position < len(lines):
        name = lines[position].strip()
        where = f"{file}:{position + 1}"
        if not name:
            position += 1
            continue
        if not _is_name(name):
            raise DataError(f"{where}: expected the name of an image, found {name!r}")
        count_text = lines[position + 1].strip() if position + 1 < len(lines) else "the end of the file"
        if not count_text.isdecimal():
            raise DataError(
                f"{annotations}:{position + 2}: expected the number of faces in {name}, found {count_text!r}"
            )
        count, first = int(count_text), position + 2
        if first + count > len(lines):
            raise DataError(
                f"{where}: {name} announces {count} faces, but the file ends after {len(lines) - first} lines"
            )
        faces = _read_faces(lines[first : first + count], file, first + 1)
        position = first + count
        if count == 0 and position < len(lines) and len(lines[position].split()) == FIELDS:
            position += 1
        yield images / name, name, where, faces


def _read_faces(lines: list[str], file: str, first: int) -> RawBoxes:
    """Return the faces of one image; `first` is the number of its first line."""
    corners, ignored = [], []
    for number, line in enumerate(lines, start=first):
        try:
            x, y, width, height, _, _, _, invalid, _, _ = line.split()
            left, top = float(x), float(y)
            corners.append((left, top, left + float(width), top + float(height)))
        except ValueError as error:
            raise DataError(
                f"{file}:{number}: expected ten numbers (x y w h blur expression illumination invalid occlusion pose), "
                f"found {line.strip()!r}"
            ) from error
        ignored.append(invalid == "1")
    return RawBoxes(corners, [f"{file}:{number}" for number in range(first, first + len(lines))], ignored)


def _read_entries(images: Path, annotations: Path, entries: list[Entry]) -> Iterator[SourceImage]:
    """Yield the images of the `.mat` form."""
    for name, faces, flags in entries:
        where = f"{annotations}: {name}"
        if len(flags) != len(faces):
            raise DataError(f"{where}: has {len(faces)} faces but {len(flags)} invalid flags")
        lone_zeros = len(faces) == 1 and not any(faces[0])  # it stands for no face
        raw = RawBoxes()
        for number, (face, flag) in enumerate(zip(faces, flags, strict=True), start=1):
            if not lone_zeros:
                raw.add(xywh(*face), f"{where}, face {number}", flag == 1)
        yield build_source(images / name, name, where, raw)


def _mat_entries(tables: dict[str, Any]) -> Iterator[Entry]:
    """Yield each image's name, faces and invalid flags, event by event."""
    columns = (tables[key] for key in MAT_TABLES)
    for event, *lists in zip(*columns, strict=True):
        for file, boxes, invalid in zip(*(rows[0] for rows in lists), strict=True):
            name = f"{event[0][0]}/{file[0][0]}.jpg"
            yield name, boxes[0].reshape(-1, 4).tolist(), invalid[0].ravel().tolist()


def _load_mat(annotations: Path) -> list[Entry]:
    """Return the entries of a MATLAB file."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        tables: dict[str, Any] = loadmat(annotations, variable_names=MAT_TABLES)
    except OSError as error:
        raise DataError(f"{annotations}: cannot be read: {error.strerror or error}") from error
    except (MatReadError, ValueError, NotImplementedError, TypeError) as error:
        raise DataError(f"{annotations}: is not a MATLAB 5 file: {error}") from error
    missing = [key for key in MAT_TABLES if key not in tables]
    if missing:
        raise DataError(
            f"{annotations}: has no {', '.join(missing)}; expected one like wider_face_train.mat or wider_face_val.mat"
        )
    try:
        return list(_mat_entries(tables))
    except (IndexError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{annotations}: is not laid out like wider_face_train.mat and wider_face_val.mat") from error
