"""Small images, records and datasets for the tests of this folder."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from hypothesis import strategies as st

from data_provider_farm.pack_format.packed_file import PackWriter
from lffd.images.encoded import encode
from lffd.records import Record

NO_BOXES = np.zeros((0, 4), np.float32)
NO_FLAGS = np.zeros(0, np.bool_)


def picture(width: int = 64, height: int = 48, seed: int = 0) -> np.ndarray:
    """Smooth random pixels, so that JPEG keeps them nearly as they are."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))


def jpeg(width: int = 64, height: int = 48, seed: int = 0) -> bytes:
    return encode(picture(width, height, seed), 90)


def with_exif(data: bytes, orientation: int, order: str = "<", padding: int = 0) -> bytes:
    """Put an EXIF block with one tag, after `padding` others, right behind the start of a JPEG."""
    other = struct.pack(order + "HHIHH", 0x0100, 3, 1, 7, 0) * padding
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    tiff += struct.pack(order + "H", 1 + padding) + other + entry + bytes(4)
    body = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def record(
    boxes: Sequence[Sequence[float]] = (),
    ignored: Sequence[bool] | None = None,
    name: str = "a.jpg",
    seed: int = 0,
    landmarks: np.ndarray | None = None,
) -> Record:
    flags = np.array([False] * len(boxes) if ignored is None else ignored, np.bool_)
    return Record(name, jpeg(seed=seed), 64, 48, np.array(boxes, np.float32).reshape(-1, 4), flags, landmarks)


def five_points(count: int, seed: int = 0) -> np.ndarray:
    """Points of so many faces, some of them not known, some outside of the image."""
    rng = np.random.default_rng(seed)
    flags = rng.integers(0, 3, (count, 5, 1))
    return np.concatenate((rng.uniform(-5, 60, (count, 5, 2)), flags), axis=2).astype(np.float32)


def same(first: Record, second: Record) -> bool:
    """Whether two records are equal to the bit."""
    return (
        (first.name, first.image, first.width, first.height) == (second.name, second.image, second.width, second.height)
        and first.boxes.dtype == second.boxes.dtype
        and first.boxes.tobytes() == second.boxes.tobytes()
        and first.boxes.shape == second.boxes.shape
        and np.array_equal(first.ignored, second.ignored)
        and np.array_equal(_points(first), _points(second))
    )


def _points(record: Record) -> np.ndarray:
    """The points, or a number where there are none."""
    return np.zeros(1) if record.landmarks is None else record.landmarks


def write_pack(path: Path, records: Sequence[Record]) -> Path:
    with PackWriter(path) as writer:
        for each in records:
            writer.add(each)
    return path


def mixed_records() -> list[Record]:
    """A background, objects with points, ignored boxes alone, both, and a box without area alone."""
    return [
        record(name="empty.jpg", seed=1),
        record([(1, 2, 30.25, 40.5), (5, 6, 17.1, 18.3)], name="ev/two.jpg", seed=2, landmarks=five_points(2)),
        record([(3, 3, 9, 9)], [True], name="ignored.jpg", seed=3),
        record([(0, 0, 64, 48), (60, 40, 64, 48)], [False, True], name="ñ/mixed.jpg", seed=4),
        record([(7, 7, 7, 9)], name="line.jpg", seed=5),
    ]


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Any record that a pack can hold."""
    width, height = draw(st.integers(1, 65536)), draw(st.integers(1, 65536))
    count = draw(st.integers(0, 5))
    x = st.floats(0, width, width=32)
    y = st.floats(0, height, width=32)
    boxes = []
    for _ in range(count):
        x0, x1 = sorted((draw(x), draw(x)))
        y0, y1 = sorted((draw(y), draw(y)))
        boxes.append((x0, y0, x1, y1))
    flags = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    points = None
    if draw(st.booleans()):
        number = st.floats(-1e6, 1e6, width=32)
        rows = st.tuples(number, number, st.sampled_from([0, 1, 2]))
        points = draw(st.lists(rows, min_size=5 * count, max_size=5 * count))
    name = draw(st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=40))
    magic = b"\x0a\x23\xd7\xce"
    image = b"".join(
        draw(st.lists(st.sampled_from([magic, b"\0", b"\x0a", b"pixels"]) | st.binary(max_size=9), min_size=1))
    )
    return Record(
        name,
        image or b"\0",
        width,
        height,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(flags, np.bool_),
        None if points is None else np.array(points, np.float32).reshape(-1, 5, 3),
    )
