"""What to look at: image files, folders, patterns, video files, cameras, and lists of these from standard input."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal, TextIO

import numpy as np
from numpy.typing import NDArray

from lffd.errors import DataError, UsageError
from lffd.images.encoded import MAX_PIXELS
from lffd.images.files import is_picture

_VIDEO_ENDINGS = ("mp4", "m4v", "mov", "avi", "mkv", "webm", "mpg", "mpeg", "wmv", "flv", "ts", "mts", "3gp", "ogv")
VIDEO_SUFFIXES = frozenset(f".{ending}" for ending in _VIDEO_ENDINGS)

USUAL_FRAME_RATE = 25.0
"""For videos and cameras that do not tell theirs."""


@dataclass(frozen=True)
class Source:
    """One image, video or camera; `output` says where its results go inside the output folder, with its own suffix."""

    name: str
    kind: Literal["image", "video", "camera"]
    output: PurePath


def find_sources(
    paths: Sequence[str], standard_input: TextIO, *excluded: Path | None
) -> tuple[list[Source], list[str]]:
    """Return the sources that the words of a command line mean, each once, and what is wrong with the other words.

    Words are files, folders (with everything below them but hidden files and the `excluded` output folders), patterns
    such as `**/*.jpg`, `camera:0`, and `-` for one of these per line of standard input.

    Raises:
        UsageError: when no word is given.
    """
    if not paths:
        raise UsageError("name at least one image, folder, pattern, video or camera:0, or - to read names from stdin")
    sources: dict[str, Source] = {}
    problems = []
    listed = _lines(standard_input) if "-" in paths else []
    for word in (name for path in paths for name in (listed if path == "-" else [path])):
        found = list(_expand(word, excluded))
        if not found:
            problems.append(
                f"{word}: {'holds no files' if os.path.isdir(word) else 'does not exist, and matches nothing'}"
            )
        for source in found:
            sources.setdefault(source.name, source)
    return list(sources.values()), problems


def _lines(standard_input: TextIO) -> list[str]:
    """Return the names on standard input; refuse something else, such as a picture."""
    try:
        lines = [line for line in map(str.strip, standard_input) if line]
    except UnicodeDecodeError:
        lines = ["\0"]
    if any("\0" in line for line in lines):
        raise UsageError("standard input is no text: - reads names, one per line; give a picture as a file instead")
    return lines


def _expand(word: str, excluded: Sequence[Path | None]) -> Iterator[Source]:
    """Yield the sources that one word means."""
    if match := re.fullmatch(r"camera:(\d{1,4})", word):
        yield Source(word, "camera", PurePath(f"camera_{match[1]}.mp4"))
    elif os.path.isdir(word):
        yield from _below(Path(word), excluded)
    elif os.path.lexists(word):
        yield _file(word, PurePath(Path(word).name))
    elif glob.has_magic(word):
        for name in sorted(glob.glob(word, recursive=True)):
            if not os.path.isdir(name):
                yield _file(name, PurePath(Path(name).name))


def _below(folder: Path, excluded: Sequence[Path | None]) -> Iterator[Source]:
    """Yield every file below a folder, sorted, without hidden ones and those of the output folders."""
    barred = {path.resolve() for path in excluded if path}
    for root, folders, files in os.walk(folder):
        kept = [name for name in folders if not name.startswith(".") and (Path(root) / name).resolve() not in barred]
        folders[:] = sorted(kept)
        for name in sorted(files):
            if not name.startswith("."):
                yield _file(str(Path(root, name)), Path(root, name).relative_to(folder))


def _file(name: str, output: PurePath) -> Source:
    """Return the source of one file: a video when it is named like one and does not start like a picture."""
    video = Path(name).suffix.lower() in VIDEO_SUFFIXES and not is_picture(name)
    return Source(name, "video" if video else "image", output)


class FrameReader:
    """The frames of a video file or camera, one after the other; a context manager and an iterator.

    It has a `frame_rate` per second, and the `count` of frames that a file says it has; None where nothing says it.
    """

    def __init__(self, source: Source) -> None:
        """Open the video or camera; DataError when it cannot be opened, or its frames are too large."""
        import cv2

        self._source = source
        what = "is not a video that can be decoded"
        if source.kind == "camera":
            what = "this camera cannot be opened: it is missing, in use, or not allowed"
        elif not os.path.isfile(source.name):
            raise DataError(f"{source.name}: does not exist")
        level = cv2.getLogLevel()
        cv2.setLogLevel(0)  # our own error says what happened
        try:
            place = int(source.name.partition(":")[2]) if source.kind == "camera" else source.name
            self._capture = cv2.VideoCapture(place)
        finally:
            cv2.setLogLevel(level)
        if not self._capture.isOpened():
            raise DataError(f"{source.name}: {what}")
        width, height = (self._capture.get(item) for item in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > MAX_PIXELS:
            raise DataError(f"{source.name}: frames of {width:.0f}x{height:.0f} are too large")
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.frame_rate = rate if 0 < rate < 1000 else USUAL_FRAME_RATE
        declared = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.count = declared if source.kind == "video" and declared > 0 else None

    def __enter__(self) -> FrameReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Yield frames `(H, W, 3)` uint8, BGR.

        Raises:
            DataError: when not a single frame can be decoded, or a file ends well before its declared end.
        """
        import cv2

        number = 0
        while True:
            try:
                fine, frame = self._capture.read()
            except cv2.error as error:
                raise DataError(f"{self._source.name}: frame {number} cannot be decoded ({error.err})") from error
            if not fine:
                break
            yield np.asarray(frame, np.uint8)
            number += 1
        if number == 0:
            raise DataError(f"{self._source.name}: has no frame that can be decoded")
        # Declared counts are estimates in some formats: a few frames less are usual.
        if self.count is not None and number < 0.9 * self.count - 2:
            raise DataError(f"{self._source.name}: ends early, after {number:,} of {self.count:,} frames")
