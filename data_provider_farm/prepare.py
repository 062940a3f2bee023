"""From one source image to the encoded records that go into a pack: every decision about pixels and boxes is here."""

from __future__ import annotations

import dataclasses
import json
import zlib
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_provider_farm import images
from data_provider_farm.annotations import Problem, SourceImage
from data_provider_farm.backgrounds import find_empty_windows
from data_provider_farm.record_layout import Encoded, check_frame, encode_record
from lffd.boxes import Boxes, clip, scale
from lffd.errors import DataError
from lffd.records import Record


@dataclass(frozen=True)
class Preparation:
    """How source images become records.

    Attributes:
        max_side: shrink images whose longer side is over this many pixels; never when None.
        quality: JPEG quality, 1–100, for images that have to be encoded.
        verify: `header` reads each JPEG's header and looks for its end marker; `full` decodes it.
        exif: what the boxes refer to: the pixels as `stored`, or as a viewer shows them after turning them by the
            EXIF orientation (`turned`).
        min_side: boxes whose longer side, in the packed image, is under this many pixels are unusable, as are boxes
            without area and boxes that the dataset marks.
        unusable: `ignore` keeps unusable boxes as ignored ones; `drop` leaves them out, so that they train as
            background, as the published system does.
        crop_background: up to so many regions without any box are added from each image that has boxes.
        crop_side: shortest side of such a region in pixels.
        seed: of their places.
    """

    max_side: int | None = None
    quality: int = 95
    verify: Literal["header", "full"] = "header"
    exif: Literal["stored", "turned"] = "stored"
    min_side: float = 9.0
    unusable: Literal["ignore", "drop"] = "ignore"
    crop_background: int = 0
    crop_side: int = 160
    seed: int = 0

    def fingerprint(self) -> str:
        """Return all settings as text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


class Counts(NamedTuple):
    """What is in a pack, or in part of one; `boxes` includes the ignored ones."""

    images: int = 0
    boxes: int = 0
    ignored_boxes: int = 0
    backgrounds: int = 0

    def plus(self, other: Counts) -> Counts:
        """Return the sum, field by field."""
        return Counts(
            self.images + other.images,
            self.boxes + other.boxes,
            self.ignored_boxes + other.ignored_boxes,
            self.backgrounds + other.backgrounds,
        )


@dataclass
class Prepared:
    """What one source image gave: encoded records (none when it cannot be used), their counts, and problems."""

    records: list[Encoded] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    problems: list[Problem] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Append one record and count it."""
        self.records.append(encode_record(record))
        boxes = len(record.boxes)
        self.counts = self.counts.plus(Counts(1, boxes, int(np.count_nonzero(record.ignored)), int(boxes == 0)))


@dataclass(frozen=True)
class _Loaded:
    """An image that can go into a pack, its size, and the size of its source, each width and height in pixels."""

    data: bytes
    size: tuple[int, int]
    source_size: tuple[int, int]


def prepare(source: SourceImage, settings: Preparation) -> Prepared:
    """Return the records of one source image; a fault of the image or its boxes becomes a `Problem`."""
    prepared = Prepared(problems=list(source.problems))
    loaded = _load(source, settings, prepared.problems)
    if loaded is None:
        return prepared
    boxes, ignored = _place_boxes(source, loaded, prepared.problems)
    sizes = boxes[:, 2:] - boxes[:, :2]
    width, height = sizes[:, 0], sizes[:, 1]
    unusable = ignored | (np.maximum(width, height) < settings.min_side) | (np.minimum(width, height) <= 0)
    if settings.unusable == "drop":
        kept, flags = boxes[~unusable], unusable[~unusable]
    else:
        kept, flags = boxes, unusable
    prepared.add(Record(source.name, loaded.data, *loaded.size, kept, flags))
    # A box that could not be read may lie anywhere, so nothing of this image is known to be empty.
    if settings.crop_background and len(boxes) and not source.problems:
        _add_crops(prepared, source.name, loaded, boxes, settings)
    return prepared


def _load(source: SourceImage, settings: Preparation, problems: list[Problem]) -> _Loaded | None:
    """Return the image ready for the pack; None, with a problem, when it cannot be used."""
    try:
        data = images.read_file(source.path) if source.data is None else source.data
        loaded = _convert(data, source, settings, problems)
        if loaded is not None:
            check_frame(source.name, *loaded.size, source.path)
    except DataError as error:
        kind = "unreadable-image" if source.path.exists() else "missing-image"
        problems.append(Problem(kind, source.where, str(error)))
        return None
    return loaded


def _convert(data: bytes, source: SourceImage, settings: Preparation, problems: list[Problem]) -> _Loaded | None:
    """Return a JPEG as it is where nothing about it must change, else a new one; None for a wrong annotation.

    Raises:
        DataError: when the image is damaged.
    """
    header = images.parse_jpeg(data, source.path) if images.is_jpeg(data) else None
    if header is not None and not images.is_whole(data, header):
        raise DataError(f"{source.path}: the JPEG is cut short: it has no end marker")
    pixels, orientation = None, 1
    if header is None:
        pixels = images.decode(data, source.path)
        stored = pixels.shape[1], pixels.shape[0]
    else:
        stored, orientation = (header.width, header.height), header.orientation
    turned = orientation if settings.exif == "turned" else 1
    shown = stored[::-1] if turned >= 5 else stored
    if not _fits_annotation(source, shown, orientation, turned, problems):
        return None
    size = _shrunk_size(*shown, settings.max_side)
    if header is not None and turned == 1 and size == shown and header.channels != 4:
        if settings.verify == "full":
            images.decode(data, source.path)
        return _Loaded(images.upright(data, header), size, size)
    if pixels is None:
        pixels = images.turn(images.decode(data, source.path, size[::-1] if turned >= 5 else size), turned)
    return _Loaded(images.encode(images.shrink(pixels, *size), settings.quality), size, shown)


def _fits_annotation(
    source: SourceImage, size: tuple[int, int], orientation: int, turned: int, problems: list[Problem]
) -> bool:
    """Return whether the image has the size that its annotation claims; report what its EXIF tag may do to boxes."""
    if source.size is not None and source.size != size:
        text = f"the annotation is for {source.size[0]}x{source.size[1]} pixels, {source.path} has {size[0]}x{size[1]}"
        hint = "; its EXIF tag turns it: try --exif turned" if orientation >= 5 and turned == 1 else ""
        problems.append(Problem("size-mismatch", source.where, text + hint))
        return False
    if orientation != turned:
        text = f"{source.path} has EXIF orientation {orientation}; boxes are taken as of the pixels stored"
        problems.append(Problem("orientation", source.where, text + " (--exif stored)"))
    return True


def _shrunk_size(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    """Return the size with the longer side at most `max_side`."""
    factor = 1.0 if max_side is None else min(1.0, max_side / max(width, height))
    return max(1, round(width * factor)), max(1, round(height * factor))


def _place_boxes(source: SourceImage, loaded: _Loaded, problems: list[Problem]) -> tuple[Boxes, NDArray[np.bool_]]:
    """Return the boxes in pixels of the packed image, cut at its border, and their ignore flags."""
    boxes, ignored = source.boxes, source.ignored
    width, height = loaded.source_size
    if not ((boxes >= 0).all() and (boxes <= (width, height, width, height)).all()):
        boxes, ignored = _cut_boxes(source, width, height, problems)
    if loaded.size != loaded.source_size:
        boxes = clip(scale(boxes, loaded.size[0] / width, loaded.size[1] / height), *loaded.size)
    return boxes, ignored


def _cut_boxes(
    source: SourceImage, width: int, height: int, problems: list[Problem]
) -> tuple[Boxes, NDArray[np.bool_]]:
    """Return the boxes cut at the border of their image, without those that lie outside; report both kinds."""
    inside = clip(source.boxes, width, height)
    changed = (source.boxes != inside).any(axis=1)
    beyond = (source.boxes[:, 2:] <= 0).any(axis=1) | (source.boxes[:, :2] >= (width, height)).any(axis=1)
    outside = changed & beyond
    for index in np.flatnonzero(changed):
        kind = "outside-box" if outside[index] else "clipped-box"
        shown = ", ".join(f"{value:g}" for value in source.boxes[index])
        verb = "lies outside" if outside[index] else "reaches over the border of"
        problems.append(Problem(kind, source.box_where[index], f"box ({shown}) {verb} the image of {width}x{height}"))
    return inside[~outside], source.ignored[~outside]


def _add_crops(prepared: Prepared, name: str, loaded: _Loaded, boxes: Boxes, settings: Preparation) -> None:
    """Add empty regions of an image as background records."""
    rng = np.random.default_rng([settings.seed, zlib.crc32(name.encode())])
    windows = find_empty_windows(rng, loaded.size, boxes, settings.crop_background, settings.crop_side).tolist()
    if not windows:
        return
    try:
        pixels = images.decode(loaded.data, name)
    except DataError as error:
        prepared.problems.append(Problem("unreadable-image", name, f"{error}; no background cut from it"))
        return
    for number, (x0, y0, x1, y1) in enumerate(windows):
        data = images.encode(pixels[y0:y1, x0:x1], settings.quality)
        none = np.zeros((0, 4), np.float32), np.zeros(0, np.bool_)
        prepared.add(Record(f"{name}#background{number}", data, x1 - x0, y1 - y0, *none))
