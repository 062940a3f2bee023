"""Files and directories that are either whole or absent."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` so that `path` holds either its old content or all of the new, also after a crash.

    The data goes to a temporary file in the same folder, reaches the disk, and then takes the name.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    _reach_disk(target.parent)


def replace_directory(
    target: Path, files: Mapping[str, bytes], owned: Callable[[Path], frozenset[str]] = lambda folder: frozenset()
) -> None:
    """Put a directory of `files` in the place of `target`, so that a crash loses neither the old nor the new.

    The new one is complete on the disk before the old one is put aside as `.NAME.PID.old`; `recover_directory` brings
    that back when a process was killed between the two renames. One process at a time writes a directory.

    Args:
        target: made with its parents when missing.
        files: name to content.
        owned: says which entries of an old directory may go; the others are moved to the new one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    recover_directory(target)
    fresh, old = (target.with_name(f".{target.name}.{os.getpid()}.{word}") for word in ("new", "old"))
    _clear_leftovers(target, owned)
    fresh.mkdir()
    for name, data in files.items():
        write_atomic(fresh / name, data)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    _reach_disk(target.parent)
    if old.exists():
        _retire(old, target, owned)
        _reach_disk(target.parent)


def recover_directory(target: Path) -> None:
    """Bring back what a killed `replace_directory` put aside, when `target` itself is missing."""
    if (aside := put_aside(target)) is not None:
        aside.rename(target)
        _reach_disk(target.parent)


def put_aside(target: Path) -> Path | None:
    """Return the directory that a killed `replace_directory` put aside, when `target` itself is missing."""
    if target.exists():
        return None
    return max(_leftovers(target, "old"), key=lambda folder: folder.stat().st_mtime_ns, default=None)


def _leftovers(target: Path, word: str) -> list[Path]:
    """Return the directories beside `target` that writers left half done."""
    pattern = re.compile(rf"\.{re.escape(target.name)}\.\d+\.{word}")
    siblings = target.parent.iterdir() if target.parent.is_dir() else ()
    return [sibling for sibling in siblings if pattern.fullmatch(sibling.name)]


def _clear_leftovers(target: Path, owned: Callable[[Path], frozenset[str]]) -> None:
    """Remove what killed writers left; foreign entries that were on their way to `target` still get there."""
    for half in _leftovers(target, "new"):
        shutil.rmtree(half)
    for old in _leftovers(target, "old"):
        _retire(old, target, owned)


def _retire(old: Path, target: Path, owned: Callable[[Path], frozenset[str]]) -> None:
    """Move the foreign entries of `old` to `target` and remove the rest; an entry whose name is taken stays there."""
    names = owned(old)
    foreign = [entry for entry in old.iterdir() if entry.name not in names]
    taken = [entry for entry in foreign if (target / entry.name).exists()]
    for entry in foreign:
        if entry not in taken:
            entry.rename(target / entry.name)
    if not taken:
        shutil.rmtree(old)


def _reach_disk(folder: Path) -> None:
    """Make the names in `folder` last through a power cut."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
