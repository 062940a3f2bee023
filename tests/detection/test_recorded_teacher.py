"""A recording says at any crop what the teacher says of the whole image there, and is whole or absent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from data_iterator_farm.batch import Batch, target_shapes
from data_iterator_farm.rendering import CropWindow, Origin, draw_window
from data_provider_farm.drawn_faces.pictures import synthetic_records
from data_provider_farm.pack_format.packed_file import PackWriter
from detection import record_teacher
from detection.dense_teacher import DenseTeacher, find_teacher
from detection.recorded_teacher import FLOOR, Recording
from lffd.errors import DataError, UsageError
from lffd.graphs.model import save_model
from lffd.records import Record
from symbol_farm.versions import version_network
from tests.factories import random_model

NANO = version_network("nano")
SCALES = (1.0, 0.5)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, list[Record]]:
    """A recording of two drawn pictures, the teacher, and the pictures."""
    folder = tmp_path_factory.mktemp("recorded")
    save_model(random_model("nano"), folder / "teacher")
    records = list(synthetic_records(2, size=256, seed=3))
    with PackWriter(folder / "two.rec") as writer:
        for record in records:
            writer.add(record)
    options = record_teacher.Options(folder / "two.rec", str(folder / "teacher"), folder / "said", SCALES)
    record_teacher.main(options)
    return folder, str(folder / "teacher"), records


def _batch(images: NDArray[np.uint8], origins: tuple[tuple[Origin, ...], ...]) -> Batch:
    targets = tuple(
        {name: np.zeros((len(images), *shape), kind) for name, (shape, kind) in said.items()}
        for said in target_shapes(NANO, images.shape[1])
    )
    return Batch(0, origins, images, targets, np.zeros(len(images), np.int32))


def _whole(record: Record, scale: float) -> tuple[NDArray[np.uint8], Origin]:
    image = np.empty((int(256 * scale), int(256 * scale), 3), np.uint8)
    window = draw_window(record, CropWindow(scale, 0, 0, image.shape[1], image.shape[0]), image)
    return image, Origin(record.name, window)


@pytest.mark.parametrize("scale", SCALES)
def test_at_a_recorded_scale_a_whole_image_reads_as_the_teacher_says(
    recorded: tuple[Path, str, list[Record]], scale: float
) -> None:
    folder, teacher, records = recorded
    image, origin = _whole(records[1], scale)
    live = DenseTeacher(teacher, NANO, hidden=1.0).teach(_batch(image[None], ()))
    read = DenseTeacher(str(folder / "said"), NANO, hidden=1.0).teach(_batch(image[None], ((origin,),)))
    known = 0
    for said, expected in zip(read, live, strict=True):
        sure = (expected["teacher_score"] > FLOOR + 0.01) & (said["teacher_score"] >= 0)
        np.testing.assert_allclose(said["teacher_score"][sure], expected["teacher_score"][sure], atol=1e-3)
        chosen = np.broadcast_to(sure, expected["teacher_box"].shape)
        np.testing.assert_allclose(said["teacher_box"][chosen], expected["teacher_box"][chosen], atol=1e-3)
        known += int(sure.sum())
    assert known > 100


def test_a_mirrored_tile_reads_the_same_cells_the_other_way_round(recorded: tuple[Path, str, list[Record]]) -> None:
    """The maps of a mirrored whole image are those of the image turned, where mirrored centres are centres again."""
    folder, _, records = recorded
    _, origin = _whole(records[0], 1.0)
    recording, branch = Recording(folder / "said"), NANO.branch_geometry[1]
    assert branch.first_center == 0
    plain = recording.read(((origin,),), branch, (16, 16))
    mirrored = origin._replace(window=origin.window._replace(mirror=True, width=256))
    turned = recording.read(((mirrored,),), branch, (16, 16))
    known = (plain.score[0, :, 1:] >= 0) & (turned.score[0, :, :0:-1] >= 0)
    assert known.sum() > 50
    np.testing.assert_array_equal(plain.score[0, :, 1:][known], turned.score[0, :, :0:-1][known])
    boxes = turned.box[0, :, :0:-1][known][:, [2, 1, 0, 3]] * (-1, 1, -1, 1) + (256, 0, 256, 0)
    sure = plain.score[0, :, 1:][known] > 0
    np.testing.assert_allclose(plain.box[0, :, 1:][known][sure], boxes[sure], atol=1e-3)


def test_a_tile_fills_its_own_cells_with_its_own_scale(recorded: tuple[Path, str, list[Record]]) -> None:
    folder, _, records = recorded
    recording, branch = Recording(folder / "said"), NANO.branch_geometry[0]
    window = CropWindow(1.0, 40, 24, 96, 96)
    alone = recording.read(((Origin(records[0].name, window),),), branch, (32, 32))
    tiles = (Origin(records[0].name, window, 96, 64), Origin("nobody", window, 0, 0))
    together = recording.read((tiles,), branch, (32, 32))
    np.testing.assert_array_equal(together.score[0, 8:20, 12:24], alone.score[0, :12, :12])
    sure = alone.score[0, :12, :12] > 0
    np.testing.assert_allclose(
        together.box[0, 8:20, 12:24][sure], alone.box[0, :12, :12][sure] + (96, 64, 96, 64), atol=1e-3
    )
    assert (together.score[0, :12, :12] == -1).all(), "of an image that was not recorded nothing is known"
    assert (together.score[0, 20:] == 0).all()


def test_a_scale_far_from_all_recorded_ones_is_unknown(recorded: tuple[Path, str, list[Record]]) -> None:
    folder, _, records = recorded
    origin = Origin(records[0].name, CropWindow(2.0, 0, 0, 96, 96))
    maps = Recording(folder / "said").read(((origin,),), NANO.branch_geometry[0], (12, 12))
    assert (maps.score == -1).all()


def test_a_recording_goes_on_where_it_stopped_and_belongs_to_one_teacher(
    recorded: tuple[Path, str, list[Record]], tmp_path: Path
) -> None:
    folder, teacher, _ = recorded
    part = folder / "said" / "000000.npz"
    before = part.read_bytes()
    part.unlink()
    with pytest.raises(DataError, match="no part yet"):
        Recording(folder / "said")
    options = record_teacher.Options(folder / "two.rec", teacher, folder / "said", SCALES)
    record_teacher.main(options)
    first, second = (np.load(stream) for stream in (_file(before, tmp_path / "old.npz"), part))
    assert all((first[name] == second[name]).all() for name in first.files)
    with pytest.raises(UsageError, match="another recording"):
        record_teacher.main(record_teacher.Options(folder / "two.rec", teacher, folder / "said", (1.0,)))
    assert find_teacher(teacher)[0] == [(8, 0.0), (16, 0.0), (32, 0.0)]


def _file(content: bytes, path: Path) -> Path:
    path.write_bytes(content)
    return path


def test_a_recording_of_other_images_is_no_teacher(recorded: tuple[Path, str, list[Record]]) -> None:
    folder, teacher, records = recorded
    read = DenseTeacher(str(folder / "said"), NANO)
    read.check_knows(["nobody", records[1].name], "train.rec")
    with pytest.raises(UsageError, match=r"the recording of two\.rec has no image of train\.rec"):
        read.check_knows(["nobody"], "train.rec")
    DenseTeacher(teacher, NANO).check_knows(["nobody"], "train.rec")


@pytest.mark.parametrize("harm", ["short", "counts", "card", "nan"])
def test_damaged_recordings_are_refused(recorded: tuple[Path, str, list[Record]], tmp_path: Path, harm: str) -> None:
    folder, _, _ = recorded
    card, part = ((folder / "said" / name).read_bytes() for name in ("recording.json", "000000.npz"))
    arrays = dict(np.load(_file(part, tmp_path / "000000.npz")))
    if harm == "card":
        card = json.dumps({**json.loads(card), "scales": [-1]}).encode()
    elif harm == "short":
        (tmp_path / "000000.npz").write_bytes(part[: len(part) // 2])
    else:
        arrays["counts"] = arrays["counts"] + (harm == "counts")
        arrays["box"] = arrays["box"] * (np.nan if harm == "nan" else 1)
        np.savez(tmp_path / "000000.npz", **arrays)
    (tmp_path / "recording.json").write_bytes(card)
    with pytest.raises(DataError, match=r"make it again|record the teacher again"):
        Recording(tmp_path)
