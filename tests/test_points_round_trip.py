"""Points through everything between an annotation and a detection: pack, crop, mirrors, mosaic, label map, decoding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_iterator_farm.batch import Batch, BatchPlan
from data_iterator_farm.batch_builder import BatchBuilder
from data_iterator_farm.policies import Policies, ours
from data_iterator_farm.record_order import sort_records
from data_iterator_farm.rendering import CropWindow
from data_provider_farm.pack_format.packed_file import PackReader, PackWriter
from detection.decoding import decode
from lffd.records import Record
from symbol_farm.versions import version_network
from tests.data_iterator_farm.made_up import encode, textured

NETWORK = version_network("nano", landmarks=True)
SIDE = 160
MOST_OFF = 1e-3


def _record(rng: np.random.Generator, name: str, share_known: float) -> Record:
    """A picture with faces apart from each other, each with points in and around it."""
    width, height = (int(side) for side in rng.integers(60, 400, 2))
    corners, sizes = [], []
    for x in range(0, width - 40, 50):
        for y in range(0, height - 40, 50):
            corners.append(np.array((x, y)) + rng.uniform(0, 9, 2))
            sizes.append(rng.uniform(8, 40, 2))
    starts = np.array(corners)
    boxes = np.concatenate((starts, np.minimum(starts + sizes, (width, height))), axis=1)[:12]
    points = boxes[:, None, :2] + rng.uniform(-0.2, 1.2, (len(boxes), 5, 2)) * (boxes[:, None, 2:] - boxes[:, None, :2])
    flags = np.where(rng.random((len(boxes), 1, 1)) < share_known, rng.integers(1, 3, (len(boxes), 5, 1)), 0)
    landmarks = np.concatenate((points, flags), axis=2).astype(np.float32)
    image = encode(textured(width, height))
    ignored = np.zeros(len(boxes), np.bool_)
    return Record(name, image, width, height, boxes.astype(np.float32), ignored, landmarks)


def _seen(window: CropWindow, places: np.ndarray) -> np.ndarray:
    """Where places `(…, 2)` of an image lie in a crop, in plain arithmetic."""
    moved = places.astype(np.float64) * window.scale - (window.left, window.top)
    if window.mirror:
        moved[..., 0] = window.width - moved[..., 0]
    if window.upside_down:
        moved[..., 1] = window.height - moved[..., 1]
    return moved


def _faces_of(batch: Batch, crop: int, records: dict[str, Record]) -> list[tuple[np.ndarray, np.ndarray, bool]]:
    """Box, points and whether these are known, of every face in the images that a crop shows."""
    found = []
    mosaic = len(batch.origins[crop]) > 1
    for origin in batch.origins[crop]:
        record, window = records[origin.name], origin.window
        assert record.landmarks is not None
        for box, landmarks in zip(record.boxes, record.landmarks, strict=True):
            corners = _seen(window, box.reshape(2, 2))
            corners = np.array([corners.min(0), corners.max(0)])
            points = _seen(window, landmarks[:, :2])
            known = bool((landmarks[:, 2] > 0).all())
            if mosaic:
                known &= bool(((points >= 0) & (points <= (window.width, window.height))).all())
                corners = np.clip(corners, 0, (window.width, window.height))
            if window.mirror != window.upside_down:
                points = points[[1, 0, 2, 4, 3]]
            place = (origin.x, origin.y)
            found.append(((corners + place).ravel(), points + place, known))
    return found


def _as_maps(batch: Batch, crop: int) -> list[dict[str, Any]]:
    """What a network would say that has learnt the targets."""
    return [
        {
            "score": (said["score"][crop : crop + 1] == 1).astype(np.float32),
            "box": said["box"][crop : crop + 1],
            "landmarks": said["landmarks"][crop : crop + 1, :10],
        }
        for said in batch.targets
    ]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.floats(0, 1), st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0]), st.booleans())
def test_points_come_back_to_a_thousandth_of_a_pixel(
    seed: int, known: float, flip: float, vertical_flip: float, mosaic: bool
) -> None:
    rng = np.random.default_rng(seed)
    written = [_record(rng, f"{number}.jpg", known) for number in range(4)]
    policies = ours(NETWORK)
    sampling = replace(
        policies.sampling,
        flip=flip,
        vertical_flip=vertical_flip,
        mosaic=float(mosaic),
        mosaic_fill=0.0,
        min_visible=0.0,
    )
    plan = BatchPlan(NETWORK, Policies(sampling, policies.jitter, policies.labels), 3, SIDE, seed % 2**31)
    with TemporaryDirectory() as folder:
        with PackWriter(Path(folder) / "a.rec") as writer:
            for record in written:
                writer.add(record)
        with PackReader(Path(folder) / "a.rec") as source:
            batch = BatchBuilder(source, sort_records(source), plan).build(0)
    records, taught = {record.name: record for record in written}, 0
    for crop in range(3):
        faces = _faces_of(batch, crop, records)
        boxes = np.array([box for box, _, _ in faces])
        maps = _as_maps(batch, crop)
        found = decode(maps, NETWORK.branch_geometry, 0.5, 10**6)
        assert found.landmarks is not None
        knowns = np.concatenate([said["landmarks"][crop, 10][said["score"][crop, 0] == 1] for said in batch.targets])
        for box, points, flag in zip(found.boxes, found.landmarks, knowns, strict=True):
            distances = np.abs(boxes - box).max(axis=1)
            owner = int(distances.argmin())
            assert distances[owner] <= MOST_OFF
            assert bool(flag) == faces[owner][2]
            if flag:
                assert np.abs(points - faces[owner][1]).max() <= MOST_OFF
                taught += 1
    assert taught or known < 1 or mosaic


def test_without_the_output_the_batches_are_the_same(tmp_path: Path) -> None:
    """To the bit, whether or not the data has points; and with it, all that it has in common."""
    rng = np.random.default_rng(1)
    pointed = [_record(rng, f"{number}.jpg", 0.7) for number in range(4)]
    plain = [replace(record, landmarks=None) for record in pointed]
    batches = []
    for network, source in ((version_network("nano"), plain), (version_network("nano"), pointed), (NETWORK, pointed)):
        plan = BatchPlan(network, ours(network), 4, SIDE, 0)
        batches.append(BatchBuilder(source, sort_records(source), plan).build(0))
    for other in batches[1:]:
        np.testing.assert_array_equal(other.images, batches[0].images)
        for mine, theirs in zip(batches[0].targets, other.targets, strict=True):
            assert list(mine) == ["score", "box"]
            for name, values in mine.items():
                np.testing.assert_array_equal(values, theirs[name])
    assert any(said["landmarks"].any() for said in batches[2].targets)
