"""Files and directories stay whole when their writer is killed at any moment."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from lffd.errors import UsageError
from lffd.files import (
    OutputFolder,
    check_output,
    put_aside,
    recover_directory,
    replace_directory,
    write_atomic,
    write_together,
)


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


@pytest.mark.parametrize("process", [os.getpid(), 999_999_999], ids=["ours", "another"])
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


def test_what_is_no_file_is_written_through(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_atomic(tmp_path / "pipe", b"words")
    assert os.read(reader, 99) == b"words"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


def test_a_link_is_followed(tmp_path: Path) -> None:
    for name in ("there", "not there yet"):
        (tmp_path / "link").symlink_to(tmp_path / name)
        write_atomic(tmp_path / "link", name.encode())
        assert (tmp_path / name).read_bytes() == name.encode()
        assert (tmp_path / "link").is_symlink()
        (tmp_path / "link").unlink()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_device_is_named() -> None:
    with pytest.raises(OSError, match="/dev/full"):
        write_atomic("/dev/full", b"x" * 100_000)
    assert Path("/dev/full").is_char_device()


def test_a_full_disk_is_named_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomic(tmp_path / "f", b"old")

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path / 'f'}'"):
        write_atomic(tmp_path / "f", b"new")
    assert _contents(tmp_path) == {"f": b"old"}


def test_outputs_that_would_replace_something_are_refused(tmp_path: Path) -> None:
    photo, link = tmp_path / "photo.jpg", tmp_path / "link.json"
    photo.write_bytes(b'[{"image": looks like ours')
    link.symlink_to(photo)
    ours, foreign = tmp_path / "ours.json", tmp_path / "notes.json"
    ours.write_text('[\n{"image": "a.jpg"}]')
    foreign.write_text('{"mine": 1}')
    for path in (photo, link):
        with pytest.raises(UsageError, match="is an input of this command"):
            check_output(path, [photo], ['[{"image":'])
    with pytest.raises(UsageError, match="was not made by this command"):
        check_output(foreign, [photo], ['[{"image":'])
    for folder in (tmp_path, Path("/")):
        with pytest.raises(UsageError, match="is a folder"):
            check_output(folder)
    for good in (ours, tmp_path / "new.json", Path("/dev/null"), None):
        check_output(good, [photo], ['[{"image":'])


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with OutputFolder(out) as first:
        with pytest.raises(UsageError, match="another run is writing there"), OutputFolder(out):
            raise AssertionError
        (out / "mine.jpg").touch()
        (out / "theirs.jpg").touch()
        first.claim(out / "mine.jpg")
    with OutputFolder(out) as second:
        assert second.may_write(out / "mine.jpg")
        assert second.may_write(out / "new.jpg")
        assert not second.may_write(out / "theirs.jpg")


@pytest.mark.parametrize("beside", [False, True])
def test_a_lock_dies_with_its_process_and_leaves_nothing(tmp_path: Path, beside: bool) -> None:
    out = tmp_path / "out"
    code = "import sys; from pathlib import Path; from lffd.files import OutputFolder; folder = Path(sys.argv[1]); "
    code += f"lock = OutputFolder(folder, {beside}); lock.__enter__(); print(1, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(UsageError, match="another run"), OutputFolder(out, beside):
            raise AssertionError
        process.kill()
        process.wait()
        with OutputFolder(out, beside):
            pass
    assert [path.name for path in tmp_path.iterdir() if path != out] == []
    assert not out.exists() or list(out.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no /dev/shm")
def test_files_in_shared_memory_are_replaced_like_any() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = Path(folder, "x")
        for content in (b"first", b"second"):
            write_atomic(path, content)
        assert path.read_bytes() == b"second"


def test_files_that_belong_together_come_together(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "none" / "b"
    first.write_bytes(b"old")
    with pytest.raises(FileNotFoundError, match="none/b"):
        write_together({first: b"new", second: b"new"})
    assert first.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    write_together({first: b"new", tmp_path / "b": b"newer"})
    assert (first.read_bytes(), (tmp_path / "b").read_bytes()) == (b"new", b"newer")
