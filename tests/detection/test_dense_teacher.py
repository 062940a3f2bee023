"""A teacher's maps as targets: of one of our own models to the bit, of SCRFD against its own detections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_iterator_farm.batch import Batch, target_shapes
from data_iterator_farm.rendering import Origin
from detection.dense_teacher import DenseTeacher
from detection.peers.detector import PeerDetector
from detection.selection import Selection
from lffd.engines.factory import create_engine
from lffd.errors import UsageError
from lffd.graphs.model import save_model
from lffd.images.encoded import decode
from symbol_farm.versions import version_network
from tests.factories import random_model

NANO = version_network("nano")
SCRFD = "peers/scrfd_500m_bnkps.onnx"


def _batch(images: np.ndarray, origins: tuple[tuple[Origin, ...], ...] = ()) -> Batch:
    targets = tuple(
        {name: np.zeros((len(images), *shape), kind) for name, (shape, kind) in said.items()}
        for said in target_shapes(NANO, images.shape[1])
    )
    return Batch(0, origins, images, targets, np.zeros(len(images), np.int32))


def test_a_model_of_the_same_version_teaches_its_own_maps(tmp_path: Path) -> None:
    model = random_model("nano")
    save_model(model, tmp_path / "teacher")
    images = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)
    batch = _batch(images)
    targets = batch.targets
    targets[0]["score"][:, :, 0] = 1
    targets[0]["score"][:, :, 1] = -1
    before = [said["score"].copy() for said in targets]
    expected = create_engine(model).run(images)
    limit = 0.5
    taught = DenseTeacher(str(tmp_path / "teacher"), NANO, hidden=limit).teach(batch)
    marked = 0
    for said, maps, old in zip(taught, expected, before, strict=True):
        np.testing.assert_allclose(said["teacher_score"], maps["score"], atol=1e-6)
        np.testing.assert_allclose(said["teacher_box"], maps["box"], atol=1e-4)
        hidden = (old == 0) & (said["teacher_score"] > limit)
        marked += int(hidden.sum())
        assert (said["score"] == np.where(hidden, -1, old)).all()
    assert marked > 20


@pytest.mark.parametrize(
    ("spec", "version", "message"),
    [
        ("face_light", "nano", "has cells at 0 . 8 × i.* it cannot teach them"),
        ("peer:yunet=missing.onnx", "nano", "only peer:scrfd"),
        ("no_such_model", "nano", "unknown model"),
    ],
)
def test_teachers_that_cannot_teach_are_refused(spec: str, version: str, message: str) -> None:
    with pytest.raises((UsageError, ValueError), match=message):
        DenseTeacher(spec, version_network(version))


def test_scrfd_teaches_what_it_detects(shared: Path) -> None:
    """Every sure cell decodes to a candidate box of the detector on the same picture."""
    detector = PeerDetector("scrfd", shared / SCRFD, Selection(0.3, suppression_threshold=1.0))
    photos = sorted((shared / "data/widerface/WIDER_val/images").glob("*/*.jpg"))
    images = (decode(photo.read_bytes(), photo)[:320, :320].copy() for photo in photos[::10])
    image, found = next((image, found) for image in images if len(found := detector(image)) > 3)
    taught = DenseTeacher(f"peer:scrfd={shared / SCRFD}", NANO).teach(_batch(image[None]))
    best = max(float(level["teacher_score"].max()) for level in taught)
    assert best == pytest.approx(float(found.scores.max()), abs=0.02)
    for branch, level in zip(NANO.branch_geometry, taught, strict=True):
        rows, columns = np.nonzero(level["teacher_score"][0, 0] > 0.35)
        centers = np.stack([branch.centers(99)[columns], branch.centers(99)[rows]], axis=1)
        for box in branch.decode(level["teacher_box"][0][:, rows, columns].T, centers):
            assert np.abs(found.boxes - box).max(axis=1).min() < 2
