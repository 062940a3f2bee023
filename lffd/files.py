"""Files and directories that are either whole or absent, and never somebody else's."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from lffd.errors import UsageError

RECORD = ".lffd_files"
"""Lock of an output folder, and the names of the files that runs made there, one a line."""


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Give an OSError that says no file, such as that of a full disk, the name of this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = os.fspath(path)
        raise


class OutputFile:
    """A file being written, which takes its name when it is complete.

    A symbolic link is followed; a device, a pipe or a name like `/dev/stdout` or in `/proc` is written through.

    Attributes:
        stream: takes the bytes; errors carry the name where the writer says `with naming(path)`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path, self.stays = Path(path), _written_through(Path(path))
        self.target = self.path if self.stays else Path(os.path.realpath(path))
        self.temporary = self.target.with_name(f".{self.target.name}.{os.getpid()}.tmp")
        try:
            self.stream = self.path.open("ab") if self.stays else self.temporary.open("wb")
        except OSError as error:
            error.filename = os.fspath(path)  # the temporary name says nothing to users
            raise

    def commit(self, durable: bool = True) -> None:
        """Give the file its name; unless `durable` is off, only after its content has reached the disk."""
        try:
            with naming(self.path):
                self.stream.flush()
                if durable and not self.stays:
                    os.fsync(self.stream.fileno())
                self.stream.close()
                if not self.stays:
                    self.temporary.replace(self.target)
        except BaseException:
            self.discard()
            raise
        if durable and not self.stays:
            _reach_disk(self.target.parent)

    def discard(self) -> None:
        """Leave what was there before."""
        with suppress(OSError):  # what could not be written is not wanted
            self.stream.close()
        if not self.stays:
            self.temporary.unlink(missing_ok=True)


def write_atomic(path: str | os.PathLike[str], data: bytes, durable: bool = True) -> None:
    """Write `data` so that `path` holds either its old content or all of the new, also after a crash; see `OutputFile`.

    Unless `durable` is off, the data is on the disk before it takes the name.
    """
    output = OutputFile(path)
    try:
        with naming(path):
            output.stream.write(data)
    except BaseException:
        output.discard()
        raise
    output.commit(durable)


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write files that belong together: none takes its name before the data of all is on the disk."""
    outputs: list[OutputFile] = []
    try:
        for path, data in files.items():
            outputs.append(OutputFile(path))
            with naming(path):
                outputs[-1].stream.write(data)
                outputs[-1].stream.flush()
                os.fsync(outputs[-1].stream.fileno())
    except BaseException:
        for output in outputs:
            output.discard()
        raise
    for output in outputs:
        output.commit()


def _written_through(path: Path) -> bool:
    """Say whether a name stands for something that is no file to replace."""
    # /dev/stdout may lead to a regular file; /dev/shm and other folders there hold files like any.
    folder = path.absolute().parent
    if folder in (Path("/dev"), Path("/dev/fd")) or folder.is_relative_to("/proc"):
        return True
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def check_output(path: Path | None, inputs: Iterable[str | os.PathLike[str]] = (), marks: Iterable[str] = ()) -> None:
    """Refuse, before the work, to write a result over an input, or over a file that no such command made.

    Args:
        path: where the result will go; nothing is checked for None.
        inputs: files that are read; links to them and other spellings of their names count too.
        marks: one of these stands in every file that the command makes, spaces and line ends apart.

    Raises:
        UsageError: naming the file.
    """
    if path is None:
        return
    if path.is_dir() or not path.name:
        raise UsageError(f"{path} is a folder; name a file")
    if not path.exists() or _written_through(path):
        return
    if any(os.path.exists(other) and os.path.samefile(path, other) for other in inputs):
        raise UsageError(f"{path} is an input of this command; write the result to another file")
    with path.open("rb") as stream:
        content = stream.read(_LOOK)
        if path.stat().st_size > 2 * _LOOK:
            stream.seek(-_LOOK, os.SEEK_END)
        content = b"".join((content + stream.read(_LOOK)).split())
    if content and not any("".join(mark.split()).encode() in content for mark in marks):
        raise UsageError(f"{path} was not made by this command, so it is not replaced: choose another name")


_LOOK = 1 << 20
"""How much is read of both ends of a file to see what made it."""


class OutputFolder:
    """An output folder into which one run at a time writes, and only over files that such runs made.

    A context manager. The lock is the operating system's and ends with the process, however it ends.

    Args:
        folder: made when missing; removed again when nothing was put into it.
        beside: keep the lock beside the folder, for one that is replaced as a whole.

    Raises:
        UsageError: on entry, when another run writes there.
    """

    def __init__(self, folder: Path, beside: bool = False) -> None:
        self.folder, self._fresh = folder, not folder.exists()
        self._record = folder.with_name(f".{folder.resolve().name}.lock") if beside else folder / RECORD

    def __enter__(self) -> OutputFolder:
        self._record.parent.mkdir(parents=True, exist_ok=True)
        while True:
            self._stream = self._record.open("a+b")
            try:
                fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self._stream.close()
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    message = f"{self.folder}: another run is writing there; wait for it, or choose another folder"
                    raise UsageError(message) from error
                raise OSError(error.errno, error.strerror, str(self._record)) from error
            if self._record.exists() and os.path.samestat(os.fstat(self._stream.fileno()), self._record.stat()):
                break  # else the run before removed it between our opening and locking it
            self._stream.close()
        self._stream.seek(0)
        self._made = set(self._stream.read().decode(errors="surrogateescape").splitlines())
        return self

    def __exit__(self, *details: object) -> None:
        if not self._made:
            self._record.unlink(missing_ok=True)
            if self._fresh and self.folder.is_dir() and not any(self.folder.iterdir()):
                self.folder.rmdir()
        self._stream.close()

    def may_write(self, path: Path) -> bool:
        """Say whether a file of the folder is missing, or one that runs made."""
        return not os.path.lexists(path) or self._name(path) in self._made

    def claim(self, path: Path) -> Path:
        """Note that this run makes a file, and return its path."""
        if (name := self._name(path)) not in self._made:
            self._made.add(name)
            with naming(self._record):
                self._stream.write(f"{name}\n".encode(errors="surrogateescape"))
                self._stream.flush()
        return path

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix().replace("\n", "\\n")


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
