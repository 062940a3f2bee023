"""Reader of CrowdHuman's `.odgt` files: one JSON object per line, for the image `ID.jpg`.

Each person has three boxes `x, y, width, height` in pixels: of the head (`hbox`), of the whole body even where it is
hidden (`fbox`), and of its visible part (`vbox`). Groups and pictures of people (every tag but `person`), bodies whose
`extra` says `ignore`, and heads whose `head_attr` says so are ignored, as in the dataset's own evaluation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from data_provider_farm.readers.annotations import Listing, RawBox, SourceImage, build_source, xywh
from data_provider_farm.readers.json_values import numbers, parse_json
from lffd.errors import DataError
from lffd.untrusted import read_text, shown

BodyPart = Literal["head", "full", "visible"]
KEYS: dict[BodyPart, str] = {"head": "hbox", "full": "fbox", "visible": "vbox"}


def read_crowdhuman(images: Path, annotations: Path, part: BodyPart) -> Listing:
    """Return every image of an `.odgt` file, in its order, with the boxes of one part of each person."""
    lines = enumerate(read_text(annotations).splitlines(), start=1)
    listed = [(number, line) for number, line in lines if line.strip()]
    return Listing(len(listed), (_read_line(images, annotations, number, line, part) for number, line in listed))


def _read_line(images: Path, file: Path, number: int, line: str, part: BodyPart) -> SourceImage:
    """Return the image of one line."""
    where = f"{file}:{number}"
    entry = parse_json(line, file, "an .odgt file", number)
    name, people = (entry.get("ID"), entry.get("gtboxes")) if isinstance(entry, dict) else (None, None)
    if not isinstance(name, str) or not isinstance(people, list) or not all(isinstance(one, dict) for one in people):
        raise DataError(f'{where}: expected {{"ID": "…", "gtboxes": [{{…}}, …]}}, found {shown(entry)}')
    boxes = [_read_person(person, f"{where}: gtboxes[{index}]", part) for index, person in enumerate(people)]
    return build_source(images / f"{name}.jpg", f"{name}.jpg", where, boxes, folder=images)


def _read_person(person: dict[str, Any], where: str, part: BodyPart) -> RawBox:
    """Return the chosen box of one entry."""
    ignored = person.get("tag") != "person" or _says_ignore(person, "extra", where)
    ignored = ignored or (part == "head" and _says_ignore(person, "head_attr", where))
    x, y, width, height = numbers(person.get(KEYS[part]), where, KEYS[part], "[x, y, width, height]")
    return RawBox(xywh(x, y, width, height), where, ignored)


def _says_ignore(person: dict[str, Any], key: str, where: str) -> bool:
    """Return whether an object of flags, which may be missing, asks to ignore the box."""
    flags = person.get(key, {})
    if not isinstance(flags, dict):
        raise DataError(f"{where}: {key} must be an object, not {shown(flags)}")
    return bool(flags.get("ignore"))
