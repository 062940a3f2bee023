"""Where predictions go: JSON, CSV, annotated pictures and videos, crops, a window.

Every writer takes one `Prediction` after the other, so that a camera may run for days.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from detection.alignment import align_face
from detection.detections import Detections
from detection.drawing import draw_detections
from detection.prediction.inputs import FrameReader, Source
from lffd.errors import DataError, UsageError
from lffd.files import OutputFile, OutputFolder, naming, write_atomic
from lffd.points import NAMES

MAX_JPEG_SIDE = 65_000


@dataclass(frozen=True)
class Prediction:
    """What was found in one image `(H, W, 3)` uint8 BGR, or in one frame: its number from 0, its time in seconds."""

    source: Source
    pixels: NDArray[np.uint8]
    detections: Detections
    frame: int | None = None
    time: float | None = None
    frame_rate: float = 25.0


class PredictionWriter(Protocol):
    """Takes predictions one by one; `close` must be called."""

    def write(self, prediction: Prediction) -> None:
        """Take one prediction."""

    def close(self) -> None:
        """Finish the files."""


def _plain(values: NDArray[np.float32]) -> Any:
    """Return float32 values as the shortest decimals that read back as the same float32."""
    return np.array([float(text) for text in values.ravel().astype(str)]).reshape(values.shape).tolist()


def prediction_json(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as JSON values; boxes are `[x0, y0, x1, y1]` in pixels, best first."""
    found = prediction.detections
    rows = []
    for index, (box, score) in enumerate(zip(_plain(found.boxes), _plain(found.scores), strict=True)):
        row = {"box": box, "score": score}
        if found.branches is not None:
            row["branch"] = int(found.branches[index])
        if found.landmarks is not None:
            row["landmarks"] = _plain(found.landmarks[index])
        rows.append(row)
    entry: dict[str, Any] = {"image": prediction.source.name}
    if prediction.frame is not None and prediction.time is not None:
        entry |= {"frame": prediction.frame, "time": round(prediction.time, 6)}
    height, width = prediction.pixels.shape[:2]
    return {**entry, "width": width, "height": height, "detections": rows}


class _TextWriter:
    """A text file that appears under its name when it is complete."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._output = OutputFile(path)
        self._stream = io.TextIOWrapper(self._output.stream, "utf-8", "backslashreplace", newline="")

    def put(self, text: str) -> None:
        """Write some text."""
        with naming(self._output.path):
            self._stream.write(text)

    def close(self) -> None:
        """Give the file its name."""
        try:
            with naming(self._output.path):
                self._stream.flush()
        except OSError:
            self._output.discard()
            raise
        self._stream.detach()
        self._output.commit()


class JsonWriter(_TextWriter):
    """A JSON list with one entry per image or frame."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._separator = "[\n"

    def write(self, prediction: Prediction) -> None:
        """Add one entry, on one line."""
        entry = json.dumps(prediction_json(prediction), ensure_ascii=False, allow_nan=False)
        self.put(f"{self._separator}{entry}")
        self._separator = ",\n"

    def close(self) -> None:
        """End the list and give the file its name."""
        self.put("[]\n" if self._separator == "[\n" else "\n]\n")
        super().close()


class CsvWriter(_TextWriter):
    """One line per detection: image, frame (empty for images), x0, y0, x1, y1, score; with `landmarks`, five points."""

    HEADER = "image,frame,x0,y0,x1,y1,score"

    def __init__(self, path: Path, landmarks: bool = False) -> None:
        super().__init__(path)
        columns = [f"{name}_{axis}" for name in NAMES for axis in "xy"] if landmarks else []
        self.put(",".join([self.HEADER, *columns]) + "\n")

    def write(self, prediction: Prediction) -> None:
        """Add the lines of one image or frame."""
        found = prediction.detections
        frame = "" if prediction.frame is None else prediction.frame
        lines = io.StringIO()
        points = [[]] * len(found) if found.landmarks is None else _plain(found.landmarks.reshape(-1, 2 * len(NAMES)))
        rows = zip(_plain(found.boxes), _plain(found.scores), points, strict=True)
        written = ([prediction.source.name, frame, *box, score, *places] for box, score, places in rows)
        csv.writer(lines, lineterminator="\n").writerows(written)
        self.put(lines.getvalue())


class _Names:
    """Output files inside a folder, none used twice, and none that a run did not make."""

    def __init__(self, output: OutputFolder, below: str = ".") -> None:
        self._output, self._folder = output, output.folder / below
        self._used: set[Path] = set()

    def fresh(self, wanted: PurePath, folder: bool = False) -> Path:
        """Return the path for `wanted`, with `_2`, `_3`, … before the suffix when it is taken."""
        path, number = self._folder / wanted, 1
        while path in self._used or not ((folder and path.is_dir()) or self._output.may_write(path)):
            number += 1
            path = self._folder / wanted.with_name(f"{wanted.stem}_{number}{wanted.suffix}")
        self._used.add(path)
        return path

    def save(self, path: Path, pixels: NDArray[np.uint8]) -> None:
        """Write a picture in the format of its suffix."""
        import cv2

        fine, data = cv2.imencode(path.suffix, pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])
        if not fine:
            raise UsageError(f"{path}: a picture of {pixels.shape[1]}x{pixels.shape[0]} cannot be written")
        write_atomic(self.claim(path), data.tobytes(), durable=False)

    def claim(self, path: Path) -> Path:
        """Make a file's folder, note the file as made, and return its path."""
        if not self._output.may_write(path):
            raise UsageError(f"{path} was not made by this command, so it is not replaced: choose another --output-dir")
        path.parent.mkdir(parents=True, exist_ok=True)
        return self._output.claim(path)


def picture_suffix(source: Source, longest: int = 0) -> str:
    """Return `.mp4` for what moves, `.jpg` for what came as JPEG and fits into one, and `.png` for everything else."""
    if source.kind != "image":
        return ".mp4"
    return ".jpg" if source.output.suffix.lower() in (".jpg", ".jpeg") and longest <= MAX_JPEG_SIDE else ".png"


class PictureWriter:
    """Annotated copies: pictures as JPEG or PNG, videos as MP4, with `label` and scores if wanted."""

    def __init__(self, output: OutputFolder, scores: bool, label: str = "") -> None:
        self._names = _Names(output)
        self._scores, self._label = scores, label
        self._video: _Video | None = None

    def write(self, prediction: Prediction) -> None:
        """Write one picture, or one more frame."""
        source = prediction.source
        drawn = draw_detections(prediction.pixels, prediction.detections, self._scores, self._label)
        if prediction.frame is None:
            path = self._names.fresh(source.output.with_suffix(picture_suffix(source, max(drawn.shape))))
            self._names.save(path, drawn)
            return
        if self._video is None or self._video.source is not source or self._video.shape != drawn.shape:
            self.close()
            path = self._names.fresh(source.output.with_suffix(".mp4"))
            self._video = _Video(self._names.claim(path), source, drawn.shape, prediction.frame_rate)
        self._video.add(drawn)

    def close(self) -> None:
        """Finish the video that is being written."""
        if self._video is not None:
            video, self._video = self._video, None
            video.close()


class _Video:
    """One MP4 file, which takes its name when it is whole."""

    def __init__(self, path: Path, source: Source, shape: tuple[int, ...], rate: float) -> None:
        import cv2

        self.source, self.shape, self._path, self._count = source, shape, path, 0
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp.mp4")
        code = cv2.VideoWriter.fourcc(*"mp4v")
        self._stream = cv2.VideoWriter(str(self._temporary), code, rate, (shape[1], shape[0]))
        if not self._stream.isOpened():
            raise UsageError(f"{path}: a video of {shape[1]}x{shape[0]} cannot be written; use --no-draw")

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Append a frame."""
        self._stream.write(frame)
        self._count += 1

    def close(self) -> None:
        """Give the file its name, or raise UsageError when it is not whole: OpenCV says nothing of a full disk."""
        self._stream.release()
        try:
            with FrameReader(Source(str(self._temporary), "video", PurePath(self._path.name))) as reader:
                whole = reader.count == self._count
        except DataError:
            whole = False
        if not whole:
            self._temporary.unlink(missing_ok=True)
            raise UsageError(f"{self._path}: the video could not be written whole; is the disk full?")
        self._temporary.replace(self._path)


class _PartWriter:
    """A picture of each detection, as `NAME/0000.png` below a folder, best first; frames put their number before it."""

    def __init__(self, output: OutputFolder, below: str = ".") -> None:
        self._names = _Names(output, below)
        self._current: tuple[Source, Path] | None = None

    def parts(self, prediction: Prediction) -> Iterator[NDArray[np.uint8]]:
        """Yield the picture of each detection."""
        raise NotImplementedError

    def write(self, prediction: Prediction) -> None:
        """Write the pictures of one image or frame."""
        prefix = "" if prediction.frame is None else f"{prediction.frame:06d}_"
        if self._current is None or self._current[0] is not prediction.source:
            self._current = (prediction.source, self._names.fresh(prediction.source.output, folder=True))
        for number, pixels in enumerate(self.parts(prediction)):
            self._names.save(self._current[1] / f"{prefix}{number:04d}.png", pixels)

    def close(self) -> None:
        """Do nothing: every picture is complete."""


class CropWriter(_PartWriter):
    """Each detection cut out, below `crops`."""

    def __init__(self, output: OutputFolder) -> None:
        super().__init__(output, "crops")

    def parts(self, prediction: Prediction) -> Iterator[NDArray[np.uint8]]:
        """Yield the pixels of each box."""
        boxes = prediction.detections.boxes
        corners = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1).astype(int).clip(0)
        for x0, y0, x1, y1 in corners.tolist():
            yield np.ascontiguousarray(prediction.pixels[y0:y1, x0:x1])


class AlignedWriter(_PartWriter):
    """Each face upright, 112×112 pixels, by its five points; see `alignment`."""

    def parts(self, prediction: Prediction) -> Iterator[NDArray[np.uint8]]:
        """Yield each face."""
        for points in [] if prediction.detections.landmarks is None else prediction.detections.landmarks:
            yield align_face(prediction.pixels, points)


class StopRequested(Exception):  # noqa: N818 - no error
    """The user wants no more."""


class Display:
    """Shows each prediction in a window; Escape or q raises `StopRequested`."""

    TITLE = "predictions"

    def __init__(self, scores: bool, label: str = "") -> None:
        """Open the window, or raise UsageError where OpenCV has no windows or there is no display."""
        import cv2

        self._scores, self._label = scores, label
        try:
            cv2.namedWindow(self.TITLE, cv2.WINDOW_NORMAL)
        except cv2.error as error:
            raise UsageError(
                "--show needs a display and an OpenCV that is built with windows, and opencv-python-headless is not. "
                "Install the other build: pip uninstall opencv-python-headless; pip install opencv-python==4.11.0.86"
            ) from error

    def write(self, prediction: Prediction) -> None:
        """Show one picture: images until a key is pressed, frames for a moment."""
        import cv2

        cv2.imshow(self.TITLE, draw_detections(prediction.pixels, prediction.detections, self._scores, self._label))
        if cv2.waitKey(0 if prediction.frame is None else 1) & 0xFF in (27, ord("q")):
            raise StopRequested

    def close(self) -> None:
        """Close the window."""
        import cv2

        cv2.destroyWindow(self.TITLE)
