"""Written videos keep the sound of their file, from the same moment to the same moment."""

from __future__ import annotations

import sys
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pytest

from detection.detections import Detections
from detection.prediction.inputs import FrameReader, Source
from detection.prediction.pictures import PictureWriter
from detection.prediction.rendering import Hidden, Marked
from detection.prediction.writers import Prediction
from lffd.files import OutputFolder

RATE = 10
NONE = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


def _clip(path: Path, coding: str | None, frames: int = 30, pictures: str = "mpeg4") -> Source:
    """A video of `frames` frames, with a tone whose loudness doubles after one second."""
    av = pytest.importorskip("av", reason="the extra video is not installed")
    with av.open(str(path), "w") as output:
        seen = output.add_stream(pictures, rate=RATE)
        seen.width, seen.height, seen.pix_fmt = 64, 48, "yuv420p"
        heard = output.add_stream(coding, rate=48_000, layout="mono") if coding else None
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * number, np.uint8), format="bgr24")
            output.mux(seen.encode(frame))
        output.mux(seen.encode(None))
        if heard is not None:
            moments = np.arange(48_000 * frames // RATE) / 48_000
            tone = np.sin(2 * np.pi * 440 * moments) * np.where(moments < 1, 4_000, 8_000)
            sound = av.AudioFrame.from_ndarray(tone.astype(np.int16)[None], format="s16", layout="mono")
            sound.sample_rate = 48_000
            output.mux(heard.encode(sound))
            output.mux(heard.encode(None))
    return Source(str(path), "video", PurePath(path.name))


def _write(source: Source, folder: Path, every: int = 1, most: int = 1000, render: Any = None) -> list[str]:
    said: list[str] = []
    with FrameReader(source) as reader, OutputFolder(folder) as output:
        writer = PictureWriter(output, render or Marked(), said.append)
        for number, pixels in enumerate(reader):
            if number % every == 0 and number < most:
                time = number / reader.frame_rate
                writer.write(Prediction(source, pixels, NONE, number, time, reader.frame_rate / every))
        writer.close()
    return said


def _heard(path: Path) -> tuple[np.ndarray, int]:
    """Return the sound of a file, -1–1, and how many samples make a second."""
    import av

    with av.open(str(path)) as opened:
        if not opened.streams.audio:
            return np.zeros(0), 0
        rate = int(opened.streams.audio[0].rate)
        parts = [frame.to_ndarray().astype(np.float64)[0] for frame in opened.decode(opened.streams.audio[0])]
        return np.concatenate(parts), rate


@pytest.mark.parametrize(
    ("name", "coding", "pictures"),
    [
        ("a.mp4", "aac", "mpeg4"),
        ("a.avi", "pcm_s16le", "mpeg4"),
        ("a.mkv", "ac3", "mpeg4"),
        ("a.ts", "aac", "mpeg2video"),
    ],
)
@pytest.mark.parametrize("every", [1, 3])
def test_sound_is_kept_at_its_place(tmp_path: Path, name: str, coding: str, pictures: str, every: int) -> None:
    source = _clip(tmp_path / name, coding, pictures=pictures)
    assert _write(source, tmp_path / "out", every) == []
    sound, rate = _heard(tmp_path / "out" / "a.mp4")
    assert abs(sound.size / rate - 3) < 0.2
    middle = sound[round(0.05 * rate) : round(2.8 * rate)]
    loud = np.flatnonzero(np.abs(middle) > 0.75 * np.abs(middle).max())[0] / rate + 0.05
    assert abs(loud - 1) < 0.1
    with FrameReader(Source(str(tmp_path / "out" / "a.mp4"), "video", PurePath("a.mp4"))) as reader:
        assert len(list(reader)) == -(-30 // every)
    assert sorted(path.name for path in (tmp_path / "out").glob("*")) == [".lffd_files", "a.mp4"]


def test_sound_ends_with_the_pictures(tmp_path: Path) -> None:
    source = _clip(tmp_path / "a.mp4", "aac")
    assert _write(source, tmp_path / "out", most=15) == []
    sound, rate = _heard(tmp_path / "out" / "a.mp4")
    assert abs(sound.size / rate - 1.5) < 0.2


def test_a_silent_video_stays_silent(tmp_path: Path) -> None:
    assert _write(_clip(tmp_path / "a.mp4", None), tmp_path / "out") == []
    assert _heard(tmp_path / "out" / "a.mp4")[0].size == 0


def test_without_the_extra_the_video_is_written_and_the_loss_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _clip(tmp_path / "a.mp4", "aac")
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "av", None)
        (said,) = _write(source, tmp_path / "out")
    assert "a.mp4: written without the sound that its source may have: the package av cannot be imported" in said
    assert "[video]" in said
    assert _heard(tmp_path / "out" / "a.mp4")[0].size == 0


def test_a_face_that_is_missed_in_one_frame_stays_hidden_for_half_a_second() -> None:
    source = Source("a.mp4", "video", PurePath("a.mp4"))
    pixels = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    found = Detections(np.array([[30, 30, 70, 70]], np.float32), np.array([0.9], np.float32))
    hidden = Hidden("blur")
    changed = []
    for number in range(10):
        shown = hidden(Prediction(source, pixels, found if number == 2 else NONE, number, number / RATE, RATE))
        changed.append(bool((shown != pixels).any()))
    assert changed == [False] * 2 + [True] * 6 + [False] * 2
    other = Source("b.mp4", "video", PurePath("b.mp4"))
    hidden(Prediction(source, pixels, found, 10, 1.0, RATE))
    np.testing.assert_array_equal(hidden(Prediction(other, pixels, NONE, 0, 0.0, RATE)), pixels)
