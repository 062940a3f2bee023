"""Reader of what a detector said: the JSON that `accuracy_evaluation.predict --json` writes, or a file like it.

The file is a list with one object per image, or has one such object on each line:
`{"image": "a.jpg", "width": 640, "height": 480, "detections": [{"box": [x0, y0, x1, y1], "score": 0.9, "landmarks":
[[x, y], …], "ignored": false}]}`. Of an image, `width` and `height` may be missing; of a detection, all but the box.
The five points are in the order of `lffd.points`, and may have COCO's 0, 1 or 2 behind x and y.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_provider_farm.readers.annotations import FivePoints, Listing, RawBox, SourceImage, build_source
from data_provider_farm.readers.json_values import image_size, numbers, parse_json
from lffd.errors import DataError
from lffd.points import COUNT, SEEN
from lffd.untrusted import read_text, shown


def read_labels(images: Path, annotations: Path) -> Listing:
    """Return every image of a file of labels, in its order; names that start with `images` are taken from there."""
    text = read_text(annotations)
    if text.lstrip().startswith("{"):
        lines = enumerate(text.splitlines(), start=1)
        entries = [parse_json(line, annotations, "labels", number) for number, line in lines if line.strip()]
    else:
        entries = parse_json(text, annotations, "labels")
    if not isinstance(entries, list):
        raise DataError(f"{annotations}: labels are a list of images, or an image on each line")
    named = ((entry, f"{annotations}: image {number}") for number, entry in enumerate(entries, start=1))
    return Listing(len(entries), (_build(images, entry, where) for entry, where in named))


def _build(images: Path, entry: Any, where: str) -> SourceImage:
    """Return one image."""
    if not isinstance(entry, dict) or not isinstance(entry.get("image"), str) or "detections" not in entry:
        raise DataError(f'{where}: expected an object with "image" and "detections", not {shown(entry)}')
    found = entry["detections"]
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise DataError(f'{where}: "detections" must be a list of objects, not {shown(found)}')
    path = images / entry["image"] if not Path(entry["image"]).is_relative_to(images) else Path(entry["image"])
    name = (path.relative_to(images) if path.is_relative_to(images) else path).as_posix().lstrip("/")
    boxes = [_read_box(each, f"{where}, detection {number}") for number, each in enumerate(found, start=1)]
    return build_source(path, name, where, boxes, size=image_size(entry, where), folder=images)


def _read_box(entry: dict[str, Any], where: str) -> RawBox:
    """Return one detection."""
    x0, y0, x1, y1 = numbers(entry.get("box"), where, "box", "[x0, y0, x1, y1]")
    (score,) = numbers([entry.get("score", 1)], where, "score", "[score]")
    if not 0 <= score <= 1:
        raise DataError(f"{where}: a score lies in 0–1, not {score:g}")
    points: FivePoints | None = None
    if (rows := entry.get("landmarks")) is not None:
        if not isinstance(rows, list) or len(rows) != COUNT:
            raise DataError(f"{where}: landmarks must be {COUNT} points, not {shown(rows)}")
        listed = [numbers(row, where, "a point", "[x, y] or [x, y, visible]") for row in rows]
        points = tuple((x, y, rest[0] if rest else SEEN) for x, y, *rest in listed)
    return RawBox((x0, y0, x1, y1), where, entry.get("ignored") is True, points, score if "score" in entry else None)
