"""Where predictions go: JSON, CSV, annotated pictures and videos, crops, a window.

Every writer takes one `Prediction` after the other, so that a camera may run for days.
"""

from __future__ import annotations

import csv
import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from detection.detections import Detections
from detection.drawing import draw_detections
from detection.prediction.inputs import Source
from lffd.errors import UsageError

MAX_JPEG_SIDE = 65_000


@dataclass(frozen=True)
class Prediction:
    """What was found in one image or frame.

    Attributes:
        source: where it comes from.
        pixels: `(H, W, 3)` uint8, BGR.
        detections: in these pixels.
        frame: number of the frame, from 0; None for an image.
        time: of the frame in seconds from the start; None for an image.
        frame_rate: of the video.
    """

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
        ...

    def close(self) -> None:
        """Finish the files."""
        ...


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
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream: IO[str] = self._temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="")

    def close(self) -> None:
        """Give the file its name."""
        self._stream.close()
        self._temporary.replace(self._path)


class JsonWriter(_TextWriter):
    """A JSON list with one entry per image or frame."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._separator = "[\n"

    def write(self, prediction: Prediction) -> None:
        """Add one entry, on one line."""
        entry = json.dumps(prediction_json(prediction), ensure_ascii=False, allow_nan=False)
        self._stream.write(f"{self._separator}{entry}")
        self._separator = ",\n"

    def close(self) -> None:
        """End the list and give the file its name."""
        self._stream.write("[]\n" if self._separator == "[\n" else "\n]\n")
        super().close()


class CsvWriter(_TextWriter):
    """One line per detection: image, frame (empty for images), x0, y0, x1, y1, score."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._rows = csv.writer(self._stream, lineterminator="\n")
        self._rows.writerow(["image", "frame", "x0", "y0", "x1", "y1", "score"])

    def write(self, prediction: Prediction) -> None:
        """Add the lines of one image or frame."""
        found = prediction.detections
        frame = "" if prediction.frame is None else prediction.frame
        for box, score in zip(_plain(found.boxes), _plain(found.scores), strict=True):
            self._rows.writerow([prediction.source.name, frame, *box, score])


class _Names:
    """Output files inside a folder, none used twice."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._used: set[Path] = set()

    def fresh(self, wanted: PurePath) -> Path:
        """Return the path for `wanted`, with `_2`, `_3`, … before the suffix when it is taken; makes its folder."""
        path, number = self._folder / wanted, 1
        while path in self._used:
            number += 1
            path = self._folder / wanted.with_name(f"{wanted.stem}_{number}{wanted.suffix}")
        self._used.add(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _save_picture(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a picture in the format of its suffix."""
    import cv2

    fine, data = cv2.imencode(path.suffix, pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])
    if not fine:
        raise UsageError(f"{path}: a picture of {pixels.shape[1]}x{pixels.shape[0]} cannot be written")
    path.write_bytes(data.tobytes())


def _picture_suffix(source: Source, pixels: NDArray[np.uint8]) -> str:
    """Return `.jpg` for what came as JPEG and fits into one, and `.png` for everything else."""
    jpeg = source.output.suffix.lower() in (".jpg", ".jpeg") and max(pixels.shape) <= MAX_JPEG_SIDE
    return ".jpg" if jpeg else ".png"


class PictureWriter:
    """Annotated copies: pictures as JPEG or PNG, videos as MP4."""

    def __init__(self, folder: Path, scores: bool) -> None:
        self._names = _Names(folder)
        self._scores = scores
        self._video: tuple[Source, Any, tuple[int, ...]] | None = None

    def write(self, prediction: Prediction) -> None:
        """Write one picture, or one more frame."""
        drawn = draw_detections(prediction.pixels, prediction.detections, self._scores)
        if prediction.frame is None:
            output = prediction.source.output.with_suffix(_picture_suffix(prediction.source, drawn))
            _save_picture(self._names.fresh(output), drawn)
            return
        if self._video is None or self._video[0] is not prediction.source or self._video[2] != drawn.shape:
            self._open_video(prediction)
        if self._video is not None:
            self._video[1].write(drawn)

    def _open_video(self, prediction: Prediction) -> None:
        """Start the file of another video, or of one that changed its size."""
        import cv2

        self.close()
        path = self._names.fresh(prediction.source.output.with_suffix(".mp4"))
        height, width = prediction.pixels.shape[:2]
        code = cv2.VideoWriter.fourcc(*"mp4v")
        stream = cv2.VideoWriter(str(path), code, prediction.frame_rate, (width, height))
        if not stream.isOpened():
            raise UsageError(f"{path}: a video of {width}x{height} cannot be written; use --no-draw")
        self._video = (prediction.source, stream, prediction.pixels.shape)

    def close(self) -> None:
        """Finish the video that is being written."""
        if self._video is not None:
            self._video[1].release()
            self._video = None


class CropWriter:
    """Each detection cut out, as `crops/NAME/0000.png`, best first; frames put their number before it."""

    def __init__(self, folder: Path) -> None:
        self._names = _Names(folder / "crops")
        self._current: tuple[Source, Path] | None = None

    def write(self, prediction: Prediction) -> None:
        """Write the crops of one image or frame."""
        boxes = prediction.detections.boxes
        corners = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1).astype(int).clip(0)
        prefix = "" if prediction.frame is None else f"{prediction.frame:06d}_"
        if self._current is None or self._current[0] is not prediction.source:
            self._current = (prediction.source, self._names.fresh(prediction.source.output))
        folder = self._current[1]
        for number, (x0, y0, x1, y1) in enumerate(corners.tolist()):
            folder.mkdir(parents=True, exist_ok=True)
            crop = np.ascontiguousarray(prediction.pixels[y0:y1, x0:x1])
            _save_picture(folder / f"{prefix}{number:04d}.png", crop)

    def close(self) -> None:
        """Do nothing: every crop is complete."""


class StopRequested(Exception):  # noqa: N818 - no error
    """The user wants no more."""


class Display:
    """Shows each prediction in a window; Escape or q raises `StopRequested`."""

    TITLE = "predictions"

    def __init__(self, scores: bool) -> None:
        """Open the window.

        Raises:
            UsageError: when OpenCV is built without windows, or there is no display.
        """
        import cv2

        self._scores = scores
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

        cv2.imshow(self.TITLE, draw_detections(prediction.pixels, prediction.detections, self._scores))
        if cv2.waitKey(0 if prediction.frame is None else 1) & 0xFF in (27, ord("q")):
            raise StopRequested

    def close(self) -> None:
        """Close the window."""
        import cv2

        cv2.destroyWindow(self.TITLE)
