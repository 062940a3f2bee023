"""The WIDER FACE reader, in both official forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from data_provider_farm.readers.widerface import read_widerface
from lffd.errors import DataError

TEXT = """0--Parade/one.jpg
2
10 20 30 40 0 0 0 0 0 0
1 2 3 4 0 0 0 1 0 0
0--Parade/none.jpg
0
0 0 0 0 0 0 0 0 0 0
1--Other/bare.jpg
0
1--Other/last.jpg
1
5 6 7 8 1 1 0 0 2 1
"""


def listing(tmp_path: Path, text: str) -> list[tuple[str, list[list[float]], list[bool]]]:
    path = tmp_path / "gt.txt"
    path.write_text(text)
    found = read_widerface(tmp_path / "images", path)
    images = list(found.images)
    assert len(images) == found.count
    return [(image.name, image.boxes.tolist(), image.ignored.tolist()) for image in images]


def test_text_with_the_zero_box_quirk_and_without(tmp_path: Path) -> None:
    assert listing(tmp_path, TEXT) == [
        ("0--Parade/one.jpg", [[10, 20, 40, 60], [1, 2, 4, 6]], [False, True]),
        ("0--Parade/none.jpg", [], []),
        ("1--Other/bare.jpg", [], []),
        ("1--Other/last.jpg", [[5, 6, 12, 14]], [False]),
    ]
    assert listing(tmp_path, "") == []


def test_places_name_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "gt.txt"
    path.write_text(TEXT)
    images = list(read_widerface(tmp_path / "images", path).images)
    assert images[0].path == tmp_path / "images/0--Parade/one.jpg"
    assert images[0].where == f"{path}:1"
    assert images[0].box_where == (f"{path}:3", f"{path}:4")
    assert images[3].box_where == (f"{path}:12",)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("hello\n1\n", 1, "expected the name of an image, found 'hello'"),
        ("a.jpg\n", 2, "expected the number of faces in a.jpg, found 'the end of the file'"),
        ("a.jpg\nmany\n", 2, "found 'many'"),
        ("a.jpg\n-1\n", 2, "found '-1'"),
        ("a.jpg\n2\n1 2 3 4 0 0 0 0 0 0\n", 1, "announces 2 faces, but the file ends after 1 lines"),
        ("a.jpg\n1\n1 2 3 4 0 0 0 0 0\n", 3, "expected ten numbers"),
        ("a.jpg\n1\n1 2 x 4 0 0 0 0 0 0\n", 3, "expected ten numbers"),
        ("a.jpg\n1\n1 2 3 4 0 0 0 0 0 0\n9 9 9 9 0 0 0 0 0 0\n", 4, "expected the name of an image"),
    ],
)
def test_a_broken_text_is_named_by_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    with pytest.raises(DataError, match=rf"gt\.txt:{line}: .*{message}"):
        listing(tmp_path, text)


@pytest.mark.parametrize("numbers", ["nan 2 3 4", "1 inf 3 4", "1 2 -3 4", "1 2 3 -4", "1e30 2 3 4"])
def test_unusable_boxes_become_problems_with_their_line(tmp_path: Path, numbers: str) -> None:
    path = tmp_path / "gt.txt"
    path.write_text(f"a.jpg\n2\n{numbers} 0 0 0 0 0 0\n1 2 3 4 0 0 0 1 0 0\n")
    (image,) = read_widerface(tmp_path, path).images
    assert image.boxes.tolist() == [[1, 2, 4, 6]]
    assert image.ignored.tolist() == [True]
    assert image.box_where == (f"{path}:4",)
    (problem,) = image.problems
    assert (problem.kind, problem.where) == ("bad-box", f"{path}:3")


def test_files_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "gt.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"gt\.txt: is not UTF-8"):
        read_widerface(tmp_path, path)
    with pytest.raises(DataError, match="cannot be read"):
        read_widerface(tmp_path, tmp_path / "none.txt")


def cells(items: list[object]) -> np.ndarray:
    """A column of MATLAB cells."""
    column = np.empty((len(items), 1), object)
    for index, item in enumerate(items):
        column[index, 0] = item
    return column


def save_mat(path: Path, images: dict[str, dict[str, tuple[list[list[int]], list[int]]]]) -> None:
    savemat(
        path,
        {
            "event_list": cells(list(images)),
            "file_list": cells([cells(list(event)) for event in images.values()]),
            "face_bbx_list": cells([cells([np.array(b) for b, _ in event.values()]) for event in images.values()]),
            "invalid_label_list": cells(
                [cells([np.array(i).reshape(-1, 1) for _, i in event.values()]) for event in images.values()]
            ),
        },
    )


def test_mat_form(tmp_path: Path) -> None:
    path = tmp_path / "wider_face_val.mat"
    save_mat(
        path,
        {
            "0--Parade": {"one": ([[10, 20, 30, 40], [1, 2, 3, 4]], [0, 1]), "none": ([[0, 0, 0, 0]], [0])},
            "1--Other": {"last": ([[5, 6, 7, 8]], [0])},
        },
    )
    found = read_widerface(tmp_path, path)
    assert found.count == 3
    assert [(i.name, i.boxes.tolist(), i.ignored.tolist()) for i in found.images] == [
        ("0--Parade/one.jpg", [[10, 20, 40, 60], [1, 2, 4, 6]], [False, True]),
        ("0--Parade/none.jpg", [], []),
        ("1--Other/last.jpg", [[5, 6, 12, 14]], [False]),
    ]


def test_other_mat_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    savemat(path, {"gt_list": np.zeros(3)})
    with pytest.raises(DataError, match=r"has no event_list.*expected one like wider_face_train"):
        read_widerface(tmp_path, path)
    savemat(path, {key: np.zeros(2) for key in ("event_list", "file_list", "face_bbx_list", "invalid_label_list")})
    with pytest.raises(DataError, match="not laid out like"):
        read_widerface(tmp_path, path)
    path.write_text("no matlab")
    with pytest.raises(DataError, match="is not a MATLAB 5 file"):
        read_widerface(tmp_path, path)
    save_mat(path, {"e": {"a": ([[1, 2, 3, 4]], [0, 0])}})
    with pytest.raises(DataError, match=r"e/a.jpg: has 1 faces but 2 invalid flags"):
        list(read_widerface(tmp_path, path).images)
