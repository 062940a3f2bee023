"""The reader of MATLAB 5 files, held to SciPy's, and against damage that ends a process there."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from lffd.errors import DataError
from lffd.matlab import read_matlab


def cells(items: list[Any]) -> np.ndarray:
    column = np.empty((len(items), 1), object)
    for index, item in enumerate(items):
        column[index, 0] = item
    return column


CONTENT = {
    "texts": cells(["0--Parade", "ñandú", ""]),
    "boxes": cells([cells([np.arange(8).reshape(2, 4), np.ones((1, 4))]), cells([])]),
    **{kind: np.arange(6).reshape(2, 3).astype(kind) for kind in ("f8", "f4", "i1", "u2", "i8")},
}


def same(first: Any, second: Any) -> bool:
    if isinstance(first, np.ndarray) and first.dtype == object:
        return first.shape == second.shape and all(map(same, first.ravel(), second.ravel()))
    return bool(np.array_equal(first, second))


@pytest.mark.parametrize("compressed", [False, True])
def test_what_is_read_is_what_scipy_reads(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "x.mat"
    savemat(path, CONTENT, do_compression=compressed)
    ours, theirs = read_matlab(path, CONTENT), loadmat(path)
    assert set(ours) == set(CONTENT)
    for name in set(CONTENT) - {"texts"}:
        assert same(ours[name], theirs[name]), name
    assert [str(cell[0]) for cell in ours["texts"][:2, 0]] == ["0--Parade", "ñandú"]
    assert set(read_matlab(path, ["f8"])) == {"f8"}


@pytest.mark.parametrize("compressed", [False, True])
def test_damage_is_an_error_or_harmless(tmp_path: Path, compressed: bool) -> None:
    stream, path, rng = io.BytesIO(), tmp_path / "x.mat", np.random.default_rng(0)
    savemat(stream, CONTENT, do_compression=compressed)
    data, refused = stream.getvalue(), 0
    for _ in range(1000):
        damaged = bytearray(data)
        for place in rng.integers(128, len(data), 3).tolist():
            damaged[place] = int(rng.choice([0, 1, 14, 15, 127, 255]))
        path.write_bytes(damaged[: int(rng.integers(120, len(data)))] if rng.random() < 0.2 else damaged)
        refused += 1
        with contextlib.suppress(DataError):
            read_matlab(path, CONTENT)
            refused -= 1
    assert refused > 200


def test_what_is_no_matlab_file(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    for data in (b"", b"no matlab", bytes(128)):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"x\.mat: is not a MATLAB 5 file"):
            read_matlab(path, ["a"])
    savemat(path, {"a": {"field": 1}})
    with pytest.raises(DataError, match="neither text, numbers nor cells"):
        read_matlab(path, ["a"])
