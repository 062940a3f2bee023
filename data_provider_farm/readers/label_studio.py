"""Reader of Label Studio's JSON export: a list of tasks, each with its annotations.

A rectangle is `x, y, width, height` in percent of the picture as a browser shows it; `rotation` turns it clockwise in
degrees about its upper left corner, and then the upright box around it is taken, and listed as such. Of several
annotations of a task, the one marked as ground truth counts, else the latest that was not cancelled; a task without one
is left out, since nobody looked at it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from data_provider_farm.readers.annotations import (
    Flaw,
    Listing,
    RawBox,
    SourceImage,
    around_turned,
    build_source,
    xywh,
)
from data_provider_farm.readers.json_values import numbers, parse_json
from lffd.errors import DataError
from lffd.untrusted import read_text, shown

UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-")
"""Label Studio puts eight digits before the name of an uploaded file."""


def read_label_studio(images: Path, annotations: Path, class_name: str | None) -> Listing:
    """Return the image of every annotated task, in the file's order.

    A task's file is looked for in `images` under the path that it names (that of a local file, or of an address), then
    by its name alone, with and without the prefix that an upload gets.
    """
    tasks = parse_json(read_text(annotations), annotations, "a Label Studio export")
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise DataError(f"{annotations}: a Label Studio export (JSON, not JSON-MIN) is a list of tasks")
    chosen = [
        (task, annotation, f"{annotations}: task {number}")
        for number, task in enumerate(tasks)
        if (annotation := _annotation(task, f"{annotations}: task {number}")) is not None
    ]
    if not chosen:
        raise DataError(f"{annotations}: no task has an annotation; export as JSON, not as JSON-MIN")
    return Listing(len(chosen), (_build(images, *one, class_name) for one in chosen))


def _annotation(task: dict[str, Any], where: str) -> dict[str, Any] | None:
    """Return the annotation of a task that counts; None when nobody annotated it."""
    entries = task.get("annotations", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{where}: annotations must be a list of objects, not {shown(entries)}")
    done = [entry for entry in entries if not entry.get("was_cancelled")]
    return next((entry for entry in done if entry.get("ground_truth")), done[-1] if done else None)


def _build(
    images: Path, task: dict[str, Any], annotation: dict[str, Any], where: str, class_name: str | None
) -> SourceImage:
    """Return the source image of one task."""
    results = annotation.get("result")
    if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
        raise DataError(f"{where}: result must be a list of objects, not {shown(results)}")
    path = _find(images, task, where)
    boxes: list[RawBox] = []
    problems: list[Flaw] = []
    size: tuple[int, int] | None = None
    for number, result in enumerate(results):
        place = f"{where}: result {number}"
        kind, value = result.get("type"), result.get("value")
        if not isinstance(value, dict) or kind in ("choices", "textarea", "rating", "number"):
            continue
        labels = value.get(str(kind), [])
        if class_name is not None and class_name not in (labels if isinstance(labels, list) else [labels]):
            continue
        if kind != "rectanglelabels":
            problems.append(Flaw("other-shape", place, f"{shown(kind)} is no rectangle"))
            continue
        if result.get("image_rotation"):
            raise DataError(f"{place}: was drawn on a picture turned in Label Studio; turn it back, or save it turned")
        size = _whole(result, "original_width", place), _whole(result, "original_height", place)
        boxes.append(_read_box(value, size, place, problems))
    name = path.relative_to(images).as_posix() if path.is_relative_to(images) else path.name
    return build_source(path, name, where, boxes, size=size, folder=images, problems=tuple(problems))


def _find(images: Path, task: dict[str, Any], where: str) -> Path:
    """Return the image file of a task; where none is there, the path that the packer then reports as missing."""
    data = task.get("data")
    texts = [text for text in data.values() if isinstance(text, str)] if isinstance(data, dict) else []
    if isinstance(data, dict) and isinstance(data.get("image"), str):
        texts = [data["image"]]
    if not texts:
        raise DataError(f"{where}: data names no image")
    try:
        address = urlsplit(texts[0])
        local = parse_qs(address.query).get("d", [""])[0]
    except ValueError:
        raise DataError(f"{where}: {shown(texts[0])} is no file and no address") from None
    path = (local or unquote(address.path)).lstrip("/")
    name = Path(path).name
    if "\0" in path or not name:
        raise DataError(f"{where}: {shown(texts[0])} names no file")
    choices = [path, name, UPLOAD_PREFIX.sub("", name, count=1)]
    return next((images / choice for choice in choices if os.path.isfile(images / choice)), images / choices[-1])


def _whole(result: dict[str, Any], key: str, where: str) -> int:
    """Return the width or height of the picture that a rectangle was drawn on."""
    value = result.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10**6:
        raise DataError(f"{where}: {key} must be a number of pixels, not {shown(value)}")
    return value


def _read_box(value: dict[str, Any], size: tuple[int, int], where: str, problems: list[Flaw]) -> RawBox:
    """Return one rectangle in pixels."""
    given = [value.get(key, 0 if key == "rotation" else None) for key in ("x", "y", "width", "height", "rotation")]
    x, y, width, height, angle = numbers(given, where, "a rectangle", "[x, y, width, height, rotation]")
    across, down = size[0] / 100, size[1] / 100
    corners = xywh(x * across, y * down, width * across, height * down)
    if angle % 360:
        problems.append(Flaw("turned-box", where, f"the rectangle is rotated by {angle:g}°"))
        corners = around_turned(corners, angle, corners[:2])
    return RawBox(corners, where)
