"""Drawn faces over textured backgrounds, with exact boxes: data for the demo and the tests, made on the spot.

These are drawings. A detector trained on them finds drawings; it says nothing about photos. Every record's name begins
with `synthetic/`, and `inspect` counts such records.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from data_provider_farm.drawn_faces.face import (
    REACH,
    Appearance,
    draw_face,
    face_box,
    face_points,
    person_box,
    random_appearance,
)
from data_provider_farm.drawn_faces.scenery import Pixels, draw_background, draw_distractors
from data_provider_farm.prepare import Prepared
from lffd.boxes import Boxes, areas, clip, intersections, longer_sides
from lffd.errors import UsageError
from lffd.images.encoded import encode
from lffd.points import Points, join
from lffd.records import Record

NAME_PREFIX = "synthetic/"
SIDES = (10.0, 320.0)
SMALLEST_PICTURE = 64
QUALITY = 90
EMPTY_SHARE, CROWD_SHARE, CUT_SHARE = 0.06, 0.25, 0.1
MOST_HIDDEN = 0.15


class Actor(NamedTuple):
    """A face to draw: its look, its middle x, y and half height in pixels."""

    look: Appearance
    center: tuple[float, float]
    half_height: float


def draw_scene(rng: np.random.Generator, size: int) -> tuple[Pixels, Boxes, Points | None]:
    """Draw the picture that the state of `rng` stands for; raises UsageError when `size` is under 64.

    Returns:
        The picture, `(size, size, 3)` uint8 BGR, and the faces' exact boxes, `(N, 4)` float32 xyxy in pixels, longer
        sides 10–320 px (less where the picture's border cuts a face); and the faces' points, see `lffd.points`. About
        one picture in sixteen has no face.
    """
    if size < SMALLEST_PICTURE:
        raise UsageError(f"a synthetic picture needs at least {SMALLEST_PICTURE} px a side, not {size}")
    picture = draw_background(rng, size)
    draw_distractors(rng, picture, int(rng.integers(2, 9)))
    actors = _cast(rng, size)
    for actor in actors:
        _draw_smooth(picture, *actor)
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(face_box(*actor) for actor in actors)])
    points = join((face_points(*actor), 1) for actor in actors)
    return _develop(rng, picture), clip(boxes, size, size), points


def _cast(rng: np.random.Generator, size: int) -> list[Actor]:
    """Return faces that no other person hides, the smallest (farthest) first."""
    if rng.random() < EMPTY_SHARE:
        return []
    crowd = rng.random() < CROWD_SHARE
    count = int(rng.integers(8, 25)) if crowd else int(rng.integers(1, 6))
    largest = min(SIDES[1], (0.12 if crowd else 0.9) * size)
    found: list[Actor] = []
    for _ in range(3 * count):
        actor = _random_actor(rng, size, largest)
        if len(found) < count and all(_apart(actor, other) for other in found):
            found.append(actor)
    return sorted(found, key=lambda actor: actor.half_height)


def _apart(first: Actor, second: Actor) -> bool:
    """Return whether the nearer one of two people hides next to nothing of the other's face."""
    far, near = sorted((first, second), key=lambda actor: actor.half_height)
    face = face_box(*far)
    return float(intersections(face, person_box(*near))[0, 0]) < MOST_HIDDEN * float(areas(face)[0])


def _random_actor(rng: np.random.Generator, size: int, largest: float) -> Actor:
    """Draw a look, a size and a place inside the picture, or now and then partly outside."""
    look = random_appearance(rng)
    side = math.exp(rng.uniform(math.log(SIDES[0]), math.log(max(largest, SIDES[0] + 1))))
    unit = face_box(look, (0, 0), 1)
    half_height = side / float(longer_sides(unit)[0])
    margins = half_height * unit[0, 2:] - (0.3 * side if rng.random() < CUT_SHARE else 0)
    x, y = rng.uniform(margins, size - margins).tolist()
    return Actor(look, (x, y), half_height)


def _draw_smooth(picture: Pixels, look: Appearance, center: tuple[float, float], half_height: float) -> None:
    """Draw a face with every pixel the mean of several, so that small ones keep their features."""
    factor = 4 if half_height < 16 else 2 if half_height < 48 else 1
    reach = REACH * half_height
    x0, y0 = (max(0, int(middle - reach)) for middle in center)
    x1, y1 = (min(len(picture), int(middle + reach) + 1) for middle in center)
    region = picture[y0:y1, x0:x1]
    height, width = region.shape[:2]
    # Repeating pixels and averaging them again changes nothing where nothing is drawn.
    large = region.repeat(factor, 0).repeat(factor, 1) if factor > 1 else region
    draw_face(large, look, (factor * (center[0] - x0), factor * (center[1] - y0)), factor * half_height)
    if factor > 1:
        region[:] = cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA)


def _develop(rng: np.random.Generator, picture: Pixels) -> Pixels:
    """Return the picture as a camera would: out of focus now and then, with noise, gamma and a tint."""
    if rng.random() < 0.35:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.3)).astype(np.uint8, copy=False)
    strength = int(rng.integers(2, 24))
    grain = rng.integers(0, strength, picture.shape[:2], np.uint8)
    picture = cv2.add(picture, cv2.merge([grain] * 3)).astype(np.uint8, copy=False)
    levels = np.linspace(0, 1, 256)[:, None]
    curve = 255 * rng.uniform(0.75, 1.0, 3) * levels ** rng.uniform(0.7, 1.5)
    return np.asarray(cv2.LUT(picture, curve.astype(np.uint8).reshape(256, 1, 3)), np.uint8)


def synthetic_record(index: int, size: int, seed: int) -> Record:
    """Return picture `index` of the set that `size` and `seed` name, as a record."""
    picture, boxes, points = draw_scene(np.random.default_rng([seed, index]), size)
    name = f"{NAME_PREFIX}{seed}-{size}-{index:07d}.jpg"
    return Record(name, encode(picture, QUALITY), size, size, boxes, np.zeros(len(boxes), np.bool_), points)


def synthetic_records(count: int, size: int, seed: int) -> list[Record]:
    """Return `count` records in memory, a `lffd.records.RecordSource`."""
    return [synthetic_record(index, size, seed) for index in range(count)]


def prepare_synthetic(index: int, *, size: int, seed: int) -> Prepared:
    """Return the encoded record of a picture, for the packer."""
    return Prepared([synthetic_record(index, size, seed)], [])
