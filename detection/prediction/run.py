"""From sources to predictions: reading ahead, batches, frames, and what failed on the way."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, fields
from itertools import groupby, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.crew import Crew
from detection.detections import Detections, ImageDetector
from detection.detector import Detector
from detection.prediction.inputs import FrameReader, Source
from detection.prediction.streams import StreamReader
from detection.prediction.writers import Prediction, PredictionWriter
from detection.tracking import Tracker
from lffd.ahead import newest
from lffd.errors import DataError, LffdError, UsageError
from lffd.images.files import decode_picture, read_picture

MOST_AT_ONCE = 1024


@dataclass(frozen=True)
class Pace:
    """How much is looked at, and how much at once.

    Raises:
        UsageError: for a number under 1, or one that makes no sense.
    """

    batch_size: int = 1
    """How many images are read before they are run; those of one size run together."""
    every: int = 1
    """Look at every so many frames of a video, camera or stream."""
    max_frames: int | None = None
    """Stop a video, camera or stream after so many frames that were looked at."""
    latest: bool = False
    """Cameras and streams: look at the newest frame, and leave out those that came while the last one was looked at."""
    track: bool = False
    """Follow objects through videos, cameras and streams: each gets an id, in JSON, CSV and pictures."""
    reconnect: int = 5
    """How often in a row a lost stream is connected again, after pauses of 1, 2, 4, … s, at most 30; 0: never."""

    def __post_init__(self) -> None:
        limits = {"batch_size": (1, MOST_AT_ONCE), "reconnect": (0, 1_000_000)}
        for item in fields(self):
            least, most = limits.get(item.name, (1, 2**31))
            value = getattr(self, item.name)
            if not isinstance(value, bool) and value is not None and not least <= value <= most:
                raise UsageError(f"{item.name} must be at least {least}, not {value}, and at most {most:,}")


@dataclass
class Run:
    """One run over many sources: detects, writes, shows progress, counts, and remembers the `problems` that it met."""

    crew: Crew
    pace: Pace
    writers: Sequence[PredictionWriter]
    bar: Any
    trusted: bool = False
    problems: list[str] = field(default_factory=list)
    images: int = 0
    frames: int = 0
    objects: int = 0

    def over(self, sources: Sequence[Source]) -> None:
        """Work through the sources in order."""
        for kind, group in groupby(sources, key=lambda source: source.kind):
            if kind == "image":
                self._over_images(group)
                continue
            for source in group:
                try:
                    self._over_frames(source)
                except DataError as error:
                    self._fail(source, error)

    def _over_images(self, sources: Iterable[Source]) -> None:
        left = iter(sources)
        batches = iter(lambda: list(islice(left, self.pace.batch_size)), [])
        for found in self.crew.map(lambda batch: [self._read(source) for source in batch], _look, batches):
            for source, pixels, result in found:
                if isinstance(result, LffdError):
                    self._fail(source, result)
                elif isinstance(pixels, np.ndarray):
                    self._write(Prediction(source, pixels, result))
                self._step()

    def _read(self, source: Source) -> tuple[Source, NDArray[np.uint8] | LffdError]:
        """Return an image's pixels, or what is wrong with it."""
        try:
            if source.data is not None:
                return source, decode_picture(source.data, source.name, self.trusted)
            return source, read_picture(source.name, self.trusted)
        except LffdError as error:
            return source, error

    def _over_frames(self, source: Source) -> None:
        stream = source.kind == "stream"
        with StreamReader(source, self.pace.reconnect, self.say) if stream else FrameReader(source) as reader:
            chosen: Iterator[tuple[int, NDArray[np.uint8]]] = islice(enumerate(reader), 0, None, self.pace.every)
            tracker = Tracker() if self.pace.track else None
            with ExitStack() as stack:
                if self.pace.latest and source.kind != "video" and reader.count is None:
                    chosen = stack.enter_context(closing(newest(chosen)))
                    if isinstance(reader, StreamReader):
                        stack.callback(reader.stop)
                rate = reader.frame_rate / self.pace.every
                for number, pixels, found in self._frames(islice(chosen, self.pace.max_frames), source):
                    moment = number / reader.frame_rate
                    tracks = tracker.update(found.boxes, moment) if tracker else None
                    self._write(Prediction(source, pixels, found, number, moment, rate, tracks))
                    self._step()

    def _frames(
        self, frames: Iterator[tuple[int, NDArray[np.uint8]]], source: Source
    ) -> Iterator[tuple[int, NDArray[np.uint8], Detections]]:
        """Yield each frame with what is in it; what happens now is not read ahead of."""
        if source.kind == "video":
            return self.crew.map(lambda frame: frame, lambda detector, frame: (*frame, detector(frame[1])), frames)
        return ((number, pixels, self.crew.first(pixels)) for number, pixels in frames)

    def say(self, text: str) -> None:
        """Show the user a line while the bar stays where it is."""
        self.bar.write(text, file=sys.stderr)

    def _write(self, prediction: Prediction) -> None:
        self.images += prediction.frame is None
        self.frames += prediction.frame is not None
        self.objects += len(prediction.detections)
        for writer in self.writers:
            writer.write(prediction)

    def _fail(self, source: Source, error: LffdError) -> None:
        message = str(error)
        self.problems.append(message if source.name in message else f"{source.name}: {message}")

    def _step(self) -> None:
        self.bar.set_postfix(found=self.objects, failed=len(self.problems), refresh=False)
        self.bar.update()


Seen = tuple[Source, NDArray[np.uint8] | LffdError]
Looked = tuple[Source, NDArray[np.uint8] | LffdError, Detections | LffdError]


def _look(detector: ImageDetector, batch: Sequence[Seen]) -> list[Looked]:
    """Return what is in each image of a batch; where the batch fails, each image is tried alone."""
    found = iter(_detect(detector, [pixels for _, pixels in batch if isinstance(pixels, np.ndarray)]))
    return [(source, pixels, pixels if isinstance(pixels, LffdError) else next(found)) for source, pixels in batch]


def _detect(detector: ImageDetector, images: list[NDArray[np.uint8]]) -> list[Detections | LffdError]:
    try:
        if isinstance(detector, Detector):
            return list(detector.batch(images))
        return [detector(image) for image in images]
    except LffdError as error:
        return [error] if len(images) == 1 else [_detect(detector, [image])[0] for image in images]
