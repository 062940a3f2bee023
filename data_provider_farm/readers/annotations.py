"""What a reader of an annotation format yields, and the checks that all of them share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lffd.records import AnnotatedImage
from lffd.untrusted import parse_number

Corners = tuple[float, float, float, float]

PROBLEM_KINDS: dict[str, str] = {
    "missing-image": "images that are listed but not there; left out",
    "unreadable-image": "images that cannot be read; left out",
    "size-mismatch": "images of another size than their annotation says; left out",
    "bad-box": "boxes that are not numbers or have a negative size; left out",
    "outside-box": "boxes wholly outside their image; left out",
    "clipped-box": "boxes that reached over the image's border; cut there",
    "orientation": "JPEGs whose EXIF tag asks viewers to turn them; packed as stored, the tag set to upright",
}
"""Kind to what it means and what was done about it."""

MAX_COORDINATE = 1e6
"""No image is that large, and float32 still holds such a coordinate to a tenth of a pixel."""


@dataclass(frozen=True)
class Flaw:
    """One fault of a dataset that does not stop the work.

    Attributes:
        kind: a key of `PROBLEM_KINDS`.
        where: file and line, or file and entry.
        text: what is wrong.
    """

    kind: str
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


@dataclass(frozen=True)
class SourceImage(AnnotatedImage):
    """An annotated image as a reader yields it, with where everything was found.

    Attributes:
        name: the image's name inside its dataset; unique there.
        where: file and line (or entry) that lists the image.
        box_where: the same for each box, `N` entries.
        size: width and height in pixels that the annotation claims, if it does.
        problems: boxes that were left out.
        data: the encoded image, where it is not a file of its own; `path` then names the file it came from.
    """

    name: str
    where: str
    box_where: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    problems: tuple[Flaw, ...] = ()
    data: bytes | None = None


@dataclass(frozen=True)
class Listing:
    """A dataset as a reader gives it.

    Attributes:
        count: number of images that it lists.
        images: yields them, in an order that is always the same.
    """

    count: int
    images: Iterator[SourceImage]


@dataclass
class RawBoxes:
    """The boxes of one image as an annotation file gives them, unchecked; three lists of the same length.

    Attributes:
        corners: x0, y0, x1, y1 in pixels.
        where: file and line.
        ignored: the annotation says that this is no object to learn (invalid, difficult, crowd).
    """

    corners: list[Corners] = field(default_factory=list)
    where: list[str] = field(default_factory=list)
    ignored: list[bool] = field(default_factory=list)

    def add(self, corners: Corners, where: str, ignored: bool = False) -> None:
        """Append one box."""
        self.corners.append(corners)
        self.where.append(where)
        self.ignored.append(ignored)


def build_source(
    path: Path,
    name: str,
    where: str,
    raw: RawBoxes,
    *,
    size: tuple[int, int] | None = None,
    data: bytes | None = None,
) -> SourceImage:
    """Return the source image for raw boxes, with unusable boxes turned into problems."""
    corners = np.array(raw.corners, np.float64).reshape(-1, 4)
    ignored, places = np.array(raw.ignored, np.bool_), tuple(raw.where)
    problems: tuple[Flaw, ...] = ()
    # A comparison with NaN is false, so this finds rows that are not numbers too.
    good = (np.abs(corners) <= MAX_COORDINATE).all(axis=1) & (corners[:, 2:] >= corners[:, :2]).all(axis=1)
    if not good.all():
        problems = tuple(_fault(raw.corners[index], places[index]) for index in np.flatnonzero(~good))
        corners, ignored = corners[good], ignored[good]
        places = tuple(places[index] for index in np.flatnonzero(good))
    return SourceImage(path, corners.astype(np.float32), ignored, name, where, places, size, problems, data)


def _fault(corners: Corners, where: str) -> Flaw:
    """Return what makes a box unusable."""
    x0, y0, x1, y1 = corners
    shown = ", ".join(f"{value:g}" for value in corners)
    numbers = all(abs(value) <= MAX_COORDINATE for value in corners)
    fault = f"has a negative size ({x1 - x0:g}x{y1 - y0:g})" if numbers else "is not made of usable numbers"
    return Flaw("bad-box", where, f"box ({shown}) {fault}")


def parse_numbers(texts: Sequence[str], where: str, what: str) -> Corners:
    """Return four numbers; see `lffd.untrusted.parse_number`."""
    a, b, c, d = (parse_number(text, where, what) for text in texts)
    return a, b, c, d


def xywh(x: float, y: float, width: float, height: float) -> Corners:
    """Return x0, y0, x1, y1 for a corner and a size."""
    return x, y, x + width, y + height


def relative_name(path: Path, folder: Path) -> str:
    """Return the name of an image inside its dataset, with forward slashes."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()
