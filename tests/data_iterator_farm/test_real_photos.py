"""Batches from real WIDER FACE photos, where the shared data folder is present."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_iterator_farm.batch import BatchPlan
from data_iterator_farm.batch_loader import BatchLoader
from data_iterator_farm.decoding import decode_image
from data_iterator_farm.policies import PRESETS
from data_provider_farm.pack_format.packed_file import PackReader, PackWriter
from lffd.records import Record, RecordSource
from lffd.training.losses import BOX_ALONE
from symbol_farm.versions import version_network


@pytest.fixture(scope="module")
def photos(shared: Path) -> list[Record]:
    """The first two dozen training photos whose faces are all valid and at least 10 px large."""
    root = shared / "data" / "widerface"
    lines = iter((root / "wider_face_split" / "wider_face_train_bbx_gt.txt").read_text().splitlines())
    records: list[Record] = []
    for name in lines:
        rows = [next(lines).split() for _ in range(max(int(next(lines)), 1))]
        numbers = np.array(rows, np.float32)
        path = root / "WIDER_train" / "images" / name
        if path.exists() and (numbers[:, 2:4] >= 10).all() and not numbers[:, 7].any():
            boxes = np.concatenate((numbers[:, :2], numbers[:, :2] + numbers[:, 2:4]), axis=1)
            records.append(_record(name, path.read_bytes(), boxes))
        if len(records) == 24:
            break
    return records


def _record(name: str, data: bytes, boxes: np.ndarray) -> Record:
    import simplejpeg

    height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    inside = np.clip(boxes, 0, (width, height, width, height)).astype(np.float32)
    return Record(name, data, width, height, inside, np.zeros(len(boxes), bool))


def test_photos_decode_at_every_size(photos: list[Record]) -> None:
    for record in photos:
        means = [decode_image(record, reduction).mean(axis=(0, 1)) for reduction in (1, 2, 4, 8)]
        np.testing.assert_allclose(means, np.broadcast_to(means[0], (4, 3)), atol=2.5)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_what_is_taught_makes_sense(photos: list[Record], tmp_path: Path, version: str, preset: str) -> None:
    with PackWriter(tmp_path / "photos.rec") as writer:
        for record in photos:
            writer.add(record)
    network = version_network(version)
    with PackReader(tmp_path / "photos.rec") as source:
        _check_batches(source, version, preset)
    assert len(photos) == 24
    assert network.train_input == 640


def _check_batches(source: RecordSource, version: str, preset: str) -> None:
    """Every positive cell belongs to a box of its branch's range; all branches get some over a few batches."""
    network = version_network(version)
    policies = PRESETS[preset](network)
    seen = np.zeros(len(network.branches), int)
    plan = BatchPlan(network, policies, batch_size=8, input_size=640, seed=0)
    with BatchLoader(source, plan, threads=2, stop=6) as loader:
        for batch in loader:
            assert (batch.images.reshape(8, -1).max(axis=1) > 60).all()
            for branch in network.branch_geometry:
                targets = batch.targets[branch.index]
                classes, codes = targets["score"][:, 0], targets["box"]
                assert set(np.unique(classes)) <= {-1, 0, 1} | ({BOX_ALONE} if preset == "published" else set())
                crops, rows, columns = np.nonzero(classes == 1)
                places = branch.centers(200)
                centers = np.stack((places[columns], places[rows]), axis=1)
                boxes = branch.decode(codes[crops, :, rows, columns], centers)
                # A face at the crop's border may hold no centre; the nearest cell then lies beside it.
                apart = np.abs(np.clip(centers, boxes[:, :2], boxes[:, 2:]) - centers)
                assert (apart <= (branch.stride if policies.labels.nearest_cell else 0) + 1e-2).all()
                sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
                low, high = branch.object_range
                high *= policies.labels.last_range_factor if branch.index == len(network.branches) - 1 else 1
                assert ((sides >= low - 0.01) & (sides <= high + 0.01)).all()
                seen[branch.index] += len(crops)
    assert (seen > 0).all()
