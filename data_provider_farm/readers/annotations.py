"""What a reader of an annotation format yields, and the checks that all of them share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lffd.points import COUNT, HIDDEN, SEEN, UNKNOWN, Points
from lffd.untrusted import parse_number, shown

Corners = tuple[float, float, float, float]

FivePoints = tuple[tuple[float, float, float], ...]
"""x, y in pixels and what is known, of each of a face's five points; see `lffd.points`."""

PROBLEM_KINDS: dict[str, str] = {
    "missing-image": "images that are listed but not there; left out",
    "unreadable-image": "images that cannot be read; left out",
    "size-mismatch": "images of another size than their annotation says; left out",
    "bad-box": "boxes that are not numbers or have a negative size; left out",
    "bad-points": "faces whose points are not usable numbers; packed without them",
    "outside-box": "boxes wholly outside their image; left out",
    "clipped-box": "boxes that reached over the image's border; cut there",
    "turned-box": "rotated boxes; the upright boxes around them are taken",
    "other-shape": "shapes that are no boxes; left out",
    "orientation": "JPEGs whose EXIF tag asks viewers to turn them; packed as stored, the tag set to upright",
}
"""Kind to what it means and what was done about it."""

MAX_COORDINATE = 1e6
"""No image is that large, and float32 still holds such a coordinate to a tenth of a pixel."""


class Flaw(NamedTuple):
    """One fault of a dataset that does not stop the work: a key of `PROBLEM_KINDS`, file and line, what is wrong."""

    kind: str
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


@dataclass(frozen=True)
class SourceImage:
    """An image file and its objects as a reader yields them, with where everything was found.

    Attributes:
        path: the image file.
        boxes: `(N, 4)` float32 xyxy in pixels of that image; `N` = 0 for a background image.
        ignored: `(N,)` bool; true boxes are neither objects to learn nor background.
        name: the image's name inside its dataset; unique there.
        where: file and line (or entry) that lists the image.
        box_where: the same for each box, `N` entries.
        problems: boxes that were left out or changed.
        size: width and height in pixels that the annotation claims, if it does.
        data: the encoded image, where it is not a file of its own; `path` then names the file it came from.
        folder: the folder that `path` must not lead out of, where a foreign annotation chose it.
        landmarks: `(N, 5, 3)` float32, see `lffd.points`; None where no box has points.
        scores: `(N,)` float32, 0–1: how sure the annotation is of each box; None where it does not say.
    """

    path: Path
    boxes: NDArray[np.float32]
    ignored: NDArray[np.bool_]
    name: str
    where: str
    box_where: tuple[str, ...] = ()
    problems: tuple[Flaw, ...] = ()
    size: tuple[int, int] | None = None
    data: bytes | None = None
    folder: Path | None = None
    landmarks: Points | None = None
    scores: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Listing:
    """A dataset: the number of images that it lists, and the images, in an order that is always the same."""

    count: int
    images: Iterator[SourceImage]


class RawBox(NamedTuple):
    """A box as an annotation gives it, unchecked.

    Attributes:
        corners: x0, y0, x1, y1 in pixels.
        where: file and line.
        ignored: the annotation says that this is no object to learn (invalid, difficult, crowd).
        landmarks: the five points of a face, if the annotation has them.
        score: how sure the annotation is, 0–1, if it says so.
    """

    corners: Corners
    where: str
    ignored: bool = False
    landmarks: FivePoints | None = None
    score: float | None = None


def build_source(
    path: Path,
    name: str,
    where: str,
    raw: Sequence[RawBox] = (),
    *,
    size: tuple[int, int] | None = None,
    data: bytes | None = None,
    folder: Path | None = None,
    problems: tuple[Flaw, ...] = (),
) -> SourceImage:
    """Return the source image for raw boxes; unusable boxes become `problems`, beside those that the reader found."""
    corners = np.array([box.corners for box in raw], np.float64).reshape(-1, 4)
    # A comparison with NaN is false, so this finds rows that are not numbers too.
    good = (np.abs(corners) <= MAX_COORDINATE).all(axis=1) & (corners[:, 2:] >= corners[:, :2]).all(axis=1)
    ignored, places = np.array([box.ignored for box in raw], np.bool_), tuple(box.where for box in raw)
    if not good.all():
        problems += tuple(_fault(raw[index]) for index in np.flatnonzero(~good))
        places = tuple(places[index] for index in np.flatnonzero(good))
    boxes, kept = corners[good].astype(np.float32), [box for box, fine in zip(raw, good, strict=True) if fine]
    landmarks, faults = _collect_points(kept)
    scores = None
    if any(box.score is not None for box in kept):
        scores = np.array([1.0 if box.score is None else box.score for box in kept], np.float32)
    problems += faults
    return SourceImage(path, boxes, ignored[good], name, where, places, problems, size, data, folder, landmarks, scores)


def _collect_points(raw: Sequence[RawBox]) -> tuple[Points | None, tuple[Flaw, ...]]:
    """Return the points of boxes, and what is wrong with those of some, which become unknown."""
    if all(box.landmarks is None for box in raw):
        return None, ()
    unknown = ((0.0, 0.0, float(UNKNOWN)),) * COUNT
    points = np.array([box.landmarks or unknown for box in raw], np.float64).reshape(-1, COUNT, 3)
    points[points[:, :, 2] == UNKNOWN] = 0
    good = (np.abs(points[:, :, :2]) <= MAX_COORDINATE).all(axis=(1, 2))
    good &= np.isin(points[:, :, 2], (UNKNOWN, HIDDEN, SEEN)).all(axis=1)
    faults = [Flaw("bad-points", raw[i].where, f"points {shown(raw[i].landmarks)}") for i in np.flatnonzero(~good)]
    points[~good] = 0
    return points.astype(np.float32) if points.any() else None, tuple(faults)


def _fault(box: RawBox) -> Flaw:
    """Return what makes a box unusable."""
    x0, y0, x1, y1 = box.corners
    numbers = all(abs(value) <= MAX_COORDINATE for value in box.corners)
    fault = f"has a negative size ({x1 - x0:g}x{y1 - y0:g})" if numbers else "is not made of usable numbers"
    return Flaw("bad-box", box.where, f"box ({', '.join(f'{value:g}' for value in box.corners)}) {fault}")


def parse_numbers(texts: Sequence[str], where: str, what: str) -> Corners:
    """Return four numbers; see `lffd.untrusted.parse_number`."""
    a, b, c, d = (parse_number(text, where, what) for text in texts)
    return a, b, c, d


def xywh(x: float, y: float, width: float, height: float) -> Corners:
    """Return x0, y0, x1, y1 for a corner and a size."""
    return x, y, x + width, y + height


def around_turned(corners: Corners, degrees: float, pivot: tuple[float, float]) -> Corners:
    """Return the upright box around a box that is turned clockwise (y points down) about a point."""
    x0, y0, x1, y1 = corners
    turn = math.radians(degrees) if math.isfinite(degrees) else math.nan
    sine, cosine = math.sin(turn), math.cos(turn)
    offsets = [(x - pivot[0], y - pivot[1]) for x in (x0, x1) for y in (y0, y1)]
    xs = [pivot[0] + dx * cosine - dy * sine for dx, dy in offsets]
    ys = [pivot[1] + dx * sine + dy * cosine for dx, dy in offsets]
    return min(xs), min(ys), max(xs), max(ys)
