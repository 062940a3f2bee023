"""One training crop from a record: pixels, boxes, and which of them are ignored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from data_iterator_farm.crop_plan import Look, choose_look, place_on_background, place_on_face
from data_iterator_farm.decoding import BadRecordError, Scratch
from data_iterator_farm.policies import SamplingPolicy
from data_iterator_farm.rendering import Window, draw_window
from lffd.boxes import Boxes, areas, as_boxes, clip, longer_sides, shift
from lffd.graphs.network import Network
from lffd.records import Record


class Crop(NamedTuple):
    """A training crop before labels.

    Attributes:
        image: `(S, S, 3)` uint8, BGR.
        boxes: `(N, 4)` float32 xyxy in pixels of the crop. Those of a plain crop may reach beyond it; those of a
            mosaic are clipped to their tiles.
        ignored: `(N,)` bool.
        names: of the records in it: one, or the four of a mosaic.
    """

    image: NDArray[np.uint8]
    boxes: Boxes
    ignored: NDArray[np.bool_]
    names: tuple[str, ...]


def check_record(record: Record) -> None:
    """Refuse a record whose boxes nothing can be learnt from.

    Raises:
        BadRecordError: names the box: wrong shapes, a coordinate that is no number, or a face that is empty or wholly
            outside the image. Ignored boxes may be empty or outside.
    """
    boxes, ignored = record.boxes, record.ignored
    if boxes.ndim != 2 or boxes.shape[1] != 4 or ignored.shape != (len(boxes),):
        fault = f"boxes {boxes.shape} and ignore flags {ignored.shape} must be (N, 4) and (N,)"
        raise BadRecordError(record, fault)
    if record.width < 1 or record.height < 1:
        raise BadRecordError(record, f"an image of {record.width}x{record.height} pixels is empty")
    unusable = ~np.isfinite(boxes).all(axis=1)
    unusable |= ~ignored & (areas(clip(boxes, record.width, record.height)) <= 0)
    if unusable.any():
        number = int(np.flatnonzero(unusable)[0])
        fault = f"box {number} of {len(boxes)} is {boxes[number].tolist()}, not a box inside the image of "
        fault += f"{record.width}x{record.height} pixels; correct it, or mark it as ignored"
        raise BadRecordError(record, fault)


def sample_crop(
    record: Record,
    size: int,
    network: Network,
    policy: SamplingPolicy,
    rng: Generator,
    *,
    partner: Callable[[Generator], Record] | None = None,
    out: NDArray[np.uint8] | None = None,
    scratch: Scratch | None = None,
) -> Crop:
    """Cut one training crop.

    Args:
        record: the image, such as `check_record` accepts; one without a face to learn is treated as background.
        size: side S of the crop in pixels.
        network: whose branches and ranges the sampling follows.
        policy: what is drawn how often.
        rng: where chance comes from.
        partner: draws other records with a face to learn, for the rest of a mosaic and where no face of this one can
            become large enough; without it neither is done.
        out: `(S, S, 3)` uint8 to draw into, instead of new memory.
        scratch: memory to use again.

    Raises:
        BadRecordError: when an image cannot be decoded.
    """
    scratch = scratch or Scratch()
    image = np.empty((size, size, 3), np.uint8) if out is None else out
    if record.ignored.all():
        return _draw(record, place_on_background(record, size, policy, rng), image, policy, scratch)
    look = choose_look(record, network, policy, rng)
    for _ in range(policy.redraws if policy.target == "log-uniform" else 0):
        if look.reached or partner is None:
            break
        record = partner(rng)
        look = choose_look(record, network, policy, rng, look.wanted)
    fill = policy.mosaic_fill * size
    too_small = max(record.width, record.height) * look.scale < fill
    if partner is not None and (rng.random() < policy.mosaic or too_small):
        tiles = [(record, look)]
        for _ in range(3):
            other = partner(rng)
            chosen = choose_look(other, network, policy, rng)
            # A partner is there to fill its tile, so it does not become smaller than that.
            filling = fill / 2 / max(other.width, other.height)
            tiles.append((other, chosen._replace(scale=max(chosen.scale, filling))))
        mixed = [tiles[k] for k in rng.permutation(4)]
        return _mosaic(mixed, policy, rng, image, scratch)
    return _draw(record, place_on_face(record, look, (size, size), policy, rng), image, policy, scratch)


def _draw(record: Record, window: Window, image: NDArray[np.uint8], policy: SamplingPolicy, scratch: Scratch) -> Crop:
    """Draw a window; keep the boxes that show in it, and ignore those that hardly do."""
    window = draw_window(record, window, image, scratch)
    boxes, ignored = window.boxes(as_boxes(record.boxes)), record.ignored
    shown = (boxes < (window.width, window.height, np.inf, np.inf)) & (boxes > (-np.inf, -np.inf, 0, 0))
    shown = shown.all(axis=1)
    if not shown.all():
        boxes, ignored = boxes[shown], ignored[shown]
    if policy.min_visible > 0:
        visible = areas(clip(boxes, window.width, window.height))
        ignored = ignored | (visible < policy.min_visible * areas(boxes))
    return Crop(image, boxes, ignored, (record.name,))


def _mosaic(
    tiles: Sequence[tuple[Record, Look]],
    policy: SamplingPolicy,
    rng: Generator,
    image: NDArray[np.uint8],
    scratch: Scratch,
) -> Crop:
    """Fill a crop with 2×2 tiles, left to right and top to bottom, each looking at its own face."""
    size = image.shape[0]
    half = size // 2
    boxes, ignored, names = [], [], []
    for tile, (record, look) in enumerate(tiles):
        x, y = (tile % 2) * half, (tile // 2) * half
        width, height = (size - half if x else half), (size - half if y else half)
        # A face larger than its tile would mostly be cut off.
        side, limit = float(longer_sides(record.boxes[look.face][None])[0]), min(width, height)
        fitting = look._replace(scale=min(look.scale, limit / side))
        window = place_on_face(record, fitting, (width, height), policy, rng)
        crop = _draw(record, window, image[y : y + height, x : x + width], policy, scratch)
        boxes.append(shift(clip(crop.boxes, width, height), x, y))
        ignored.append(crop.ignored)
        names.append(record.name)
    return Crop(image, np.concatenate(boxes), np.concatenate(ignored), tuple(names))
