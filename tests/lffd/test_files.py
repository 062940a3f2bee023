"""Files and directories stay whole when their writer is killed at any moment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from lffd.files import put_aside, recover_directory, replace_directory, write_atomic


class Killed(BaseException):
    """Stands for a process that ends in the middle."""


def _owned(folder: Path) -> frozenset[str]:
    return frozenset({"a", "b"})


def _contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_an_atomic_write_leaves_one_file(tmp_path: Path) -> None:
    for data in (b"", b"old", b"new"):
        write_atomic(tmp_path / "f", data)
        assert _contents(tmp_path) == {"f": data}


def test_a_failed_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomic(tmp_path / "f", b"old")

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(tmp_path / "f", b"new")
    assert _contents(tmp_path) == {"f": b"old"}


def test_foreign_files_move_along_and_owned_ones_go(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "m[1]"
    replace_directory(target, {"a": b"1", "b": b"2"}, _owned)
    (target / "notes.txt").write_bytes(b"mine")
    replace_directory(target, {"a": b"3"}, _owned)
    assert _contents(target) == {"a": b"3", "notes.txt": b"mine"}
    assert list(target.parent.iterdir()) == [target]


def _kill_at(moment: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """End the process in place of its `moment`-th rename."""
    renames, rename = iter(range(1000)), Path.rename

    def rename_or_die(self: Path, target: Any) -> Path:
        if next(renames) == moment:
            raise Killed
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", rename_or_die)


@pytest.mark.parametrize("process", [os.getpid(), 999_999_999])
@pytest.mark.parametrize("moment", range(3))
def test_a_killed_replacement_is_made_good(
    tmp_path: Path, moment: int, process: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "m"
    replace_directory(target, {"a": b"old", "b": b"old"}, _owned)
    (target / "notes.txt").write_bytes(b"mine")
    with monkeypatch.context() as patch:
        _kill_at(moment, patch)
        with pytest.raises(Killed):
            replace_directory(target, {"a": b"new"}, _owned)
    for leftover in tmp_path.glob(".m.*"):
        leftover.rename(leftover.with_name(leftover.name.replace(str(os.getpid()), str(process))))
    aside = put_aside(target)
    assert (aside is None) == (moment != 1)
    recover_directory(target)
    assert (target / "a").read_bytes() == (b"new" if moment == 2 else b"old")
    replace_directory(target, {"a": b"newest"}, _owned)
    assert _contents(target) == {"a": b"newest", "notes.txt": b"mine"}
    assert list(tmp_path.iterdir()) == [target]


def test_a_foreign_file_whose_name_is_taken_is_never_lost(tmp_path: Path) -> None:
    target, old = tmp_path / "m", tmp_path / ".m.1.old"
    for folder, text in ((target, b"later"), (old, b"earlier")):
        folder.mkdir()
        (folder / "notes.txt").write_bytes(text)
    replace_directory(target, {"a": b"1"}, _owned)
    assert (target / "notes.txt").read_bytes() == b"later"
    assert (old / "notes.txt").read_bytes() == b"earlier"


def test_neighbours_of_like_names_are_left_alone(tmp_path: Path) -> None:
    for name in (".m.old", ".m.x.old", ".mm.1.old", ".m.1.older", "m.1.old"):
        (tmp_path / name).mkdir()
    before = set(tmp_path.iterdir())
    assert put_aside(tmp_path / "m") is None
    replace_directory(tmp_path / "m", {"a": b"1"}, _owned)
    assert set(tmp_path.iterdir()) == before | {tmp_path / "m"}
