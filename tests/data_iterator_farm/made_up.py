"""Small records that tests make up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from data_iterator_farm.assignment import label_maker
from data_iterator_farm.batch import target_shapes
from data_iterator_farm.policies import LabelPolicy
from lffd.boxes import Boxes, as_boxes
from lffd.graphs.network import Network
from lffd.records import Record


def textured(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A smooth random image `(height, width, 3)` uint8, BGR."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def encode(image: np.ndarray, kind: str = "jpeg") -> bytes:
    """An image file."""
    if kind == "jpeg":
        return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(image), 95, "BGR", "444"))
    return cv2.imencode(f".{kind}", image)[1].tobytes()


def make_record(
    boxes: Sequence[Sequence[float]] = (),
    ignored: Sequence[bool] | None = None,
    size: tuple[int, int] = (160, 120),
    name: str = "a.jpg",
    image: np.ndarray | None = None,
    kind: str = "jpeg",
) -> Record:
    """A record of `size` (width, height) with the given boxes, none of them ignored by default."""
    pixels = textured(*size) if image is None else image
    flags = np.zeros(len(boxes), bool) if ignored is None else np.array(ignored, bool)
    return Record(name, encode(pixels, kind), size[0], size[1], as_boxes(boxes), flags)


def make_source(
    count: int = 12, background: int = 0, seed: int = 0, size: tuple[int, int] = (160, 120)
) -> list[Record]:
    """Records named `face 0`, … with one to four boxes each, then `background 0`, … without."""
    rng = np.random.default_rng(seed)
    records = []
    for index in range(count):
        corners = rng.uniform(0, 80, (int(rng.integers(1, 5)), 2))
        boxes = np.concatenate((corners, corners + rng.uniform(8, 40, (len(corners), 2))), axis=1)
        image = textured(*size, seed=index)
        records.append(make_record(boxes.tolist(), size=size, name=f"face {index}", image=image))
    empty = [make_record(size=size, name=f"background {index}") for index in range(background)]
    return records + empty


def broken(record: Record) -> Record:
    """The same record with the second half of its image missing."""
    return replace(record, image=record.image[: len(record.image) // 2])


def label_maps(
    boxes: Boxes, ignored: NDArray[np.bool_], network: Network, size: int, policy: LabelPolicy
) -> list[dict[str, NDArray[Any]]]:
    """The targets of one square crop, by branch and output; `boxes` `(N, 4)` xyxy in its pixels."""
    targets = [
        {name: np.zeros((1, *shape), kind) for name, (shape, kind) in said.items()}
        for said in target_shapes(network, size)
    ]
    label_maker(network, size, policy).write(boxes, ignored, np.zeros(len(boxes), np.intp), targets)
    return [{name: values[0] for name, values in said.items()} for said in targets]
