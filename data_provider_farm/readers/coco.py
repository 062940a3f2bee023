"""Reader of COCO annotations: one JSON file with `images`, `annotations` and `categories`.

A box is `x, y, width, height` in pixels. Crowds (`iscrowd`) and boxes marked `ignore` are ignored. Keypoints become the
five points of a face where the category's keypoints are named after them (`left_eye`, `nose`, `right_mouth`, …) or are
just five, which are then taken in the order of `lffd.points`. A `score`, as `detection.label` writes it, says how sure
an annotation is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data_provider_farm.readers.annotations import (
    FivePoints,
    Listing,
    RawBox,
    SourceImage,
    build_source,
    xywh,
)
from data_provider_farm.readers.json_values import image_size, numbers, parse_json
from lffd.errors import DataError
from lffd.points import COUNT, MIRRORED
from lffd.untrusted import read_text, shown


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
    orders = _point_orders(document)
    for number, entry in enumerate(_list(document, "annotations", annotations)):
        where = f"{annotations}: annotations[{number}]"
        image = _field(entry, "image_id", where)
        if image not in entries:
            raise DataError(f"{where}: refers to image {shown(image)}, which the file does not list")
        if wanted is None or _field(entry, "category_id", where) in wanted:
            order = orders.get(str(entry.get("category_id")), list(range(COUNT)))
            boxes[image].append(_read_box(entry, where, order))
    if _names_are_the_persons(boxes.values()):
        boxes = {key: [_mirrored(box) for box in listed] for key, listed in boxes.items()}

    def build(key: str | int, number: int, entry: dict[str, Any]) -> SourceImage:
        where = f"{annotations}: images[{number}]"
        name = str(_field(entry, "file_name", where))
        return build_source(images / name, name, where, boxes[key], size=image_size(entry, where), folder=images)

    return Listing(len(entries), (build(key, *numbered) for key, numbered in entries.items()))


def _load(path: Path) -> dict[str, Any]:
    """Return the JSON document."""
    document = parse_json(read_text(path), path, "a COCO file")
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


def _point_orders(document: dict[str, Any]) -> dict[str, list[int]]:
    """Return, by category, which of its keypoints are the five points; none where they cannot be told by name."""
    found = {}
    categories = document.get("categories")
    for entry in categories if isinstance(categories, list) else ():
        names = entry.get("keypoints") if isinstance(entry, dict) else None
        if isinstance(names, list) and names:
            found[str(entry.get("id"))] = _point_order([str(name).lower() for name in names])
    return found


def _point_order(names: Sequence[str]) -> list[int]:
    """Return which of the named keypoints are eyes, nose and mouth's corners; of five unknown names, all in order."""
    chosen = []
    for part, side in (("eye", "left"), ("eye", "right"), ("nose", ""), ("mouth", "left"), ("mouth", "right")):
        fitting = [place for place, name in enumerate(names) if part in name and side in name]
        if len(fitting) != 1:
            return list(range(COUNT)) if len(names) == COUNT else []
        chosen += fitting
    return chosen


def _names_are_the_persons(boxes: Iterable[Sequence[RawBox]]) -> bool:
    """Return whether left means the person's own left, as in COCO itself: in most faces it is on the image's right."""
    faces = (box.landmarks for listed in boxes for box in listed if box.landmarks is not None)
    return sum((face[0][0] > face[1][0]) - (face[0][0] < face[1][0]) for face in faces if face[0][2] and face[1][2]) > 0


def _mirrored(box: RawBox) -> RawBox:
    """Return a box with left and right points exchanged."""
    points = box.landmarks
    return box if points is None else box._replace(landmarks=tuple(points[place] for place in MIRRORED))


def _read_points(entry: dict[str, Any], order: Sequence[int], where: str) -> FivePoints | None:
    """Return the five points of one annotation, if it has them."""
    values = entry.get("keypoints")
    if values is None or not order:
        return None
    if not isinstance(values, list) or len(values) % 3 or len(values) <= 3 * max(order):
        raise DataError(f"{where}: keypoints must be x, y, visibility of each named point, not {shown(values)}")
    rows = (numbers(values[3 * at : 3 * at + 3], where, "a keypoint", "[x, y, visibility]") for at in order)
    return tuple((x, y, flag) for x, y, flag in rows)


def _read_box(entry: dict[str, Any], where: str, order: Sequence[int]) -> RawBox:
    """Return the box of one annotation."""
    x, y, width, height = numbers(entry.get("bbox"), where, "bbox", "[x, y, width, height]")
    ignored = bool(entry.get("iscrowd") or entry.get("ignore"))
    score = None
    if "score" in entry:
        (score,) = numbers([entry["score"]], where, "score", "[score]")
    return RawBox(xywh(x, y, width, height), where, ignored, _read_points(entry, order, where), score)
