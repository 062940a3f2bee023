"""Reader of CVAT's own format, "CVAT for images 1.1": one XML file with an `<image>` per picture.

A `<box>` has its corners in pixels from 0 on, of the picture as a viewer shows it. Of a rotated box the upright box
around it is taken, and listed as such. Shapes that are no boxes are left out, and listed. Tracks of videos are refused:
their pictures are frames, not files.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from data_provider_farm.readers.annotations import (
    Flaw,
    Listing,
    RawBox,
    SourceImage,
    around_turned,
    build_source,
)
from data_provider_farm.readers.plain_xml import PlainXml, parse_xml
from lffd.errors import DataError
from lffd.untrusted import MAX_TEXT_BYTES, parse_number, parse_whole, shown

OTHER_SHAPES = frozenset({"polygon", "polyline", "points", "ellipse", "mask", "skeleton", "cuboid"})


def read_cvat(images: Path, annotations: Path, class_name: str | None) -> Listing:
    """Return every image of a CVAT file, in its order; `class_name` is the label to take."""
    found: list[_Image] = parse_xml(annotations, _Images(class_name), MAX_TEXT_BYTES)
    if not found:
        raise DataError(f"{annotations}: lists no <image>: is it CVAT XML 1.1, exported as CVAT for images?")
    return Listing(len(found), (_build(images, image) for image in found))


class _Image(NamedTuple):
    """One `<image>`: name, size, where it stands, its boxes, and what was left out or changed."""

    name: str
    size: tuple[int, int]
    where: str
    boxes: list[RawBox]
    problems: list[Flaw]


def _build(images: Path, image: _Image) -> SourceImage:
    """Return the source image of one `<image>`."""
    name, size, where, boxes, problems = image
    path = images / name
    return build_source(path, name, where, boxes, size=size, folder=images, problems=tuple(problems))


class _Images(PlainXml):
    """Collects the images while the file is parsed; no tree is built, so files may be large."""

    def __init__(self, class_name: str | None) -> None:
        self._wanted = class_name
        self._found: list[_Image] = []
        self._labels: set[str] = set()
        self._inside = False
        self._shapes = 0

    def start(self, tag: str, attributes: dict[str, str], /) -> None:
        """Take an image, one of its shapes, or what shows that this is another format."""
        super().start(tag, attributes)
        if self.depth == 1 and tag != "annotations":
            raise DataError(f"{self.file}: is no CVAT XML: it starts with <{tag[:80]}>, not <annotations>")
        if tag == "track" and self.depth == 2:
            hint = "export the task as CVAT for images 1.1, with its pictures"
            raise DataError(f"{self.file}: holds tracks of a video; {hint}")
        if tag == "image" and self.depth == 2:
            self._inside, self._shapes = True, 0
            self._image(attributes)
        elif self._inside and self.depth == 3 and (tag == "box" or tag in OTHER_SHAPES):
            self._shapes += 1
            self._shape(tag, attributes)

    def end(self, tag: str, /) -> None:
        """Leave an image."""
        super().end(tag)
        self._inside = self._inside and self.depth > 1

    def close(self) -> list[_Image]:
        """Return the images; raises DataError when no shape has the label that was asked for."""
        if self._wanted is not None and self._wanted not in self._labels:
            names = ", ".join(sorted(self._labels)) or "no shapes"
            raise DataError(f"{self.file}: has no shape of the label {self._wanted!r}; it has {names}")
        return self._found

    def _image(self, attributes: dict[str, str]) -> None:
        where = f"{self.file}: image {len(self._found) + 1}"
        if not (name := attributes.get("name", "")):
            raise DataError(f"{where}: has no name")
        width, height = (
            parse_whole(attributes.get(key, ""), where, f"a whole number of pixels as {key}")
            for key in ("width", "height")
        )
        self._found.append(_Image(name, (width, height), where, [], []))

    def _shape(self, tag: str, attributes: dict[str, str]) -> None:
        image = self._found[-1]
        where, label = f"{image.where}: shape {self._shapes}", attributes.get("label", "")
        self._labels.add(label)
        if self._wanted not in (None, label):
            return
        if tag != "box":
            image.problems.append(Flaw("other-shape", where, f"a {tag} of the label {shown(label)} is no box"))
            return
        x0, y0, x1, y1, angle = (
            parse_number(attributes.get(key, "0" if key == "rotation" else ""), where, key)
            for key in ("xtl", "ytl", "xbr", "ybr", "rotation")
        )
        if angle % 360:  # clockwise, about the box's centre
            image.problems.append(Flaw("turned-box", where, f"the box is rotated by {angle:g}°"))
            corners = around_turned((x0, y0, x1, y1), angle, ((x0 + x1) / 2, (y0 + y1) / 2))
        else:
            corners = (x0, y0, x1, y1)
        image.boxes.append(RawBox(corners, where))
