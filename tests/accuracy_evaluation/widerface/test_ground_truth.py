from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from accuracy_evaluation.widerface.ground_truth import images_present, load_ground_truth
from lffd.errors import DataError, UsageError
from tests.accuracy_evaluation.made_up import Truth, write_truth

TWO_FACES: Truth = {
    "0--Parade": {"one": ([[1, 2, 3, 4], [5, 6, 7, 8]], ([1], [1, 2], []))},
    "1--Empty": {"two": ([], ([], [], []))},
}


def test_boxes_and_evaluated_faces_are_read(tmp_path: Path) -> None:
    first, second = load_ground_truth(write_truth(tmp_path, TWO_FACES))
    assert (first.event, first.name, first.path) == ("0--Parade", "one", "0--Parade/one")
    assert first.boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert first.evaluated.tolist() == [[True, False], [True, True], [False, False]]
    assert second.boxes.shape == (0, 4)
    assert second.evaluated.shape == (3, 0)


def test_the_official_files_hold_what_is_known_of_them(shared: Path) -> None:
    images = load_ground_truth(shared / "data/widerface/wider_face_split")
    assert len(images) == 3226
    assert len({image.event for image in images}) == 61
    assert sum(len(image.boxes) for image in images) == 39708
    assert [sum(int(image.evaluated[subset].sum()) for image in images) for subset in range(3)] == [7211, 13319, 31958]
    assert len(images_present(images, shared / "data/widerface/WIDER_val/images")) == 308


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (
            {"e": {"a": ([[1, 2, 3, 4]], ([2], [], []))}},
            r"wider_easy_val\.mat: e/a has 1 boxes, but an index outside 1–1",
        ),
        ({"e": {"a": ([[1, 2, 3, 4]], ([], [], [0]))}}, r"wider_hard_val\.mat: e/a has 1 boxes"),
        ({"e": {"../a": ([[1, 2, 3, 4]], ([], [], []))}}, r"image 1 of e must be the name of a file, not '\.\./a'"),
        ({"..": {"a": ([[1, 2, 3, 4]], ([], [], []))}}, r"event 1 must be the name of a file, not '\.\.'"),
        ({"e": {"a": ([[1, 2, 3, np.nan]], ([], [], []))}}, r"the boxes of e/a must be an n×4 array of numbers"),
    ],
)
def test_impossible_content_is_refused(tmp_path: Path, truth: Truth, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_ground_truth(write_truth(tmp_path, truth))


@pytest.mark.parametrize("name", ["wider_face_val.mat", "wider_medium_val.mat"])
@pytest.mark.parametrize("content", [None, b"", b"MATLAB", b"no such thing " * 50, "half"])
def test_missing_and_damaged_files_are_named(tmp_path: Path, name: str, content: bytes | str | None) -> None:
    path = write_truth(tmp_path, TWO_FACES) / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if isinstance(content, str) else content)
    with pytest.raises(DataError, match=name):
        load_ground_truth(tmp_path)


def test_flipped_bytes_give_a_data_error_or_data(tmp_path: Path) -> None:
    path = write_truth(tmp_path, TWO_FACES) / "wider_face_val.mat"
    good = path.read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        data = bytearray(good)
        data[generator.integers(128, len(data))] ^= 1 << int(generator.integers(8))
        path.write_bytes(data)
        try:
            load_ground_truth(tmp_path)
        except DataError:
            refused += 1
    assert refused > 20


def test_other_variables_and_other_releases_are_refused(tmp_path: Path) -> None:
    from scipy.io import savemat

    write_truth(tmp_path, TWO_FACES)
    savemat(tmp_path / "wider_hard_val.mat", {"something": 1})
    with pytest.raises(DataError, match="has no variable 'gt_list'"):
        load_ground_truth(tmp_path)
    savemat(tmp_path / "wider_hard_val.mat", {"gt_list": np.zeros((2, 2))})
    with pytest.raises(DataError, match="gt_list must be an n×1 cell array, not float64"):
        load_ground_truth(tmp_path)
    write_truth(tmp_path / "other", {"0--Parade": TWO_FACES["0--Parade"]})
    (tmp_path / "other/wider_hard_val.mat").rename(tmp_path / "wider_hard_val.mat")
    with pytest.raises(DataError, match=r"lists 1 events, wider_face_val\.mat lists 2"):
        load_ground_truth(tmp_path)


def test_only_images_that_are_there_are_present(tmp_path: Path) -> None:
    images = load_ground_truth(write_truth(tmp_path / "truth", TWO_FACES))
    with pytest.raises(UsageError, match="no such folder"):
        images_present(images, tmp_path / "images")
    (tmp_path / "images/1--Empty").mkdir(parents=True)
    with pytest.raises(UsageError, match="holds none of the 2"):
        images_present(images, tmp_path / "images")
    (tmp_path / "images/1--Empty/two.jpg").touch()
    assert [image.name for image in images_present(images, tmp_path / "images")] == ["two"]
    with pytest.raises(UsageError, match=r"did you mean .*images\?"):
        images_present(images, tmp_path)
