from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from accuracy_evaluation.widerface.branches import (
    branches_path,
    branches_to_json,
    branches_to_text,
    read_branches,
    recall_by_branch,
    write_branches,
)
from accuracy_evaluation.widerface.ground_truth import ImageTruth
from accuracy_evaluation.widerface.protocol import match
from lffd.errors import DataError
from symbol_farm.versions import version_network

HEAD = version_network("head")  # 10–20, 20–40, 40–80, 80–160


def image(*sides: float) -> ImageTruth:
    boxes = np.array([[300.0 * number, 0, side, side] for number, side in enumerate(sides)]).reshape(-1, 4)
    return ImageTruth("e", f"with {len(sides)} faces", boxes, np.ones((3, len(sides)), bool))


def rows(truth: ImageTruth, scores: list[float]) -> np.ndarray:
    return np.column_stack([truth.boxes[: len(scores)], scores])


def test_branches_are_written_beside_the_results_and_read_back(tmp_path: Path) -> None:
    for branches in ([], [3, 0, 2]):
        write_branches(tmp_path, image(), np.array(branches, np.int8))
        assert read_branches(tmp_path, image(), len(branches)).tolist() == branches
    assert branches_path(tmp_path, image()) == tmp_path / "branches/e/with 0 faces.txt"
    assert branches_path(tmp_path, image()).read_bytes() == b"with 0 faces\n3\n3\n0\n2\n"


@pytest.mark.parametrize("content", ["e\n1\n0\n", "e\n2\n0\n-1\n", "e\n2\n0\n0.5\n", "e\n2\n0 1\n1 0\n"])
def test_branches_that_do_not_go_with_the_results_are_refused(tmp_path: Path, content: str) -> None:
    path = branches_path(tmp_path, image())
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(DataError, match="with 0 faces"):
        read_branches(tmp_path, image(), 2)


def test_faces_are_grouped_by_responsible_branch_and_by_finder() -> None:
    truth = [image(12, 20, 30, 200), image(), image(9, 100)]
    results = [rows(truth[0], [0.9, 0.8, 0.7]), np.array([[0, 0, 9, 9, 0.5]]), rows(truth[2], [0.6])]
    branches = [np.array([0, 0, 1]), np.array([3]), np.array([0])]
    recall = recall_by_branch(truth, match(truth, results), branches, HEAD, score=0.75)
    found = [(row.low, row.high, row.faces, row.recall, row.working_recall) for row in recall[0]]
    assert found[:3] == [(0, 10, 1, 1, 0), (10, 20, 1, 1, 1), (20, 40, 2, 1, 0.5)]
    assert found[4:] == [(80, 160, 1, 0, 0), (160, np.inf, 1, 0, 0)]
    assert recall[1].tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [0] * 4, [0] * 4, [0] * 4]
    assert [row["branch"] for row in branches_to_json(recall)] == [None, 0, 1, 2, 3, None]
    assert branches_to_json(recall)[2]["found_by"] == [1, 1, 0, 0]
    text = branches_to_text(recall, 0.75).splitlines()
    assert text[1].split()[-4:] == ["b0", "b1", "b2", "b3"]
    assert text[4].split() == ["20–40", "2", "1.0000", "0.5000", "1", "1", "0", "0"]
    assert len({len(line) for line in text[1:]}) == 1


def test_a_branch_that_the_network_lacks_is_refused() -> None:
    truth = [image(12)]
    with pytest.raises(DataError, match="is of branch 4, but"):
        recall_by_branch(truth, match(truth, [rows(truth[0], [0.9])]), [np.array([4])], HEAD, 0.5)
