from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accuracy_evaluation.widerface.ground_truth import ImageTruth
from accuracy_evaluation.widerface.results import format_result, read_result, read_results, write_result
from detection.detections import Detections
from lffd.errors import DataError, UsageError


def image(name: str = "0_Parade_marchingband_1_465", event: str = "0--Parade") -> ImageTruth:
    return ImageTruth(event, name, np.zeros((0, 4)), np.zeros((3, 0), bool))


def detections(boxes: list[list[float]], scores: list[float]) -> Detections:
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32))


THREE = detections(
    [[10, 20.5, 30.25, 60], [-3.75, 0, 100.125, 99.9], [1024.0625, 5, 1030, 17.5]], [0.99999994, 0.5, 0.020000001]
)

AS_FLOATS = b"""0_Parade_marchingband_1_465
3
10.000 20.500 20.250 39.500 0.99999994
-3.750 0.000 103.875 99.900 0.5
1024.062 5.000 5.938 12.500 0.0200000014
"""

AS_PUBLISHED = b"""0_Parade_marchingband_1_465
3
10 20 21 40 1.000
-4 0 104 100 0.500
1024 5 6 13 0.020
"""


@pytest.mark.parametrize(("published", "expected"), [(False, AS_FLOATS), (True, AS_PUBLISHED)])
def test_files_are_these_bytes(tmp_path: Path, published: bool, expected: bytes) -> None:
    path = write_result(tmp_path, image(), THREE, published)
    assert path == tmp_path / "0--Parade/0_Parade_marchingband_1_465.txt"
    assert path.read_bytes() == expected
    assert list(path.parent.iterdir()) == [path]


def test_an_image_without_detections_is_two_lines() -> None:
    assert format_result("name", detections([], [])) == "name\n0\n"


@given(
    st.lists(
        st.tuples(
            *[st.floats(-5000, 5000, width=32)] * 2, *[st.floats(0, 5000, width=32)] * 2, st.floats(0, 1, width=32)
        ),
        max_size=20,
    )
)
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, ...]]) -> None:
    rows.sort(key=lambda row: -row[4])
    table = np.array(rows, np.float32).reshape(-1, 5)
    corners = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    path = write_result(tmp_path_factory.mktemp("results"), image(), Detections(corners, table[:, 4]))
    ours = read_result(path)
    name, count, *lines = path.read_text().splitlines()  # as any other program would
    plain = [[float(word) for word in line.split(" ")] for line in lines]
    assert (name, int(count)) == ("0_Parade_marchingband_1_465", len(rows))
    assert ours.tolist() == plain
    np.testing.assert_array_equal(ours[:, 4].astype(np.float32), table[:, 4])
    sides = corners[:, 2:].astype(float) - corners[:, :2]
    np.testing.assert_allclose(ours[:, :4], np.concatenate([corners[:, :2], sides], axis=1), atol=5.1e-4)


def test_other_programs_files_are_read_best_first_with_ties_in_file_order(tmp_path: Path) -> None:
    path = tmp_path / "other.txt"
    path.write_bytes(b"0--Parade/any name at all.jpg\r\n3\r\n1 1 1 1 1e-1\r\n2 2 2 2 7\r\n3 3 3 3 .1\r\n\r\n")
    assert read_result(path)[:, 0].tolist() == [2, 1, 3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"one\.txt:2: expected the number"),
        (b"one", r"one\.txt:2: expected the number"),
        (b"one\n2\n1 2 3 4 .5\n", r"one\.txt:2: says 2 rows, but the file ends after 1"),
        (b"one\n1\n1 2 3 4 .5\n1 2 3 4 .5\n", r"one\.txt:4: line 2 says 1 boxes, but more lines follow"),
        (b"one\n1\n1 2 3 4\n", r"one\.txt:3: expected 5 numbers, found 4"),
        (b"\xff\xd8\xff", r"one\.txt: is not UTF-8 text"),
    ],
)
def test_faults_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "one.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_result(tmp_path / "one.txt")


def test_missing_files_are_refused_unless_allowed(tmp_path: Path) -> None:
    one, two = image("one"), image("two")
    with pytest.raises(UsageError, match="no such folder"):
        read_results(tmp_path / "none", [one])
    with pytest.raises(UsageError, match="2 of 2 result files are missing"):
        read_results(tmp_path, [one, two], missing_as_empty=True)
    write_result(tmp_path, one, THREE)
    with pytest.raises(UsageError, match=r"1 of 2 result files are missing, the first is .*two\.txt"):
        read_results(tmp_path, [one, two])
    assert [len(rows) for rows in read_results(tmp_path, [one, two], missing_as_empty=True)] == [3, 0]
