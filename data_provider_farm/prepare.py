"""From one source image to the encoded records that go into a pack: every decision about pixels and boxes is here."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_provider_farm.backgrounds import find_empty_windows
from data_provider_farm.pack_format.record_layout import check_frame, encode_record
from data_provider_farm.readers.annotations import Flaw, SourceImage
from lffd.boxes import Boxes, clip, scale
from lffd.errors import DataError
from lffd.images import encoded as images
from lffd.images.jpeg import check_scans, check_whole, is_jpeg, parse_jpeg, upright
from lffd.points import scale as scale_points
from lffd.records import Record
from lffd.untrusted import is_below, read_file

ROUNDING = 0.01
"""Pixels by which fractions of six decimals may be off in an image of some 10,000 pixels."""

NO_BOXES = np.zeros((0, 4), np.float32)


@dataclass(frozen=True)
class Preparation:
    """How source images become records.

    Attributes:
        max_side: shrink images whose longer side is over this many pixels; never when None.
        quality: JPEG quality, 1–100, for images that have to be encoded.
        verify: `header` reads each JPEG's header and looks for its end marker; `full` decodes it.
        exif: what the boxes refer to: the pixels as `stored`, or as a viewer shows them after turning them by the
            EXIF orientation (`turned`); `auto` must be decided before.
        min_side: boxes whose longer side, in the packed image, is under this many pixels are unusable, as are boxes
            without area and boxes that the dataset marks. A hundredth of a pixel is let pass: text formats round.
        min_score: boxes of which the annotation (coco) is less sure than this, 0–1, are unusable as well.
        unusable: `ignore` keeps unusable boxes as ignored ones; `drop` leaves them out, so that they train as
            background, as the published system does.
        crop_background: up to so many regions without any box are added from each image that has boxes.
        crop_side: shortest side of such a region in pixels.
        seed: of their places.
        follow_outside: read images whose listed names are absolute or climb with `..` out of the folder given with
            --images. Annotations of others could name any file of yours.
    """

    max_side: int | None = None
    quality: int = 95
    verify: Literal["header", "full"] = "header"
    exif: Literal["auto", "stored", "turned"] = "stored"
    min_side: float = 9.0
    min_score: float = 0.0
    unusable: Literal["ignore", "drop"] = "ignore"
    crop_background: int = 0
    crop_side: int = 160
    seed: int = 0
    follow_outside: bool = False


class Counts(NamedTuple):
    """What is in a pack, or in part of one; `boxes` includes the ignored ones."""

    images: int = 0
    boxes: int = 0
    ignored_boxes: int = 0
    backgrounds: int = 0


class Prepared:
    """What one source image gave: encoded records (none when it cannot be used), their counts, and problems."""

    def __init__(self, records: Sequence[Record], problems: Sequence[Flaw]) -> None:
        boxes = [len(record.boxes) for record in records]
        ignored = sum(int(np.count_nonzero(record.ignored)) for record in records)
        self.records = [encode_record(record) for record in records]
        self.counts = Counts(len(records), sum(boxes), ignored, boxes.count(0))
        self.problems = list(problems)


class _Loaded(NamedTuple):
    """An image that can go into a pack, its size, and the size of its source, each width and height in pixels."""

    data: bytes
    size: tuple[int, int]
    source_size: tuple[int, int]


class _SizeMismatchError(DataError):
    """The image is not the one that was annotated."""


def prepare(source: SourceImage, settings: Preparation) -> Prepared:
    """Return the records of one source image; a fault of the image or its boxes becomes a problem."""
    problems = list(source.problems)
    try:
        image = _load(source, settings, problems)
    except DataError as error:
        kind = "unreadable-image" if os.path.exists(source.path) else "missing-image"
        kind = "size-mismatch" if isinstance(error, _SizeMismatchError) else kind
        return Prepared([], [*problems, Flaw(kind, source.where, str(error))])
    boxes, left = _cut_boxes(source, *image.source_size, problems)
    landmarks = None if source.landmarks is None else source.landmarks[left]
    if image.size != image.source_size:
        factors = [side / before for side, before in zip(image.size, image.source_size, strict=True)]
        boxes = clip(scale(boxes, *factors), *image.size)
        landmarks = None if landmarks is None else scale_points(landmarks, *factors)
    sizes, unusable = boxes[:, 2:] - boxes[:, :2], source.ignored[left]
    if source.scores is not None:
        unusable = unusable | (source.scores[left] < settings.min_score)
    unusable = unusable | (sizes.max(axis=1, initial=0) < settings.min_side - ROUNDING) | (sizes <= 0).any(axis=1)
    kept = ~unusable if settings.unusable == "drop" else np.ones(len(boxes), np.bool_)
    landmarks = None if landmarks is None else landmarks[kept]
    records = [Record(source.name, image.data, *image.size, boxes[kept], unusable[kept], landmarks)]
    # A box that could not be read may lie anywhere, so nothing of its image is known to be empty.
    if settings.crop_background and len(boxes) and not source.problems:
        records += _crop_backgrounds(source.name, image, boxes, settings, problems)
    return Prepared(records, problems)


def _load(source: SourceImage, settings: Preparation, problems: list[Flaw]) -> _Loaded:
    """Return the image ready for the pack; raises DataError when it cannot be used."""
    check_frame(source.name, 1, 1, "its image")
    if source.folder is not None and not settings.follow_outside and not is_below(source.path, source.folder):
        raise DataError(f"{source.name!r} leads outside {source.folder}; --follow-outside allows that")
    loaded = _convert(read_file(source.path) if source.data is None else source.data, source, settings, problems)
    check_frame(source.name, *loaded.size, source.path)
    return loaded


def _convert(data: bytes, source: SourceImage, settings: Preparation, problems: list[Flaw]) -> _Loaded:
    """Return a JPEG as it is where nothing about it must change, else a new one; raises DataError for damage."""
    header = parse_jpeg(data, source.path) if is_jpeg(data) else None
    pixels, orientation = None, 1
    if header is None:
        pixels = images.decode(data, source.path)
        stored = pixels.shape[1], pixels.shape[0]
    else:
        stored, orientation = (header.width, header.height), header.orientation
        images.check_pixels(stored, len(data), source.path, images.PACKED_PIXELS)
        check_scans(data, header, source.path)
        check_whole(data, header, source.path)
    turned = orientation if settings.exif == "turned" else 1
    shown = stored[::-1] if turned >= 5 else stored
    _check_annotation(source, shown, orientation, turned, problems)
    factor = 1.0 if settings.max_side is None else min(1.0, settings.max_side / max(shown))
    size = max(1, round(shown[0] * factor)), max(1, round(shown[1] * factor))
    if header is not None and turned == 1 and size == shown and header.channels != 4:
        if settings.verify == "full":
            images.decode(data, source.path)
        return _Loaded(upright(data, header), size, size)
    if pixels is None:
        pixels = images.turn(images.decode(data, source.path, at_least=size[::-1] if turned >= 5 else size), turned)
    return _Loaded(images.encode(images.shrink(pixels, *size), settings.quality), size, shown)


def _check_annotation(
    source: SourceImage, size: tuple[int, int], orientation: int, turned: int, problems: list[Flaw]
) -> None:
    """Refuse an image of another size than its annotation claims; report what its EXIF tag may do to boxes."""
    if source.size is not None and source.size != size:
        text = f"the annotation is for {source.size[0]}x{source.size[1]} pixels, {source.path} has {size[0]}x{size[1]}"
        hint = "; its EXIF tag turns it: try --exif turned" if orientation >= 5 and turned == 1 else ""
        raise _SizeMismatchError(text + hint)
    if orientation != turned:
        text = f"{source.path} has EXIF orientation {orientation}; boxes are taken as of the pixels stored"
        problems.append(Flaw("orientation", source.where, text + " (--exif stored)"))


def _cut_boxes(source: SourceImage, width: int, height: int, problems: list[Flaw]) -> tuple[Boxes, NDArray[np.bool_]]:
    """Return the boxes cut at the border of their image, without those that lie outside, and which `(N,)` are left.

    Both kinds are reported.
    """
    if ((source.boxes >= 0) & (source.boxes <= (width, height) * 2)).all():
        return source.boxes, np.ones(len(source.boxes), np.bool_)
    inside = clip(source.boxes, width, height)
    changed = (np.abs(source.boxes - inside) > ROUNDING).any(axis=1)
    beyond = (source.boxes[:, 2:] <= 0).any(axis=1) | (source.boxes[:, :2] >= (width, height)).any(axis=1)
    outside = changed & beyond
    for index in np.flatnonzero(changed):
        out = outside[index]
        kind, verb = ("outside-box", "lies outside") if out else ("clipped-box", "reaches over the border of")
        shown = ", ".join(f"{value:g}" for value in source.boxes[index])
        problems.append(Flaw(kind, source.box_where[index], f"box ({shown}) {verb} the image of {width}x{height}"))
    return inside[~outside], ~outside


def _crop_backgrounds(
    name: str, loaded: _Loaded, boxes: Boxes, settings: Preparation, problems: list[Flaw]
) -> list[Record]:
    """Return empty regions of an image as background records."""
    rng = np.random.default_rng([settings.seed, zlib.crc32(name.encode())])
    windows = find_empty_windows(rng, loaded.size, boxes, settings.crop_background, settings.crop_side).tolist()
    if not windows:
        return []
    try:
        pixels = images.decode(loaded.data, name)
    except DataError as error:
        problems.append(Flaw("unreadable-image", name, f"{error}; no background cut from it"))
        return []
    crops = []
    for number, (x0, y0, x1, y1) in enumerate(windows):
        data = images.encode(pixels[y0:y1, x0:x1], settings.quality)
        crops.append(Record(f"{name}#background{number}", data, x1 - x0, y1 - y0, NO_BOXES, np.zeros(0, np.bool_)))
    return crops
