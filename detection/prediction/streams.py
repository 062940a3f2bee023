"""Streams from the network, which come and go."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from detection.prediction.inputs import FrameReader, Source
from lffd.errors import DataError

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1, 30
"""Pauses before new connections are 1, 2, 4, … s, and no longer; a connection that held so long starts anew with 1."""


class StreamReader:
    """The frames of a stream, which is connected again when it is lost; a context manager and an iterator.

    A finite video behind an address is played once, to its end. `frame_rate` and `count` are as of `FrameReader`.
    """

    def __init__(
        self,
        source: Source,
        reconnect: int,
        say: Callable[[str], object],
        pause: Callable[[float], object] | None = None,
    ) -> None:
        """Connect; raise DataError when that fails: what never was there is not waited for.

        Args:
            source: a stream.
            reconnect: how often in a row a lost stream is connected again.
            say: takes a line for the user about each try.
            pause: waits for so many seconds; by default until `stop` is called, if that is earlier.
        """
        self._stopped = threading.Event()
        self._source, self._most, self._say, self._pause = source, reconnect, say, pause or self._stopped.wait
        self._reader: FrameReader | None = FrameReader(source)
        self.frame_rate, self.count = self._reader.frame_rate, self._reader.count

    def stop(self) -> None:
        """Let a thread that waits for the stream to come back wait no longer."""
        self._stopped.set()

    def __enter__(self) -> StreamReader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.__exit__()

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Yield frames `(H, W, 3)` uint8, BGR; after a loss they go on with whatever comes then.

        Raises:
            DataError: when the stream is lost for good, or a finite video ends early.
        """
        tries = 0
        while True:
            started, reason = time.monotonic(), "the stream has stopped"
            try:
                with self._reader or FrameReader(self._source) as reader:
                    self._reader = reader
                    yield from reader
            except DataError as error:
                if self.count is not None:
                    raise
                reason = str(error).removeprefix(f"{self._source.name}: ")
            finally:
                self._reader = None
            if self.count is not None:
                return
            tries = 1 if time.monotonic() - started > LONGEST_PAUSE_S else tries + 1
            if tries > self._most:
                again = f" after {self._most} new connections" if self._most else ""
                raise DataError(f"{self._source.name}: {reason}; given up{again} (--reconnect sets how many are tried)")
            wait = min(FIRST_PAUSE_S * 2 ** min(tries - 1, 20), LONGEST_PAUSE_S)
            self._say(f"{self._source.name}: {reason}; connecting again in {wait} s ({tries} of {self._most})")
            self._pause(wait)
            if self._stopped.is_set():
                return
