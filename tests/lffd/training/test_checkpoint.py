"""Checkpoints are whole or passed over."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lffd.errors import ModelError
from lffd.training.checkpoint import newest_checkpoint, read_checkpoint, write_checkpoint

ARRAYS = {"arg:conv1_weight": np.random.default_rng(0).normal(size=(3, 2, 1, 1)).astype(np.float32), "n": np.array([7])}


def test_round_trip(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 12, ARRAYS, {"iteration": 12, "note": "ü"})
    found = read_checkpoint(path)
    assert found.facts == {"iteration": 12, "note": "ü"}
    assert found.arrays.keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
        assert found.arrays[name].dtype == value.dtype
        np.testing.assert_array_equal(found.arrays[name], value)
    with np.load(path) as plain:  # any NumPy reads it
        np.testing.assert_array_equal(plain["n"], [7])


def test_no_folder_is_no_checkpoint(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "none") == (None, [])


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 0.99])
def test_a_truncated_newest_one_is_passed_over_by_name(tmp_path: Path, share: float) -> None:
    write_checkpoint(tmp_path, 1, ARRAYS, {"iteration": 1})
    newest = write_checkpoint(tmp_path, 2, ARRAYS, {"iteration": 2})
    data = newest.read_bytes()
    newest.write_bytes(data[: int(len(data) * share)])
    found, skipped = newest_checkpoint(tmp_path)
    assert found is not None
    assert found.facts["iteration"] == 1
    assert len(skipped) == 1
    assert "iteration_00000002.npz: not a whole checkpoint" in skipped[0]


@pytest.mark.parametrize("change", [*(1 << bit for bit in range(8)), 0x0E])
def test_a_flipped_bit_anywhere_is_found_or_harmless(tmp_path: Path, change: int) -> None:
    array = np.array([1.5], np.float32)
    whole = write_checkpoint(tmp_path, 1, {"arg:x": array}, {"iteration": 1, "note": "x"}).read_bytes()
    path, refused = tmp_path / "iteration_00000002.npz", 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
        try:
            found = read_checkpoint(path)
        except ModelError:
            refused += 1
            continue
        assert found.facts == {"iteration": 1, "note": "x"}
        assert found.arrays.keys() == {"arg:x"}
        np.testing.assert_array_equal(found.arrays["arg:x"], array, strict=True)
    assert refused > len(whole) // 2  # the rest are dates, versions and the like


def test_an_array_that_is_gone_is_missed(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 1, ARRAYS, {"iteration": 1})
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist() if name != "n"}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    with pytest.raises(ModelError, match="its arrays are not those that its facts list"):
        read_checkpoint(path)


def test_arrays_of_any_layout_and_rank(tmp_path: Path) -> None:
    arrays = {"fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "scalar": np.array(3), "none": np.zeros(0)}
    found = read_checkpoint(write_checkpoint(tmp_path, 1, arrays, {"iteration": 1})).arrays
    for name, value in arrays.items():
        np.testing.assert_array_equal(found[name], value, strict=True)


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for iteration in range(1, 6):
        write_checkpoint(tmp_path, iteration, ARRAYS, {"iteration": iteration}, keep=2)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["iteration_00000004.npz", "iteration_00000005.npz"]


def test_damaged_later_ones_never_cost_the_one_just_written(tmp_path: Path) -> None:
    for iteration in (1, 2):
        write_checkpoint(tmp_path, iteration, ARRAYS, {"iteration": iteration})
    for iteration in range(10, 16):
        (tmp_path / f"iteration_{iteration:08d}.npz").write_bytes(b"damaged")
    path = write_checkpoint(tmp_path, 3, ARRAYS, {"iteration": 3}, keep=2)
    found, skipped = newest_checkpoint(tmp_path)
    assert found is not None
    assert (found.path, len(skipped)) == (path, 6)
    assert (tmp_path / "iteration_00000002.npz").exists()
    assert not (tmp_path / "iteration_00000001.npz").exists()


def _entry(array: np.ndarray, **options: bool) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "entry",
    [
        _entry(np.array([print], dtype=object), allow_pickle=True),
        _entry(np.zeros(4)).replace(b"(4,)", b"(9,)"),
        b"no array at all",
    ],
)
def test_entries_that_lie_are_refused_and_nothing_is_unpickled(tmp_path: Path, entry: bytes) -> None:
    path = tmp_path / "iteration_00000001.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("facts.json", '{"facts": {"iteration": 1}, "arrays": {}}')
        archive.writestr("arg:x", entry)
    with pytest.raises(ModelError, match=r"not a whole checkpoint: [A-Z]"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ("", "not a whole checkpoint"),
        ("[" * 100_000, "not a whole checkpoint: RecursionError"),
        ("3", "not a whole checkpoint: TypeError"),
        ('{"iteration": 1}', "not a whole checkpoint: KeyError"),
        ('{"facts": {}, "arrays": {}}', "its facts name no iteration"),
        ('{"facts": {"iteration": true}, "arrays": {}}', "its facts name no iteration"),
        ('{"facts": 3, "arrays": {}}', "its facts name no iteration"),
        ('{"facts": {"iteration": 1}, "arrays": {"x": 3}}', "its arrays are not those"),
    ],
)
def test_facts_that_are_none_are_refused(tmp_path: Path, facts: str, message: str) -> None:
    path = tmp_path / "iteration_00000001.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("facts.json", facts)
    with pytest.raises(ModelError, match=message):
        read_checkpoint(path)


def test_leftovers_of_a_killed_write_are_not_chosen_and_go(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, ARRAYS, {"iteration": 1})
    (tmp_path / ".iteration_00000002.npz.123.tmp").write_bytes(b"half")
    found, skipped = newest_checkpoint(tmp_path)
    assert found is not None
    assert (found.facts["iteration"], skipped) == (1, [])
    path = write_checkpoint(tmp_path, 3, ARRAYS, {"iteration": 3}, keep=1)
    assert list(tmp_path.iterdir()) == [path]
