"""Appending to a file from a thread of its own."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from data_provider_farm.pack_format.recordio import Buffer
from lffd.errors import DataError

BATCH_BYTES = 1 << 20
BATCH_BUFFERS = 1000
SYNC_BYTES = 64 << 20


class AppendFile:
    """Appends buffers in order while the caller goes on; at most two batches of 1 MiB are in memory.

    Writing and flushing hold no interpreter lock. Done in few large steps in a thread, they cost a caller that is busy
    in Python nothing.

    Args:
        descriptor: of the file, at the place to append; stays open.
        path: names the file in errors.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor, self._path = descriptor, path
        self._thread = ThreadPoolExecutor(1, "append")
        self._running: Future[None] | None = None
        self._batch: list[Buffer] = []
        self._bytes = 0
        self._unsynced = 0

    def append(self, buffers: list[Buffer], length: int) -> None:
        """Append buffers of `length` bytes in all; they must not change any more.

        Raises:
            DataError: when an earlier batch could not be written.
        """
        self._batch += buffers
        self._bytes += length
        if self._bytes >= BATCH_BYTES or len(self._batch) >= BATCH_BUFFERS:
            self._hand_over()

    def _hand_over(self) -> None:
        """Give the batch to the thread, once it is done with the last one."""
        self._wait()
        self._running = self._thread.submit(self._write, self._batch)
        self._batch, self._bytes = [], 0

    def _wait(self) -> None:
        """Wait for the thread; its error, if any, is the caller's."""
        if self._running is not None:
            running, self._running = self._running, None
            try:
                running.result()
            except OSError as error:
                raise DataError(f"{self._path}: cannot be written: {error.strerror}") from error

    def _write(self, batch: list[Buffer]) -> None:
        """Write a batch, and flush the file now and then so that the end needs not wait for all of it."""
        for start in range(0, len(batch), BATCH_BUFFERS):
            part = batch[start : start + BATCH_BUFFERS]
            length = sum(map(len, part))
            written = os.writev(self._descriptor, part)
            rest = b"".join(part)[written:] if written < length else b""
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            self._unsynced += length
        if self._unsynced >= SYNC_BYTES:
            os.fdatasync(self._descriptor)
            self._unsynced = 0

    def finish(self) -> None:
        """Wait until everything is in the file, and end the thread.

        Raises:
            DataError: when something could not be written.
        """
        try:
            self._hand_over()
            self._wait()
        finally:
            self._thread.shutdown()
