"""Where predictions go as text: JSON, CSV, counts on the screen.

Every writer takes one `Prediction` after the other, so that a camera may run for days.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from detection.detections import Detections
from detection.prediction.inputs import Source
from lffd.files import OutputFile, naming
from lffd.points import NAMES


@dataclass(frozen=True)
class Prediction:
    """What was found in one image `(H, W, 3)` uint8 BGR, or in one frame: its number from 0, its time in seconds.

    `tracks` `(N,)` are the ids of the detections of a frame, where objects are followed.
    """

    source: Source
    pixels: NDArray[np.uint8]
    detections: Detections
    frame: int | None = None
    time: float | None = None
    frame_rate: float = 25.0
    tracks: NDArray[np.int64] | None = None


Render = Callable[[Prediction], NDArray[np.uint8]]
"""Makes the picture `(H, W, 3)` uint8 BGR that is shown of a prediction."""


class PredictionWriter(Protocol):
    """Takes predictions one by one; `close` must be called."""

    def write(self, prediction: Prediction) -> None:
        """Take one prediction."""

    def close(self) -> None:
        """Finish the files."""


def plain(values: NDArray[np.float32]) -> Any:
    """Return float32 values as the shortest decimals that read back as the same float32."""
    return np.array([float(text) for text in values.ravel().astype(str)]).reshape(values.shape).tolist()


def prediction_json(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as JSON values; boxes are `[x0, y0, x1, y1]` in pixels, best first."""
    found = prediction.detections
    rows = []
    for index, (box, score) in enumerate(zip(plain(found.boxes), plain(found.scores), strict=True)):
        row = {"box": box, "score": score}
        if prediction.tracks is not None:
            row["track"] = int(prediction.tracks[index])
        if found.branches is not None:
            row["branch"] = int(found.branches[index])
        if found.landmarks is not None:
            row["landmarks"] = plain(found.landmarks[index])
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
    """One line per detection: image, frame (empty for images), x0, y0, x1, y1, score; then track where ids are wanted.

    Behind that, where the detector has landmarks, x and y of the five points. An image or frame without detections has
    one line, whose other fields are empty.
    """

    HEADER = "image,frame,x0,y0,x1,y1,score"

    def __init__(self, path: Path, tracks: bool = False, landmarks: bool = False) -> None:
        super().__init__(path)
        self._tracks, columns = tracks, [self.HEADER, *(["track"] if tracks else [])]
        columns += [f"{name}_{axis}" for name in NAMES for axis in "xy"] if landmarks else []
        self._empty = [""] * (",".join(columns).count(",") - 1)
        self.put(",".join(columns) + "\n")

    def write(self, prediction: Prediction) -> None:
        """Add the lines of one image or frame."""
        found = prediction.detections
        first = [prediction.source.name, "" if prediction.frame is None else prediction.frame]
        rows = [[*box, score] for box, score in zip(plain(found.boxes), plain(found.scores), strict=True)]
        if self._tracks:
            ids = [""] * len(rows) if prediction.tracks is None else prediction.tracks.tolist()
            rows = [[*row, track] for row, track in zip(rows, ids, strict=True)]
        if found.landmarks is not None:
            places = plain(found.landmarks.reshape(len(rows), 2 * len(NAMES)))
            rows = [[*row, *place] for row, place in zip(rows, places, strict=True)]
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows([*first, *row] for row in rows or [self._empty])
        self.put(lines.getvalue())


class CountWriter:
    """Says how many were found: in each image, and in each video, camera or stream as a whole."""

    def __init__(self, say: Callable[[str], object], label: str) -> None:
        """Call `say` with one line each; `label` names what is counted."""
        self._say, self._label = say, label
        self._source: Source | None = None
        self._frames = self._found = self._most = 0
        self._tracks: int | None = None

    def write(self, prediction: Prediction) -> None:
        """Count one image or frame."""
        count = len(prediction.detections)
        if prediction.frame is None:
            self._say(f"{prediction.source.name}: {count} × {self._label}")
            return
        if self._source is not prediction.source:
            self.close()
            self._source, self._frames, self._found, self._most, self._tracks = prediction.source, 0, 0, 0, None
        self._frames, self._found, self._most = self._frames + 1, self._found + count, max(self._most, count)
        if prediction.tracks is not None:
            self._tracks = max(self._tracks or 0, int(prediction.tracks.max(initial=0)))

    def close(self) -> None:
        """Say what was counted in frames."""
        if self._source is not None:
            together = "" if self._tracks is None else f", {self._tracks:,} different ones"
            counts = f"{self._found:,} × {self._label} in {self._frames:,} frames, at most {self._most:,} at once"
            self._say(f"{self._source.name}: {counts}{together}")
            self._source = None
