"""What words on the command line mean, and frames of videos."""

from __future__ import annotations

import io
import os
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pytest

from detection.prediction import inputs
from detection.prediction.inputs import FrameReader, Source, find_sources
from detection.prediction.run import Pace
from lffd.errors import DataError, UsageError
from tests.data_provider_farm.samples import jpeg

NOTHING = io.StringIO()


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "photos/b.jpg",
        "photos/a.png",
        "photos/deep/c.JPG",
        "photos/.hidden",
        "photos/.git/x",
        "photos/v.mp4",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "photos" / "out").mkdir()
    (tmp_path / "photos" / "out" / "b.jpg").write_bytes(b"result")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _names(*words: str, standard_input: str = "", excluded: Path | None = None) -> list[str]:
    sources, problems = find_sources(words, io.StringIO(standard_input), excluded)
    assert not problems
    return [source.name for source in sources]


def test_a_folder_is_everything_below_it_but_hidden_files_and_results(tree: Path) -> None:
    inside = ["photos/a.png", "photos/b.jpg", "photos/v.mp4", "photos/deep/c.JPG"]
    assert _names("photos", excluded=Path("photos/out")) == inside
    assert _names("photos") == [*inside, "photos/out/b.jpg"]


def test_files_patterns_and_lists(tree: Path) -> None:
    assert _names("photos/b.jpg") == ["photos/b.jpg"]
    assert _names("photos/*.jpg") == ["photos/b.jpg"]
    assert _names("**/*.[jJ][pP][gG]") == ["photos/b.jpg", "photos/deep/c.JPG", "photos/out/b.jpg"]
    assert _names("-", standard_input="photos/a.png\n\n  photos/*.jpg \n") == ["photos/a.png", "photos/b.jpg"]


def test_named_twice_is_done_once(tree: Path) -> None:
    assert _names("photos/b.jpg", "photos/*.jpg") == ["photos/b.jpg"]


def test_kinds_and_places_of_results(tree: Path) -> None:
    sources, _ = find_sources(["photos", "camera:2", "photos/deep/c.JPG"], NOTHING)
    places = {source.name: (source.kind, source.output) for source in sources}
    assert places["photos/v.mp4"] == ("video", PurePath("v.mp4"))
    assert places["photos/deep/c.JPG"] == ("image", PurePath("deep/c.JPG"))
    assert places["camera:2"] == ("camera", PurePath("camera_2.mp4"))


def test_words_that_mean_nothing_are_problems_of_their_own(tree: Path) -> None:
    sources, problems = find_sources(["missing.jpg", "*.webp", "empty", "photos/b.jpg"], NOTHING)
    assert [source.name for source in sources] == ["photos/b.jpg"]
    assert problems == [
        "missing.jpg: does not exist, and matches nothing",
        "*.webp: does not exist, and matches nothing",
        "empty: holds no files",
    ]


def test_no_word_at_all() -> None:
    with pytest.raises(UsageError, match="name at least one image"):
        find_sources([], NOTHING)


def _video(path: Path, frames: int) -> Source:
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for number in range(frames):
        writer.write(np.full((48, 64, 3), 10 * number, np.uint8))
    writer.release()
    return Source(str(path), "video", PurePath(path.name))


def test_frames_of_a_video(tmp_path: Path) -> None:
    with FrameReader(_video(tmp_path / "clip.avi", 7)) as reader:
        frames = list(reader)
        assert reader.frame_rate == 10
        assert reader.count == 7
    assert len(frames) == 7
    assert frames[0].shape == (48, 64, 3)
    assert frames[0].dtype == np.uint8
    assert [round(float(frame.mean()), -1) for frame in frames] == [0, 10, 20, 30, 40, 50, 60]


def test_videos_that_are_none_or_end_early(tmp_path: Path) -> None:
    whole = _video(tmp_path / "clip.avi", 40)
    cut = tmp_path / "cut.avi"
    cut.write_bytes(Path(whole.name).read_bytes()[: Path(whole.name).stat().st_size // 2])
    with pytest.raises(DataError, match=r"cut.avi: (ends early, after \d+ of|has no frame|is not a video)"):
        list(FrameReader(Source(str(cut), "video", PurePath("cut.avi"))))
    (tmp_path / "text.mp4").write_text("no video")
    for name, message in (("text.mp4", "is not a video that can be decoded"), ("none.mp4", "does not exist")):
        with pytest.raises(DataError, match=message):
            FrameReader(Source(str(tmp_path / name), "video", PurePath(name)))


def test_a_missing_camera() -> None:
    with pytest.raises(DataError, match="camera:97: this camera cannot be opened"):
        FrameReader(Source("camera:97", "camera", PurePath("camera_97.mp4")))


def test_a_picture_on_standard_input(tree: Path) -> None:
    data = jpeg()
    for errors in ("strict", "surrogateescape"):
        sources, problems = find_sources(["-", "photos/b.jpg"], io.TextIOWrapper(io.BytesIO(data), "utf-8", errors))
        assert not problems
        assert sources[0] == Source("standard input", "image", PurePath("stdin.jpg"), data)
        assert sources[1].name == "photos/b.jpg"


def test_a_list_of_names_that_are_no_text(tree: Path) -> None:
    Path(os.fsdecode(b"photos/\xff.jpg")).write_bytes(b"x")
    sources, problems = find_sources(["-"], io.TextIOWrapper(io.BytesIO(b"photos/\xff.jpg\nphotos/b.jpg\n")))
    assert [os.fsencode(source.name) for source in sources] == [b"photos/\xff.jpg", b"photos/b.jpg"]
    assert not problems


def test_standard_input_that_is_neither(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="and no list of names, one per line"):
        find_sources(["-"], io.TextIOWrapper(io.BytesIO(b"\x7fELF\0\0")))
    monkeypatch.setattr(inputs, "MAX_STANDARD_INPUT", 10)
    with pytest.raises(UsageError, match="give a picture as a file instead"):
        find_sources(["-"], io.TextIOWrapper(io.BytesIO(jpeg())))


def test_a_camera_of_any_number(tree: Path) -> None:
    _, problems = find_sources(["camera:99999999999999999999"], NOTHING)
    assert problems == ["camera:99999999999999999999: does not exist, and matches nothing"]


@pytest.mark.parametrize("wrong", [{"batch_size": 100_000}, {"every": 10**30}, {"max_frames": 10**30}])
def test_paces_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="at most"):
        Pace(**wrong)
