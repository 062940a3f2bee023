"""Where predictions go as pictures: annotated or anonymised pictures and videos, crops, a window."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from detection.alignment import align_face
from detection.prediction.inputs import FrameReader, Source
from detection.prediction.sound import add_sound
from detection.prediction.writers import Prediction, Render
from lffd.errors import DataError, LffdError, UsageError
from lffd.files import OutputFolder, write_atomic

MAX_JPEG_SIDE = 65_000


class Names:
    """Output files inside a folder, none used twice, and none that a run did not make."""

    def __init__(self, output: OutputFolder, below: str = ".") -> None:
        self._output, self.folder = output, output.folder / below
        self._used: set[Path] = set()

    def fresh(self, wanted: PurePath, folder: bool = False) -> Path:
        """Return the path for `wanted`, with `_2`, `_3`, … before the suffix when it is taken."""
        path, number = self.folder / wanted, 1
        while path in self._used or not ((folder and path.is_dir()) or self._output.may_write(path)):
            number += 1
            path = self.folder / wanted.with_name(f"{wanted.stem}_{number}{wanted.suffix}")
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
    """Pictures as `render` makes them, as JPEG or PNG; videos as MP4, with the sound of their file where PyAV is."""

    def __init__(self, output: OutputFolder, render: Render, say: Callable[[str], object] = print) -> None:
        """Write into a folder; `say` takes a line for the user about each video whose sound is lost."""
        self._names = Names(output)
        self._render, self._say = render, say
        self._video: _Video | None = None

    def write(self, prediction: Prediction) -> None:
        """Write one picture, or one more frame."""
        source = prediction.source
        drawn = self._render(prediction)
        if prediction.frame is None:
            path = self._names.fresh(source.output.with_suffix(picture_suffix(source, max(drawn.shape))))
            self._names.save(path, drawn)
            return
        if self._video is None or self._video.source is not source or self._video.shape != drawn.shape:
            self.close()
            path = self._names.fresh(source.output.with_suffix(".mp4"))
            self._video = _Video(self._names.claim(path), source, drawn.shape, prediction)
        self._video.add(drawn, prediction)

    def close(self) -> None:
        """Finish the video that is being written."""
        if self._video is not None:
            video, self._video = self._video, None
            if problem := video.close():
                self._say(problem)


class _Video:
    """One MP4 file, which takes its name when it is whole."""

    def __init__(self, path: Path, source: Source, shape: tuple[int, ...], first: Prediction) -> None:
        import cv2

        self.source, self.shape, self._path, self._count = source, shape, path, 0
        self._rate, self._first = first.frame_rate, first.time or 0.0
        self._temporary, self._joined = (path.with_name(f".{path.name}.{os.getpid()}.{n}.tmp.mp4") for n in (1, 2))
        code = cv2.VideoWriter.fourcc(*"mp4v")
        self._stream = cv2.VideoWriter(str(self._temporary), code, self._rate, (shape[1], shape[0]))
        if not self._stream.isOpened():
            raise UsageError(f"{path}: a video of {shape[1]}x{shape[0]} cannot be written; use --no-draw")

    def add(self, frame: NDArray[np.uint8], prediction: Prediction) -> None:
        """Append a frame, more than once where others before it were left out, so that the video keeps its speed."""
        until = round(((prediction.time or 0.0) - self._first) * self._rate)
        for _ in range(max(until - self._count, 0) + 1):
            self._stream.write(frame)
            self._count += 1

    def close(self) -> str:
        """Give the file its name, and say what of its sound is lost.

        Raises:
            UsageError: when it is not whole: OpenCV says nothing of a full disk.
        """
        self._stream.release()
        lost = ""
        try:
            self._check(self._temporary)
            if self.source.kind == "video":
                lost = self._add_sound()
            self._temporary.replace(self._path)
        finally:
            for file in (self._temporary, self._joined):
                file.unlink(missing_ok=True)
        return lost

    def _add_sound(self) -> str:
        """Put the sound of the source under the pictures; say why where that fails."""
        try:
            if add_sound(self._temporary, Path(self.source.name), self._joined):
                self._check(self._joined)
                self._joined.replace(self._temporary)
        except LffdError as error:
            return f"{self._path}: written without the sound that its source may have: {error}"
        return ""

    def _check(self, path: Path) -> None:
        try:
            with FrameReader(Source(str(path), "video", PurePath(self._path.name))) as reader:
                whole = reader.count == self._count
        except DataError:
            whole = False
        if not whole:
            raise UsageError(f"{self._path}: the video could not be written whole; is the disk full?")


class _PartWriter:
    """A picture of each detection, as `NAME/0000.png` below a folder, best first; frames put their number before it."""

    def __init__(self, output: OutputFolder, below: str = ".") -> None:
        self._names = Names(output, below)
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

    def __init__(self, render: Render) -> None:
        """Open the window for pictures as `render` makes them, or raise UsageError where there can be none."""
        import cv2

        self._render = render
        try:
            cv2.namedWindow(self.TITLE, cv2.WINDOW_NORMAL)
        except cv2.error as error:
            raise UsageError(
                "--show needs a display and an OpenCV that is built with windows, and opencv-python-headless is not. "
                "Install the other build: pip uninstall opencv-python-headless; pip install opencv-python"
            ) from error

    def write(self, prediction: Prediction) -> None:
        """Show one picture: images until a key is pressed, frames for a moment."""
        import cv2

        cv2.imshow(self.TITLE, self._render(prediction))
        if cv2.waitKey(0 if prediction.frame is None else 1) & 0xFF in (27, ord("q")):
            raise StopRequested

    def close(self) -> None:
        """Close the window."""
        import cv2

        cv2.destroyWindow(self.TITLE)
