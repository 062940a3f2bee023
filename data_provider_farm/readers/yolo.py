"""Reader of YOLO annotations: beside every image `NAME.jpg` a text file `NAME.txt`, one object per line.

A line is `class x y width height`: the class counts from 0, `x, y` is the box's centre, and all four are fractions of
the image's width and height. An image without a text file, or with an empty one, is a background image. YOLO-pose lines
go on with the five points of a face, in the order of `lffd.points`: `x y` of each, as fractions too, and below 0 for a
point that is not known; or `x y visible` of each, with COCO's 0, 1 or 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import mul
from pathlib import Path

from data_provider_farm.readers.annotations import (
    FivePoints,
    Listing,
    RawBox,
    SourceImage,
    build_source,
    parse_numbers,
)
from lffd.errors import DataError
from lffd.images.files import list_images, read_size
from lffd.points import COUNT, SEEN, UNKNOWN
from lffd.untrusted import parse_number, parse_whole, read_text, shown

NAME_FILES = ("classes.txt", "obj.names")


def read_yolo(images: Path, annotations: Path, class_name: str | None, turned: bool = False) -> Listing:
    """Return every image of a folder and its subfolders, sorted by path, with the boxes of its text file.

    The text files lie in the same subfolders. A class may be given by number, or by name when the annotation folder has
    `classes.txt` or `obj.names`. When `turned`, the fractions are of the image as its EXIF tag turns it.
    """
    if not annotations.is_dir():
        raise DataError(f"{annotations}: YOLO annotations are a folder of text files")
    wanted = None if class_name is None else _class_number(annotations, class_name)
    files = list_images(images)
    labels = [(annotations / path.relative_to(images)).with_suffix(".txt") for path in files]
    if not any(label.exists() for label in labels):
        raise DataError(f"{annotations}: holds no text file for any image of {images}, such as {labels[0]}")
    pairs = zip(files, labels, strict=True)
    return Listing(len(files), (build_yolo(images, path, label, wanted, turned) for path, label in pairs))


def build_yolo(images: Path, path: Path, label: Path, wanted: int | None, turned: bool) -> SourceImage:
    """Return the source image, named by its place in `images`, its boxes in pixels.

    An image that cannot be read is left to the packer to report.
    """
    name, where = path.relative_to(images).as_posix(), str(label if label.exists() else path)
    boxes = _read_lines(label, wanted) if label.exists() else []
    try:
        width, height = read_size(path, turned) if boxes else (1, 1)
    except DataError:
        return build_source(path, name, where, folder=images)
    factors = (width, height, width, height)
    scaled = [box._replace(corners=tuple(map(mul, box.corners, factors))) for box in boxes]
    scaled = [
        box._replace(landmarks=box.landmarks and tuple((x * width, y * height, flag) for x, y, flag in box.landmarks))
        for box in scaled
    ]
    return build_source(path, name, where, scaled, folder=images)


def _read_lines(label: Path, wanted: int | None) -> list[RawBox]:
    """Return the boxes of one text file as corners in fractions of the image."""
    boxes = []
    for place, line in enumerate(read_text(label).splitlines(), start=1):
        where, fields = f"{label}:{place}", line.split()
        if not fields:
            continue
        if len(fields) not in (5, 5 + 2 * COUNT, 5 + 3 * COUNT):
            expected = "`class x y width height`, perhaps with five points behind it"
            raise DataError(f"{where}: expected {expected}, found {shown(line.strip())}")
        number = parse_whole(fields[0], where, "`class x y width height` with a class number")
        if wanted is None or number == wanted:
            x, y, width, height = parse_numbers(fields[1:5], where, "a box's x, y, width, height")
            corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            boxes.append(RawBox(corners, where, landmarks=_read_points(fields[5:], where)))
    return boxes


def _read_points(fields: list[str], where: str) -> FivePoints | None:
    """Return the five points at the end of a line, if there are any."""
    if not fields:
        return None
    numbers, each = [parse_number(field, where, "a point's number") for field in fields], len(fields) // COUNT
    rows = (numbers[start : start + each] for start in range(0, len(numbers), each))
    return tuple((x, y, rest[0] if rest else SEEN if min(x, y) >= 0 else UNKNOWN) for x, y, *rest in rows)


def _class_number(annotations: Path, class_name: str) -> int:
    """Return the number of a class given by number, or by name where the folder has a file of names."""
    if file := next((annotations / name for name in NAME_FILES if (annotations / name).exists()), None):
        return class_number(class_name, read_text(file).splitlines(), file)
    if class_name.isdecimal():
        return parse_whole(class_name, "--class-name", "the number of a class")
    hint = f"put the names in {annotations / NAME_FILES[0]}, one per line; or give its number"
    raise DataError(f"{annotations}: to choose the class {class_name!r} by name, {hint}")


def class_number(class_name: str, names: Sequence[str], file: Path) -> int:
    """Return the number of a class given by name, or by its number; `file` has the names, in the order of numbers."""
    stripped = [name.strip() for name in names]
    if class_name in stripped:
        return stripped.index(class_name)
    if class_name.isdecimal():
        return parse_whole(class_name, "--class-name", "the number of a class")
    raise DataError(f"{file}: has no class {class_name!r}; it has {', '.join(filter(None, stripped))}")
