from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from accuracy_evaluation.fddb.files import (
    FddbImage,
    format_result,
    read_annotations,
    read_image_sizes,
    read_results,
)
from detection.detections import Detections
from lffd.errors import DataError, UsageError

IMAGES = [FddbImage(name, 1, np.zeros((0, 5))) for name in ("a/one", "a/two")]
FOUND = Detections(
    np.array([[10, 20, 30.5, 61], [-2.25, 0, 97.75, 50]], np.float32), np.array([0.75, 0.02], np.float32)
)


def test_rectangles_are_these_bytes() -> None:
    expected = "2002/08/11/big/img_591\n2\n10.000 20.000 20.500 41.000 0.75\n-2.250 0.000 100.000 50.000 0.0199999996\n"
    assert format_result("2002/08/11/big/img_591", FOUND) == expected


def test_ellipses_are_these_bytes() -> None:
    expected = (
        "2002/08/11/big/img_591\n2\n20.500 10.250 1.570796 20.250 40.500 0.75\n"
        "50.000 25.000 0.000000 47.750 25.000 0.0199999996\n"
    )
    assert format_result("2002/08/11/big/img_591", FOUND, ellipses=True) == expected


@pytest.mark.parametrize("ellipses", [False, True])
def test_results_are_read_back_in_the_order_of_the_images(tmp_path: Path, ellipses: bool) -> None:
    none = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    path = tmp_path / "results.txt"
    path.write_text(format_result("a/two", FOUND, ellipses) + format_result("a/one", none, ellipses))
    first, second = read_results(path, IMAGES)
    assert len(first) == 0
    assert second.shape == (2, 6 if ellipses else 5)
    np.testing.assert_array_equal(second[:, -1].astype(np.float32), FOUND.scores)


def test_detections_come_best_first(tmp_path: Path) -> None:
    path = tmp_path / "results.txt"
    path.write_text("a/one\n3\n1 0 5 5 0.1\n2 0 5 5 0.9\n3 0 5 5 0.1\na/two\n0\n")
    assert read_results(path, IMAGES)[0][:, 0].tolist() == [2, 1, 3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a/one\n1\n1 2 3 4 5\na/three\n0\n", r"results\.txt:4: 'a/three' is not an annotated image"),
        ("a/one\n0\na/one\n0\n", r"results\.txt:3: a/one is already listed"),
        ("a/one\n1\n1 2 3 4\n", r"results\.txt:3: expected 5 or 6 numbers"),
        ("a/one\n1\n1 0 0 4 5 1\n", r"results\.txt:1: a/one has an ellipse with a radius"),
        ("a/one\n2\n1 2 3 4 5\n", r"results\.txt:2: says 2 rows"),
        ("one\n0\n", r"results\.txt:1: expected an image's name"),
    ],
)
def test_faults_are_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "results.txt"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_results(path, IMAGES)


def test_missing_images_are_refused_unless_allowed(tmp_path: Path) -> None:
    path = tmp_path / "results.txt"
    path.write_text("a/two\n1\n1 2 3 4 .5\n")
    with pytest.raises(UsageError, match="1 of 2 annotated images are not in it, the first is a/one"):
        read_results(path, IMAGES)
    assert [len(rows) for rows in read_results(path, IMAGES, missing_as_empty=True)] == [0, 1]
    path.write_text("")
    with pytest.raises(UsageError, match="2 of 2"):
        read_results(path, IMAGES, missing_as_empty=True)


def test_the_official_annotations_hold_what_is_known_of_them(shared: Path) -> None:
    images = read_annotations(shared / "data/fddb")
    assert len(images) == 2845
    assert sum(len(image.ellipses) for image in images) == 5171
    assert {image.fold for image in images} == set(range(1, 11))
    assert images[0].name == "2002/08/11/big/img_591"
    assert images[0].ellipses.tolist() == [[123.5833, 85.5495, 1.265839, 269.6934, 161.7812]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a/one\n1\n5 4 0 1 1\n", r"ellipseList\.txt:3: expected 6 numbers, found 5"),
        ("a/one\n1\n5 0 0 1 1 1\n", r"ellipseList\.txt:1: a/one has an ellipse with a radius"),
        ("a/one\n0\na/one\n0\n", r"ellipseList\.txt:3: a/one is already annotated in fold 1"),
    ],
)
def test_faulty_annotations_are_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UsageError, match="holds no annotations of FDDB"):
        read_annotations(tmp_path)
    (tmp_path / "FDDB-fold-01-ellipseList.txt").write_text(content)
    with pytest.raises(DataError, match=message):
        read_annotations(tmp_path)


def test_image_sizes(tmp_path: Path) -> None:
    path = tmp_path / "sizes.txt"
    path.write_text("a/one 450 300\na/two 299 450\n")
    assert read_image_sizes(path) == {"a/one": (450, 300), "a/two": (299, 450)}
    for line in ("a/one 450", "a/one 0 5", "a/one 450 x", "a/one 4.5 3"):
        path.write_text(f"a/two 1 1\n{line}\n")
        with pytest.raises(DataError, match=r"sizes\.txt:2: expected an image's name, width and height"):
            read_image_sizes(path)
