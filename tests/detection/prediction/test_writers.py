"""JSON and CSV word for word; pictures, videos and crops by what is in them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np
import pytest

from detection.detections import Detections
from detection.prediction.inputs import FrameReader, Source
from detection.prediction.pictures import CropWriter, Display, PictureWriter
from detection.prediction.rendering import Marked
from detection.prediction.writers import CountWriter, CsvWriter, JsonWriter, Prediction
from lffd.errors import UsageError
from lffd.files import RECORD, OutputFolder

FOUND = Detections(
    np.array([[1.5, 2, 10.25, 12.1], [20, 5, 30, 15]], np.float32),
    np.array([0.9, 0.30000001], np.float32),
    branches=np.array([0, 2], np.int8),
)
NONE = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[OutputFolder]:
    with OutputFolder(tmp_path) as opened:
        yield opened


def _prediction(
    name: str = "a/photo.jpg", found: Detections = FOUND, frame: int | None = None, source: Source | None = None
) -> Prediction:
    pixels = np.arange(40 * 50 * 3, dtype=np.uint32).reshape(40, 50, 3).astype(np.uint8)
    kind = "image" if frame is None else "video"
    source = source or Source(name, kind, PurePath(name))  # type: ignore[arg-type]
    return Prediction(source, pixels, found, frame, None if frame is None else frame / 10, 10)


def test_json_word_for_word(tmp_path: Path) -> None:
    writer = JsonWriter(tmp_path / "deep" / "out.json")
    writer.write(_prediction())
    writer.write(_prediction("näch ste.png", NONE))
    writer.write(_prediction("clip.mp4", NONE, frame=3))
    assert not (tmp_path / "deep" / "out.json").exists()
    writer.close()
    assert (tmp_path / "deep" / "out.json").read_text() == (
        '[\n{"image": "a/photo.jpg", "width": 50, "height": 40, "detections": '
        '[{"box": [1.5, 2.0, 10.25, 12.1], "score": 0.9, "branch": 0}, '
        '{"box": [20.0, 5.0, 30.0, 15.0], "score": 0.3, "branch": 2}]},\n'
        '{"image": "näch ste.png", "width": 50, "height": 40, "detections": []},\n'
        '{"image": "clip.mp4", "frame": 3, "time": 0.3, "width": 50, "height": 40, "detections": []}\n]\n'
    )
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out.json"]


def test_an_empty_json_is_a_list(tmp_path: Path) -> None:
    JsonWriter(tmp_path / "out.json").close()
    assert json.loads((tmp_path / "out.json").read_text()) == []


def test_floats_read_back_as_the_same_float32(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    boxes, scores = rng.uniform(0, 9000, (50, 4)).astype("f"), np.sort(rng.random(50).astype("f"))[::-1].copy()
    marks = rng.uniform(0, 9000, (50, 5, 2)).astype("f")
    writer = JsonWriter(tmp_path / "out.json")
    writer.write(_prediction(found=Detections(boxes, scores, marks)))
    writer.close()
    (entry,) = json.loads((tmp_path / "out.json").read_text())
    for key, expected in (("box", boxes), ("score", scores), ("landmarks", marks)):
        np.testing.assert_array_equal(np.array([row[key] for row in entry["detections"]], np.float32), expected)


def test_csv_word_for_word(tmp_path: Path) -> None:
    writer = CsvWriter(tmp_path / "out.csv")
    writer.write(_prediction('odd, "name".jpg'))
    writer.write(_prediction(found=NONE))
    writer.write(_prediction("clip.mp4", frame=7))
    writer.close()
    text = (tmp_path / "out.csv").read_text()
    assert text == (
        "image,frame,x0,y0,x1,y1,score\n"
        '"odd, ""name"".jpg",,1.5,2.0,10.25,12.1,0.9\n'
        '"odd, ""name"".jpg",,20.0,5.0,30.0,15.0,0.3\n'
        "a/photo.jpg,,,,,,\n"
        "clip.mp4,7,1.5,2.0,10.25,12.1,0.9\n"
        "clip.mp4,7,20.0,5.0,30.0,15.0,0.3\n"
    )
    assert next(row["image"] for row in csv.DictReader(text.splitlines())) == 'odd, "name".jpg'


def test_ids_in_json_and_csv(tmp_path: Path) -> None:
    followed = replace(_prediction("clip.mp4", frame=7), tracks=np.array([4, 2]))
    table, document = CsvWriter(tmp_path / "out.csv", tracks=True), JsonWriter(tmp_path / "out.json")
    for writer in (table, document):
        writer.write(followed)
        writer.write(replace(_prediction("clip.mp4", NONE, frame=8), tracks=np.zeros(0, np.int64)))
        writer.write(_prediction())
        writer.close()
    assert (tmp_path / "out.csv").read_text() == (
        "image,frame,x0,y0,x1,y1,score,track\n"
        "clip.mp4,7,1.5,2.0,10.25,12.1,0.9,4\n"
        "clip.mp4,7,20.0,5.0,30.0,15.0,0.3,2\n"
        "clip.mp4,8,,,,,,\n"
        "a/photo.jpg,,1.5,2.0,10.25,12.1,0.9,\n"
        "a/photo.jpg,,20.0,5.0,30.0,15.0,0.3,\n"
    )
    first, _, image = json.loads((tmp_path / "out.json").read_text())
    assert [row["track"] for row in first["detections"]] == [4, 2]
    assert all("track" not in row for row in image["detections"])


def test_counts_of_images_and_of_whole_videos() -> None:
    lines: list[str] = []
    writer = CountWriter(lines.append, "face")
    one, two = (Source(name, "video", PurePath(name)) for name in ("one.mp4", "two.mp4"))
    writer.write(_prediction())
    writer.write(_prediction(found=NONE))
    writer.write(_prediction(frame=0, source=one))
    writer.write(_prediction(frame=1, source=one, found=NONE))
    writer.write(replace(_prediction(frame=0, source=two), tracks=np.array([1, 2])))
    writer.write(replace(_prediction(frame=1, source=two), tracks=np.array([3, 1])))
    writer.close()
    assert lines == [
        "a/photo.jpg: 2 × face",
        "a/photo.jpg: 0 × face",
        "one.mp4: 2 × face in 2 frames, at most 2 at once",
        "two.mp4: 4 × face in 2 frames, at most 2 at once, 3 different ones",
    ]


def test_pictures_keep_their_places_and_none_is_written_twice(tmp_path: Path, folder: OutputFolder) -> None:
    import cv2

    writer = PictureWriter(folder, Marked())
    for name in ("a/x.jpg", "a/x.jpg", "a/x.png", "a/x.gif", "y.tiff"):
        writer.write(_prediction(name))
    writer.close()
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*") if path.name != RECORD)
    assert written == ["a/x.jpg", "a/x.png", "a/x_2.jpg", "a/x_2.png", "y.png"]
    assert cv2.imread(str(tmp_path / "y.png")).shape == (40, 50, 3)


def test_what_is_too_long_for_a_jpeg_becomes_a_png(tmp_path: Path, folder: OutputFolder) -> None:
    source = Source("strip.jpg", "image", PurePath("strip.jpg"))
    writer = PictureWriter(folder, Marked(scores=False))
    writer.write(Prediction(source, np.zeros((2, 65_600, 3), np.uint8), NONE))
    assert [path.name for path in tmp_path.iterdir() if path.name != RECORD] == ["strip.png"]


def test_frames_become_videos(tmp_path: Path, folder: OutputFolder) -> None:
    writer = PictureWriter(folder, Marked(scores=False))
    for name, count in (("one.avi", 3), ("two.mov", 2)):
        source = Source(name, "video", PurePath(name))
        for number in range(count):
            writer.write(_prediction(frame=number, source=source))
    writer.close()
    for name, count in (("one.mp4", 3), ("two.mp4", 2)):
        with FrameReader(Source(str(tmp_path / name), "video", PurePath(name))) as reader:
            assert len(list(reader)) == count
            assert reader.frame_rate == 10


def test_crops_are_the_pixels_of_the_boxes(tmp_path: Path, folder: OutputFolder) -> None:
    import cv2

    writer = CropWriter(folder)
    prediction = _prediction()
    writer.write(prediction)
    writer.write(_prediction("empty.jpg", NONE))
    writer.write(_prediction())
    writer.write(_prediction("clip.mp4", frame=12))
    writer.close()
    written = sorted(str(path.relative_to(tmp_path / "crops")) for path in tmp_path.rglob("*.png"))
    assert written == [
        *(f"a/photo.jpg/000{i}.png" for i in range(2)),
        *(f"a/photo_2.jpg/000{i}.png" for i in range(2)),
        *(f"clip.mp4/000012_000{i}.png" for i in range(2)),
    ]
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "crops" / written[0])), prediction.pixels[2:13, 1:11])


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for make in (JsonWriter, CsvWriter):
        with pytest.raises(OSError, match=r"exists: .*/file'"):
            make(tmp_path / "file" / "out")
    with pytest.raises(OSError, match=r"(exists|directory): .*/file"), OutputFolder(tmp_path / "file"):
        raise AssertionError


def test_a_window_that_cannot_be_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    def fail(*_: object) -> None:
        raise cv2.error("The function is not implemented. Rebuild the library")

    monkeypatch.setattr(cv2, "namedWindow", fail)
    with pytest.raises(UsageError, match=r"pip install opencv-python$"):
        Display(Marked())
