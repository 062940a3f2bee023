"""Reader of COCO annotations: one JSON file with `images`, `annotations` and `categories`.

A box is `x, y, width, height` in pixels. Crowds (`iscrowd`) and boxes marked `ignore` are ignored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_provider_farm.readers.annotations import Listing, RawBox, SourceImage, build_source, json_corners
from lffd.errors import DataError
from lffd.untrusted import parse_json, read_text, shown


def read_coco(images: Path, annotations: Path, class_name: str | None) -> Listing:
    """Return every image of a COCO file, in the order of its `images` list."""
    document = _load(annotations)
    wanted = _category_ids(document, class_name, annotations)
    entries: dict[str | int, tuple[int, dict[str, Any]]] = {}
    for number, entry in enumerate(_list(document, "images", annotations)):
        key = _field(entry, "id", f"{annotations}: images[{number}]")
        if key in entries:
            raise DataError(f"{annotations}: images[{number}] has the id {shown(key)} of images[{entries[key][0]}]")
        entries[key] = (number, entry)
    boxes: dict[str | int, list[RawBox]] = {key: [] for key in entries}
    for number, entry in enumerate(_list(document, "annotations", annotations)):
        where = f"{annotations}: annotations[{number}]"
        image = _field(entry, "image_id", where)
        if image not in entries:
            raise DataError(f"{where}: refers to image {shown(image)}, which the file does not list")
        if wanted is None or _field(entry, "category_id", where) in wanted:
            boxes[image].append(_read_box(entry, where))

    def build(key: str | int, number: int, entry: dict[str, Any]) -> SourceImage:
        where = f"{annotations}: images[{number}]"
        name = str(_field(entry, "file_name", where))
        return build_source(images / name, name, where, boxes[key], size=_read_size(entry, where), folder=images)

    return Listing(len(entries), (build(key, *numbered) for key, numbered in entries.items()))


def _load(path: Path) -> dict[str, Any]:
    """Return the JSON document."""
    document = parse_json(read_text(path), str(path))
    if not isinstance(document, dict):
        raise DataError(f"{path}: a COCO file is an object with images, annotations and categories")
    return document


def _list(document: dict[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    """Return one of the document's lists of objects."""
    entries = document.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{path}: has no list of objects {key!r}")
    return entries


def _field(entry: dict[str, Any], key: str, where: str) -> str | int:
    """Return an id or a name that must be there."""
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{where}: {key!r} must be a number or a text, not {shown(value)}")
    return value


def _category_ids(document: dict[str, Any], class_name: str | None, path: Path) -> set[str | int] | None:
    """Return the ids of the chosen category; None for all."""
    if class_name is None:
        return None
    named = [(str(entry.get("name")), entry) for entry in _list(document, "categories", path)]
    found = {_field(entry, "id", f"{path}: category {name!r}") for name, entry in named if name == class_name}
    if not found:
        names = ", ".join(sorted({name for name, _ in named}))
        raise DataError(f"{path}: has no category {class_name!r}; it has {names}")
    return found


def _read_box(entry: dict[str, Any], where: str) -> RawBox:
    """Return the box of one annotation."""
    ignored = bool(entry.get("iscrowd") or entry.get("ignore"))
    return RawBox(json_corners(entry.get("bbox"), where, "bbox"), where, ignored)


def _read_size(entry: dict[str, Any], where: str) -> tuple[int, int] | None:
    """Return the size that the file claims for an image, if it does."""
    width, height = entry.get("width"), entry.get("height")
    if width is None or height is None:
        return None
    if not isinstance(width, int) or not isinstance(height, int) or width < 1 or height < 1:
        sizes = f"{shown(width)} and {shown(height)}"
        raise DataError(f"{where}: width and height must be whole numbers of pixels, not {sizes}")
    return width, height
