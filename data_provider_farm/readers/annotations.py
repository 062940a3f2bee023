"""What an annotation reader yields, and the checks that all of them share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lffd.errors import DataError
from lffd.records import AnnotatedImage

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

BLOCK = 32

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
    good = _are_boxes(corners)
    if not good.all():
        problems = tuple(_fault(raw.corners[index], places[index]) for index in np.flatnonzero(~good))
        corners, ignored = corners[good], ignored[good]
        places = tuple(places[index] for index in np.flatnonzero(good))
    boxes = corners.astype(np.float32)
    return SourceImage(path, boxes, ignored, name, where, places, size, problems, data)


def build_sources(entries: Iterable[tuple[Path, str, str, RawBoxes]]) -> Iterator[SourceImage]:
    """Yield what `build_source` makes of each path, name, place and raw boxes, faster than one by one."""
    source = iter(entries)
    while block := list(islice(source, BLOCK)):
        corners = np.array([box for *_, raw in block for box in raw.corners], np.float64).reshape(-1, 4)
        if not _are_boxes(corners).all():
            yield from (build_source(*entry) for entry in block)
            continue
        boxes = corners.astype(np.float32)
        ignored = np.array([flag for *_, raw in block for flag in raw.ignored], np.bool_)
        start = 0
        for path, name, where, raw in block:
            end = start + len(raw.where)
            yield SourceImage(path, boxes[start:end], ignored[start:end], name, where, tuple(raw.where))
            start = end


def _are_boxes(corners: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which rows are boxes: usable numbers, no negative size."""
    # A comparison with NaN is false, so this finds rows that are not numbers too.
    return (np.abs(corners) <= MAX_COORDINATE).all(axis=1) & (corners[:, 2:] >= corners[:, :2]).all(axis=1)


def _fault(corners: Corners, where: str) -> Flaw:
    """Return what makes a box unusable."""
    x0, y0, x1, y1 = corners
    shown = ", ".join(f"{value:g}" for value in corners)
    numbers = all(abs(value) <= MAX_COORDINATE for value in corners)
    fault = f"has a negative size ({x1 - x0:g}x{y1 - y0:g})" if numbers else "is not made of usable numbers"
    return Flaw("bad-box", where, f"box ({shown}) {fault}")


def parse_number(text: str, where: str, what: str) -> float:
    """Return a number from a text file; `nan` is let through for `RawBox.fault` to report.

    Raises:
        DataError: when `text` is no number.
    """
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{where}: {what} must be a number, not {text.strip()!r}") from None


def parse_numbers(texts: Sequence[str], where: str, what: str) -> Corners:
    """Return four numbers; see `parse_number`."""
    a, b, c, d = (parse_number(text, where, what) for text in texts)
    return a, b, c, d


def read_text(path: Path) -> str:
    """Return a UTF-8 text file (a byte order mark is dropped).

    Raises:
        DataError: when it cannot be read or is not text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start})") from error


def xywh(x: float, y: float, width: float, height: float) -> Corners:
    """Return x0, y0, x1, y1 for a corner and a size."""
    return x, y, x + width, y + height


def relative_name(path: Path, folder: Path) -> str:
    """Return the name of an image inside its dataset, with forward slashes."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()
