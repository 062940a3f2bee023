from __future__ import annotations

from pathlib import Path

import pytest

from accuracy_evaluation.text_rows import parse_block, read_lines
from lffd.errors import DataError


@pytest.mark.parametrize(
    ("text", "rows", "end"),
    [
        ("0", [], 1),
        ("1\n1 2 3 4 0.5", [[1, 2, 3, 4, 0.5]], 2),
        ("2\n1 2 3 4 .5 \n-1e1\t2 3 4 1\nnext", [[1, 2, 3, 4, 0.5], [-10, 2, 3, 4, 1]], 3),
    ],
)
def test_blocks_are_read_to_their_end(text: str, rows: list[list[float]], end: int) -> None:
    found, stop = parse_block("file", text.splitlines(), 0, (5,))
    assert found.shape[1] == 5
    assert found.tolist() == rows
    assert stop == end


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"file:1: expected the number of rows that follow, found ''"),
        ("-1", r"file:1: expected the number"),
        ("1.5", r"file:1: expected the number"),
        ("2\n1 2 3 4 5", r"file:1: says 2 rows, but the file ends after 1"),
        ("1\n1 2 3 4", r"file:2: expected 5 or 6 numbers, found 4"),
        ("2\n1 2 3 4 5\n1 2 3 4 5 6", r"file:3: expected 5 numbers, found 6"),
        ("2\n1 2 3 4 5\n1 2 3 x 5", r"file:3: 'x' is not a finite number"),
        ("1\n1 2 nan 4 5", r"file:2: 'nan' is not a finite number"),
        ("1\n1 2 inf 4 5", r"file:2: 'inf' is not a finite number"),
        ("99999999999999999999\n1 2 3 4 5", r"file:1: says 99999999999999999999 rows"),
    ],
)
def test_faults_are_named_by_line(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_block("file", text.splitlines(), 0, (5, 6))


def test_lines_end_anyhow_and_blank_ones_at_the_end_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes(b"\xef\xbb\xbfa\r\nb\n\n \n")
    assert read_lines(path) == ["a", "b"]


def test_a_picture_or_nothing_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "picture.txt").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read_lines(tmp_path / "picture.txt")
    with pytest.raises(DataError, match=r"none\.txt: cannot be read"):
        read_lines(tmp_path / "none.txt")
