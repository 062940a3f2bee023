"""Readers of line-based annotations: CSV with a header row, and the published LFFD text list."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from data_provider_farm.readers.annotations import (
    MAX_COORDINATE,
    Listing,
    RawBox,
    SourceImage,
    build_source,
    parse_numbers,
    xywh,
)
from lffd.errors import DataError
from lffd.untrusted import parse_number, parse_whole, read_text

IMAGE_COLUMNS = ("image", "filename", "file", "path", "image_path")
CLASS_COLUMNS = ("class", "label", "name", "category")
IGNORED_COLUMNS = ("ignored", "ignore", "difficult")
CORNER_COLUMNS = (("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"))
SIZE_COLUMNS = (("x", "y", "w", "h"), ("x", "y", "width", "height"))
TRUE, FALSE = ("1", "true", "yes"), ("", "0", "false", "no")


def read_csv(images: Path, annotations: Path, class_name: str | None) -> Listing:
    """Return every image of a CSV file, in the order of first mention; one row is one box.

    The first row names the columns, in any order: an image column (`image`, `filename`, …), four box columns in pixels
    (`x0 y0 x1 y1`, `xmin ymin xmax ymax`, `x1 y1 x2 y2`, `x y w h` or `x y width height`), and if wanted a class
    (`class`, `label`, …) and an ignore flag (`ignored`, …). With corner columns, `width` and `height` are the image's
    size. A row without box numbers lists a background image.
    """
    reader = csv.DictReader(io.StringIO(read_text(annotations)), strict=True)
    found: dict[str, tuple[str, tuple[int, int] | None, list[RawBox]]] = {}
    try:
        columns = _Columns(tuple((field or "").strip().lower() for field in reader.fieldnames or ()), annotations)
        if class_name is not None and columns.class_name is None:
            known = ", ".join(CLASS_COLUMNS)
            raise DataError(f"{annotations}:1: has no class column ({known}) to find {class_name!r} in")
        for fields in reader:
            where = f"{annotations}:{reader.line_num}"
            if None in fields or None in fields.values():
                raise DataError(f"{where}: the number of fields is not that of the first row ({len(columns.names)})")
            row = dict(zip(columns.names, (text.strip() for text in fields.values()), strict=True))
            name = row[columns.image]
            if not name:
                raise DataError(f"{where}: names no image")
            boxes = found.setdefault(name, (where, columns.image_size(row, where), []))[2]
            if class_name is None or row[columns.class_name or ""] == class_name:
                boxes += columns.read_box(row, where)
    except csv.Error as error:
        raise DataError(f"{annotations}:{reader.line_num + 1}: is not CSV: {error}") from error
    sources = (
        build_source(images / name, name, where, boxes, size=size, folder=images)
        for name, (where, size, boxes) in found.items()
    )
    return Listing(len(found), sources)


class _Columns:
    """Which column of a CSV file means what."""

    def __init__(self, names: tuple[str, ...], path: Path) -> None:
        self.names = names
        if repeated := {name for name in names if names.count(name) > 1}:
            raise DataError(f"{path}:1: names a column twice: {', '.join(sorted(repeated))}")
        image, self.class_name, self.ignored = (
            next((name for name in choices if name in names), None)
            for choices in (IMAGE_COLUMNS, CLASS_COLUMNS, IGNORED_COLUMNS)
        )
        layouts = [four for four in CORNER_COLUMNS + SIZE_COLUMNS if set(four) <= set(names)]
        if image is None or not layouts:
            raise DataError(
                f"{path}:1: the first row must name an image column ({', '.join(IMAGE_COLUMNS)}) and four box columns "
                f"(such as xmin, ymin, xmax, ymax); it names {', '.join(names) or 'nothing'}"
            )
        self.image, self.box = image, layouts[0]

    def image_size(self, row: dict[str, str], where: str) -> tuple[int, int] | None:
        """Return the image's size where the table holds it."""
        if self.box not in CORNER_COLUMNS or not row.get("width") or not row.get("height"):
            return None
        width, height = (parse_number(row[key], where, f"the image's {key}") for key in ("width", "height"))
        if not all(1 <= value <= MAX_COORDINATE and value % 1 == 0 for value in (width, height)):
            raise DataError(f"{where}: the image's width and height must be whole numbers of pixels")
        return int(width), int(height)

    def read_box(self, row: dict[str, str], where: str) -> list[RawBox]:
        """Return the row's box; none for a background image."""
        texts = [row[name] for name in self.box]
        if not any(texts):
            return []
        numbers = parse_numbers(texts, where, f"each of {', '.join(self.box)}")
        flag = row[self.ignored].lower() if self.ignored else ""
        if flag not in TRUE + FALSE:
            raise DataError(f"{where}: {self.ignored} must be one of {', '.join(TRUE + FALSE[1:])}, not {flag!r}")
        return [RawBox(numbers if self.box in CORNER_COLUMNS else xywh(*numbers), where, flag in TRUE)]


def read_list(images: Path, annotations: Path) -> Listing:
    """Return every image of a published LFFD text list, in its order.

    A line is `path,1,n,x,y,w,h,…` for an image with `n` boxes in pixels, or `path,0` for a background image. A path
    that is not absolute is looked up in `images`.
    """
    lines = enumerate(read_text(annotations).splitlines(), start=1)
    listed = [(line, f"{annotations}:{number}") for number, line in lines if line.strip()]
    return Listing(len(listed), (_read_list_line(images, line, where) for line, where in listed))


def _read_list_line(images: Path, line: str, where: str) -> SourceImage:
    """Return the image of one line of the text list."""
    name, *fields = (field.strip() for field in line.strip().rstrip(",").split(","))
    path = images / name
    name = (path.relative_to(images) if path.is_relative_to(images) else path).as_posix().lstrip("/")
    return build_source(path, name, where, _list_boxes(fields, where), folder=images)


def _list_boxes(fields: list[str], where: str) -> list[RawBox]:
    """Return the boxes of one line of the text list, from its flag on."""
    if fields in (["0"], ["0", "0"]):
        return []
    expected = "`path,1,n,x,y,w,h,…` or `path,0`"
    if len(fields) < 2 or fields[0] != "1":
        raise DataError(f"{where}: expected {expected}")
    count, numbers = parse_whole(fields[1], where, expected), fields[2:]
    if len(numbers) != 4 * count:
        raise DataError(f"{where}: announces {count} boxes, so {4 * count} numbers, but holds {len(numbers)}")
    rows = (parse_numbers(numbers[start : start + 4], where, "a box's x, y, w, h") for start in range(0, 4 * count, 4))
    return [RawBox(xywh(*row), where) for row in rows]
