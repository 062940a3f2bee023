"""The packed file: `NAME.rec` with the records, `NAME.idx` with where each one starts.

Both are MXNet's formats, so `mx.recordio.MXIndexedRecordIO` and `mx.image.ImageDetIter` read them; this module needs no
MXNet. Every line of our index has the same length (`0000000042<tab>000000012345678<newline>`), so the place of record
42 is found by reading 27 bytes: a pack of a million records opens as fast as one of ten and takes no more memory.
What a record holds is described in `record_layout`.
"""

from __future__ import annotations

import fcntl
import os
from array import array
from collections.abc import Iterator
from pathlib import Path

from data_provider_farm.pack_format.record_layout import (
    Buffer,
    Encoded,
    decode_record,
    encode_record,
    frame_record,
    read_record,
    set_key,
    validate_record,
)
from lffd.errors import DataError, UsageError
from lffd.files import write_atomic
from lffd.images.encoded import check_size, image_size
from lffd.images.jpeg import is_jpeg
from lffd.records import Record
from lffd.untrusted import open_file

KEY_DIGITS, OFFSET_DIGITS = 10, 15
LINE_BYTES = KEY_DIGITS + OFFSET_DIGITS + 2
BATCH_BYTES, BATCH_BUFFERS = 1 << 20, 1000

MAX_RECORDS = 1 << 31
"""Larger record numbers could look like the magic number, which a record's head must not hold."""


def index_path(path: str | os.PathLike[str]) -> Path:
    """Return the index that belongs to a `.rec` file. Raises UsageError when `path` does not end in `.rec`."""
    pack = Path(path)
    if pack.suffix != ".rec":
        raise UsageError(f"{pack}: the name of a pack must end in .rec")
    return pack.with_suffix(".idx")


def index_line(key: int, offset: int) -> bytes:
    """Return one line of the index."""
    return b"%010d\t%015d\n" % (key, offset)


def write_index(pack: Path, offsets: array[int]) -> Path:
    """Write the index of a pack whose records start at `offsets`, whole or not at all; return its path."""
    path = index_path(pack)
    write_atomic(path, b"".join(index_line(key, offset) for key, offset in enumerate(offsets)))
    return path


def find_whole_records(descriptor: int, path: Path) -> tuple[array[int], int]:
    """Return where each whole record before the first damage or the end starts, and where the last one ends."""
    offsets, end = array("Q"), 0
    size = os.fstat(descriptor).st_size
    while end < size:
        where = f"{path}: record {len(offsets)}"
        try:
            data, after = read_record(descriptor, end, size, where)
            decode_record(data, len(offsets), where)
        except DataError:
            break
        offsets.append(end)
        end = after
    return offsets, end


class PackReader:
    """Random access to the records of a pack; a `lffd.records.RecordSource`.

    Any number of threads may read at once: nothing is shared but two file descriptors whose position is never used.
    Every record is checked against its checksum as it is read.

    Args:
        path: the `.rec` file; its `.idx` lies beside it.

    Raises:
        DataError: at once when a file is missing, or the two do not belong together; later, from `[i]`, when record
            `i` is damaged.
    """

    _open = False

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path, self._index_path = Path(path), index_path(path)
        self._hint = f"rebuild it with: lffd edit reindex {self.path}"
        self._data = open_file(self.path)
        try:
            self._index = open_file(self._index_path)
        except DataError as error:
            os.close(self._data)
            raise DataError(f"{error}; {self._hint}") from None
        self._open = True
        try:
            self._size = os.fstat(self._data).st_size
            self._count = self._count_records()
        except DataError:
            self.close()
            raise

    def _count_records(self) -> int:
        """Return the number of records after checking that index and file end together."""
        count, left = divmod(os.fstat(self._index).st_size, LINE_BYTES)
        if left or (count == 0 and self._size):
            fault = "the index is empty, cut short, damaged or of another toolkit"
            raise DataError(f"{self._index_path}: {fault}; {self._hint}")
        first = end = 0
        if count:
            first, last = self._span(0)[0], self._span(count - 1)[0]
            try:
                end = read_record(self._data, last, self._size, f"{self.path}: record {count - 1}")[1]
            except DataError as error:
                fault = f"{error}. The pack was cut short, or the index is not its own"
                raise DataError(f"{fault}; {self._hint}") from None
        if first != 0 or end != self._size:
            covered = f"it covers bytes {first:,}–{end:,} of {self._size:,}"
            raise DataError(f"{self.path}: the index does not fit this file ({covered}); {self._hint}")
        return count

    def _span(self, index: int) -> tuple[int, int]:
        """Return where record `index` starts, and where the next one seems to."""
        lines = os.pread(self._index, 2 * LINE_BYTES, index * LINE_BYTES)
        line, start = lines[:LINE_BYTES], lines[KEY_DIGITS + 1 : LINE_BYTES - 1]
        # Comparing with the line as we would write it refuses every other spelling of a number at once.
        if not start.isdigit() or line != index_line(index, int(start)):
            raise DataError(f"{self._index_path}: line {index + 1} is damaged: {line!r}; {self._hint}")
        following = lines[LINE_BYTES + KEY_DIGITS + 1 : -1]
        return int(start), int(following) if following.isdigit() else self._size

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Record:
        if not self._open:
            raise UsageError(f"{self.path}: the pack was closed; read inside its `with` block")
        if not -self._count <= index < self._count:
            raise IndexError(f"{self.path} has {self._count} records; there is no record {index}")
        index = int(index) % self._count
        where = f"{self.path}: record {index}"
        start, end = self._span(index)
        data, _ = read_record(self._data, start, self._size, where, expected_end=end)
        return decode_record(data, index, where)

    def __iter__(self) -> Iterator[Record]:
        return (self[index] for index in range(self._count))

    def close(self) -> None:
        """Close the files; no thread may be reading."""
        if self._open:
            self._open = False
            os.close(self._data)
            os.close(self._index)

    def __enter__(self) -> PackReader:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class PackWriter:
    """Writes a pack record by record; `path` appears only when the whole pack is on the disk.

    Use it in a `with` block: leaving the block normally publishes the pack. When the block fails, what was written
    stays in `NAME.rec.partial` if `resume` is true and is removed otherwise.

    Args:
        path: the `.rec` file to make.
        overwrite: replace an existing pack.
        resume: go on after the whole records of `NAME.rec.partial`, if there is one; `len(writer)` tells how many.

    Raises:
        UsageError: when the pack exists already and `overwrite` is false.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False, resume: bool = False) -> None:
        self.path, self._partial, self._resume = Path(path), partial_path(path), resume
        index_path(path)  # refuses a name that does not end in .rec
        if self.path.exists() and not overwrite:
            raise UsageError(f"{self.path} exists already; choose another name or pass --overwrite")
        self._offsets, self._end = array("Q"), 0
        self._batch, self._batch_bytes = list[Buffer](), 0
        try:
            self._partial.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise DataError(f"{self._partial}: cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise UsageError(f"{self._partial}: another process is writing this pack") from error
        if resume:
            self._offsets, self._end = find_whole_records(self._file, self._partial)
        self.truncate(len(self._offsets))

    def __len__(self) -> int:
        return len(self._offsets)

    def truncate(self, count: int) -> None:
        """Keep only the first `count` records; to be used before the first one is added."""
        if count < len(self._offsets):
            self._end = self._offsets[count]
            del self._offsets[count:]
        os.ftruncate(self._file, self._end)
        os.lseek(self._file, self._end, os.SEEK_SET)

    def add(self, record: Record) -> None:
        """Append one record; raises DataError when it breaks a promise of `Record`, as a JPEG of another size does."""
        where = f"image {record.name!r}"
        validate_record(record, where)
        if is_jpeg(record.image):
            check_size(image_size(record.image, where), (record.width, record.height), where)
        self.add_encoded(encode_record(record))

    def add_encoded(self, data: Encoded) -> None:
        """Append a checked and encoded record; raises DataError when the disk refuses it, or an earlier one."""
        if len(self._offsets) == MAX_RECORDS:
            raise DataError(f"{self.path}: a pack holds at most {MAX_RECORDS:,} records")
        set_key(data, len(self._offsets))
        buffers = frame_record(data.head, data.image)
        length = sum(map(len, buffers))
        self._offsets.append(self._end)
        self._end += length
        self._batch += buffers
        self._batch_bytes += length
        if self._batch_bytes >= BATCH_BYTES or len(self._batch) >= BATCH_BUFFERS:
            self._write_batch()

    def _write_batch(self) -> None:
        """Append what waits in few large steps, which cost a caller busy in Python next to nothing."""
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        try:
            written = os.writev(self._file, batch)
            rest = b"".join(batch)[written:] if written < sum(map(len, batch)) else b""
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            raise DataError(f"{self._partial}: cannot be written: {error.strerror}") from error

    def _publish(self) -> None:
        """Give both files their names. The index goes first: until the pack follows, opening it is refused."""
        os.fsync(self._file)
        write_index(self.path, self._offsets)
        self._partial.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def __enter__(self) -> PackWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        kept = self._resume and bool(self._offsets)
        try:
            self._write_batch()
            if kind is None:
                self._publish()
                kept = True
        finally:
            if not kept:
                self._partial.unlink(missing_ok=True)
            os.close(self._file)


def partial_path(path: str | os.PathLike[str]) -> Path:
    """Return where an unfinished pack lies."""
    return Path(path).with_name(Path(path).name + ".partial")
