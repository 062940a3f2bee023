"""What to look at: image files, folders, patterns, video files, cameras, streams, and what standard input holds."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Literal, TextIO
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from lffd.errors import DataError, UsageError
from lffd.images.encoded import FORMATS, MAX_PIXELS, SIGNATURE_BYTES, format_of
from lffd.images.files import SUFFIXES, is_picture

_VIDEO_ENDINGS = ("mp4", "m4v", "mov", "avi", "mkv", "webm", "mpg", "mpeg", "wmv", "flv", "ts", "mts", "3gp", "ogv")
VIDEO_SUFFIXES = frozenset(f".{ending}" for ending in _VIDEO_ENDINGS)

USUAL_FRAME_RATE = 25.0
"""For videos and cameras that do not tell theirs."""


STREAM = re.compile(r"(rtsps?|https?|rtmps?)://", re.IGNORECASE)

STREAM_TIMEOUT_MS = 10_000
"""How long a stream may take to be opened, or to send its next frame, before it counts as lost."""

MAX_STANDARD_INPUT = 1 << 28


@dataclass(frozen=True)
class Source:
    """One image, video, camera or stream.

    Attributes:
        name: the file, `camera:0`, or a stream's address without user, password and query.
        kind: what it is.
        output: where its results go inside the output folder, with its own suffix.
        data: the encoded image, where it came through standard input.
        address: of a stream, as given.
    """

    name: str
    kind: Literal["image", "video", "camera", "stream"]
    output: PurePath
    data: bytes | None = field(default=None, repr=False)
    address: str = field(default="", repr=False)


def find_sources(
    paths: Sequence[str], standard_input: TextIO, *excluded: Path | None
) -> tuple[list[Source], list[str]]:
    """Return the sources that the words of a command line mean, each once, and what is wrong with the other words.

    Words are files, folders (with everything below them but hidden files and the `excluded` output folders), patterns
    such as `**/*.jpg`, `camera:0`, addresses of streams, and `-` for standard input: a picture, or one of these words
    per line.

    Raises:
        UsageError: when no word is given, or standard input is neither.
    """
    if not paths:
        raise UsageError("name at least one image, folder, pattern, video, stream or camera:0, or - for standard input")
    sources: dict[str, Source] = {}
    problems = []
    listed = _standard_input(standard_input) if "-" in paths else []
    for word in (name for path in paths for name in (listed if path == "-" else [path])):
        if isinstance(word, Source):
            sources[word.name] = word
            continue
        try:
            found = list(_expand(word, excluded))
        except DataError as error:
            problems.append(str(error))
            continue
        if not found:
            problems.append(
                f"{word}: {'holds no files' if os.path.isdir(word) else 'does not exist, and matches nothing'}"
            )
        for source in found:
            sources.setdefault(source.address or source.name, source)
    return list(sources.values()), problems


def _standard_input(stream: TextIO) -> list[str] | list[Source]:
    """Return the picture on standard input, or its lines; refuse anything else."""
    data = stream.buffer.read(MAX_STANDARD_INPUT + 1) if hasattr(stream, "buffer") else stream.read().encode()
    if len(data) > MAX_STANDARD_INPUT:
        raise UsageError(f"standard input is over {MAX_STANDARD_INPUT >> 20} MiB; give a picture as a file instead")
    if (known := format_of(data[:SIGNATURE_BYTES])) is not None:
        suffix = ".jpg" if known[0] == "JPEG" else ".png"
        return [Source("standard input", "image", PurePath(f"stdin{suffix}"), data)]
    if b"\0" in data:
        names = ", ".join(name for name, *_ in FORMATS)
        raise UsageError(
            f"standard input is no picture of a known format ({names}), and no list of names, one per line"
        )
    return [line for line in map(str.strip, os.fsdecode(data).splitlines()) if line]


def _expand(word: str, excluded: Sequence[Path | None]) -> Iterator[Source]:
    """Yield the sources that one word means."""
    if match := re.fullmatch(r"camera:(\d{1,4})", word):
        yield Source(word, "camera", PurePath(f"camera_{match[1]}.mp4"))
    elif STREAM.match(word):
        yield _stream(word)
    elif os.path.isdir(word):
        yield from _below(Path(word), excluded)
    elif os.path.lexists(word):
        yield _file(word, PurePath(Path(word).name))
    elif glob.has_magic(word):
        for name in sorted(glob.glob(word, recursive=True)):
            if not os.path.isdir(name):
                yield _file(name, PurePath(Path(name).name))


def _stream(address: str) -> Source:
    """Return the source of a stream; its name keeps the secrets of its address to itself."""
    try:
        parts = urlsplit(address)
        place = parts.netloc.rpartition("@")[2]
    except ValueError:
        place, parts = "", None
    if not place or parts is None:
        raise DataError(f"{address.partition(':')[0]}://…: is no address of a stream")  # it may hold a password
    name = f"{parts.scheme}://{place}{parts.path}"
    if PurePath(parts.path).suffix.lower() in SUFFIXES:
        raise DataError(f"{name}: is a picture and no stream; pass it on: curl … | predict -")
    output = re.sub(r"[^A-Za-z0-9.-]+", "_", f"{place}{parts.path}")[:80].strip("._")
    return Source(name, "stream", PurePath(f"{output}.mp4"), address=address)


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
    """The frames of a video file, camera or stream, one after the other; a context manager and an iterator.

    It has a `frame_rate` per second, and the `count` of frames that a file says it has; None where nothing says it.
    """

    def __init__(self, source: Source) -> None:
        """Open the source; DataError when it cannot be opened, or its frames are too large."""
        import cv2

        self._source = source
        what = "is not a video that can be decoded"
        if source.kind == "camera":
            what = "this camera cannot be opened: it is missing, in use, or not allowed"
        elif source.kind == "stream":
            what = "this stream cannot be opened: nobody answers there, or it is no video that can be decoded"
        elif not os.path.isfile(source.name):
            raise DataError(f"{source.name}: does not exist")
        level = cv2.getLogLevel()
        cv2.setLogLevel(0)  # our own error says what happened, and no password of an address
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        try:
            if source.kind == "stream":
                timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC]
                settings = [number for item in timeouts for number in (item, STREAM_TIMEOUT_MS)]
                self._capture = cv2.VideoCapture(source.address, cv2.CAP_FFMPEG, settings)
            else:
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
        self.count = declared if source.kind != "camera" and declared > 0 else None

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
