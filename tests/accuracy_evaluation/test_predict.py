"""The command as users run it: mixed folders, videos, lists, options that clash."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from accuracy_evaluation import predict
from accuracy_evaluation.predict import Options, main
from detection import detector as detector_module
from detection.prediction.run import Pace, Run
from detection.selection import Selection
from detection.views import ViewSettings
from lffd import cli
from lffd.errors import UsageError
from lffd.files import RECORD, OutputFolder
from lffd.graphs.model import Model, save_model
from tests.factories import random_model
from tests.oracle import OracleEngine, scene

FACES = ((20, 30, 60, 80), (150, 100, 250, 210))


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model directory whose engine finds white rectangles."""
    monkeypatch.setattr(detector_module, "create_engine", lambda model, *_: OracleEngine(model.network))
    save_model(random_model("v2"), tmp_path / "model")
    return str(tmp_path / "model")


def _picture(height: int = 240, width: int = 320) -> Image.Image:
    return Image.fromarray(scene(height, width, *FACES))


def _four_pictures(folder: Path) -> tuple[int, int]:
    """Make four pictures, of which the third is larger, and return its height and width."""
    for number in range(4):
        _picture(272 if number == 2 else 240).save(folder / f"{number}.png")
    return 272, 320


def _folder(folder: Path) -> Path:
    """The mixed folder that users have."""
    folder.mkdir()
    picture, grey = _picture(), _picture().convert("L")
    picture.save(folder / "photo.jpg", quality=95)
    (folder / "notes.txt").write_text("buy milk")
    (folder / "truncated.jpg").write_bytes((folder / "photo.jpg").read_bytes()[:1500])
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(folder / "deep.png")
    grey.save(folder / "grey.png")
    transparent = picture.copy()
    transparent.putalpha(
        Image.fromarray(np.where(np.arange(320) < 290, 255, 254).astype(np.uint8)[None].repeat(240, 0))
    )
    transparent.save(folder / "rgba.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    frames = [_picture().quantize(8) for _ in range(3)]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(np.zeros((3, 20_000, 3), np.uint8)).save(folder / "thin.png")
    return folder


GOOD = ["animated.gif", "cmyk.jpg", "deep.png", "grey.png", "photo.jpg", "rgba.png", "thin.png"]


def test_a_mixed_folder(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = _folder(tmp_path / "mixed"), tmp_path / "out"
    code = main(Options(paths=(str(folder),), model=model, output_dir=out, json=out / "found.json"))
    assert code == 1
    entries = {Path(entry["image"]).name: entry for entry in json.loads((out / "found.json").read_text())}
    assert sorted(entries) == GOOD
    for name, entry in entries.items():
        boxes = sorted(row["box"] for row in entry["detections"])
        expected = [] if name == "thin.png" else list(FACES)
        np.testing.assert_allclose(np.reshape(boxes, (-1, 4)), np.reshape(expected, (-1, 4)), atol=1.5)
        assert all(0.5 < row["score"] <= 1 for row in entry["detections"])
    assert sorted(path.name for path in out.iterdir() if path.name != RECORD) == sorted(
        [*(name.replace(".gif", ".png") for name in GOOD), "found.json"]
    )
    printed = capsys.readouterr()
    assert "7 images: 12 detections" in printed.out
    failed = printed.err[printed.err.index("2 failed:") :]
    assert "notes.txt: is not a picture of a known format" in failed
    assert "truncated.jpg: the JPEG file is truncated" in failed


def test_batches_give_the_same_in_the_same_order(model: str, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "mixed")
    texts = []
    for size in (1, 3, 50):
        file = tmp_path / f"{size}.json"
        assert main(Options(paths=(str(folder),), model=model, json=file, pace=Pace(batch_size=size))) == 1
        texts.append(file.read_text())
    assert texts[0] == texts[1] == texts[2]


def test_only_what_is_asked_for_is_written(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _picture().save("photo.png")
    assert main(Options(paths=("photo.png",), model=model, csv=Path("found.csv"))) == 0
    assert not Path("predictions").exists()
    assert len(Path("found.csv").read_text().splitlines()) == 3
    assert main(Options(paths=("photo.png",), model=model)) == 0
    assert [path.name for path in Path("predictions").glob("[!.]*")] == ["photo.png"]
    assert "pictures: predictions" in capsys.readouterr().out
    assert main(Options(paths=("photo.png",), model=model, save_crops=True, draw=False, output_dir=Path("crop"))) == 0
    assert sorted(str(path) for path in Path("crop").rglob("0*.png")) == [
        "crop/crops/photo.png/0000.png",
        "crop/crops/photo.png/0001.png",
    ]


def test_videos_frame_by_frame(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import cv2

    clip = str(tmp_path / "clip.avi")
    writer = cv2.VideoWriter(clip, cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    for number in range(6):
        writer.write(scene(240, 320, (20 + 10 * number, 30, 60 + 10 * number, 80)))
    writer.release()
    (tmp_path / "none.mp4").write_text("no video")
    paths, pace = (clip, str(tmp_path / "none.mp4")), Pace(every=2)
    options = Options(paths=paths, model=model, output_dir=tmp_path / "out", pace=pace)
    assert main(Options(**{**vars(options), "json": tmp_path / "found.json"})) == 1
    entries = json.loads((tmp_path / "found.json").read_text())
    assert [entry["frame"] for entry in entries] == [0, 2, 4]
    for entry in entries:
        (row,) = entry["detections"]
        np.testing.assert_allclose(row["box"], [20 + 10 * entry["frame"], 30, 60 + 10 * entry["frame"], 80], atol=2)
    assert (tmp_path / "out" / "clip.mp4").stat().st_size > 0
    printed = capsys.readouterr()
    assert "3 frames: 3 detections" in printed.out
    assert "none.mp4: is not a video" in printed.err
    assert main(Options(**{**vars(options), "json": tmp_path / "few.json", "pace": Pace(every=2, max_frames=2)})) == 1
    assert len(json.loads((tmp_path / "few.json").read_text())) == 2


def test_names_from_standard_input(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        _picture().save(tmp_path / f"{name}.png")
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{tmp_path}/a.png\n{tmp_path}/b.png\n"))
    assert main(Options(paths=("-",), model=model, json=tmp_path / "out.json")) == 0
    assert len(json.loads((tmp_path / "out.json").read_text())) == 2


def test_large_faces_only(model: str, tmp_path: Path) -> None:
    Image.fromarray(scene(1500, 2000, (300, 200, 1100, 1200), (1500, 100, 1540, 140))).save(tmp_path / "large.png")
    options = Options(
        paths=(str(tmp_path / "large.png"),), model=model, json=tmp_path / "out.json", views=ViewSettings(min_face=300)
    )
    assert main(options) == 0
    ((entry,),) = (json.loads((tmp_path / "out.json").read_text()),)
    (row,) = entry["detections"]
    np.testing.assert_allclose(row["box"], [300, 200, 1100, 1200], atol=40)


def test_an_interruption_keeps_what_is_done(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    third = _four_pictures(tmp_path)

    class Interrupted(OracleEngine):
        def run(self, images: np.ndarray) -> Any:
            if images.shape[1:3] == third:
                raise KeyboardInterrupt
            return super().run(images)

    monkeypatch.setattr(detector_module, "create_engine", lambda model, *_: Interrupted(model.network))
    assert main(Options(paths=(str(tmp_path / "*.png"),), model=model, json=tmp_path / "out.json")) == 130
    kept = [Path(entry["image"]).name for entry in json.loads((tmp_path / "out.json").read_text())]
    assert kept == ["0.png", "1.png"], "pictures are looked at side by side, and written in order"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (lambda: {"paths": ()}, "name at least one image"),
        (lambda: {"paths": ("nothing.jpg",)}, "there is nothing to look at: nothing.jpg: does not exist"),
        (lambda: {"pace": Pace(batch_size=0)}, "batch_size must be at least 1"),
        (lambda: {"pace": Pace(every=0)}, "every must be at least 1"),
        (lambda: {"selection": Selection(score_threshold=1.5)}, "score_threshold must lie between 0 and 1"),
        (lambda: {"views": ViewSettings(scale=2.0, min_face=20.0)}, "give scale or min_face, not both"),
        (lambda: {"views": ViewSettings(branches=(9,))}, "has branches 0 to 4, not 9"),
        (
            lambda: {"model": "peer:yunet=x.onnx", "views": ViewSettings(min_face=20.0, pyramid=True)},
            "--min-face, --pyramid: only for our own",
        ),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(
    model: str, tmp_path: Path, options: Callable[[], dict[str, Any]], message: str
) -> None:
    _picture().save(tmp_path / "photo.png")
    settings: dict[str, Any] = {"paths": (str(tmp_path / "photo.png"),), "model": model, "json": tmp_path / "out.json"}
    with pytest.raises(UsageError, match=message):
        main(Options(**(settings | options())))
    assert not (tmp_path / "out.json").exists()


def test_without_a_model_it_says_where_one_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _picture().save(tmp_path / "photo.png")
    with pytest.raises(SystemExit) as caught:
        cli.run(main, [str(tmp_path / "photo.png"), "--model", "face_v9"])
    assert caught.value.code == 2
    assert "error: unknown model 'face_v9'" in capsys.readouterr().err


def test_a_model_of_random_weights_through_the_real_command(tmp_path: Path, project: Path) -> None:
    """One process as a user starts it, with the real engine and nothing replaced."""
    weights: Model = random_model("plate_small")
    save_model(weights, tmp_path / "model")
    _picture().save(tmp_path / "photo.jpg")
    command = [sys.executable, str(project / "accuracy_evaluation" / "predict.py"), str(tmp_path / "photo.jpg")]
    command += ["--model", str(tmp_path / "model"), "--score-threshold", "0.3"]
    command += ["--output-dir", str(tmp_path / "out"), "--json", str(tmp_path / "out.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads((tmp_path / "out.json").read_text())
    assert entry["image"] == str(tmp_path / "photo.jpg")
    assert (tmp_path / "out" / "photo.jpg").is_file()


def test_the_defaults_are_for_people() -> None:
    options = Options(paths=("x",))
    assert options.selection == detector_module.PREDICTION
    assert options.folder == predict.DEFAULT_OUTPUT


def _snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("word", ["photo.jpg", ".", "clip.mp4"])
def test_photos_and_videos_of_the_user_are_never_replaced(
    model: str, tmp_path: Path, word: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    import cv2

    folder = tmp_path / "mine"
    folder.mkdir()
    _picture().save(folder / "photo.jpg")
    writer = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (320, 240))
    for _ in range(5):
        writer.write(scene(240, 320, *FACES))
    writer.release()
    before = _snapshot(folder)
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as caught:
        cli.run(main, [word, "--output-dir", ".", "--model", model])
    assert caught.value.code == 2
    assert "choose another --output-dir" in capsys.readouterr().err
    assert _snapshot(folder) == before


def test_a_picture_of_another_origin_is_not_replaced_and_an_own_one_is(model: str, tmp_path: Path) -> None:
    _picture().save(tmp_path / "photo.jpg")
    out = tmp_path / "out"
    options = Options(paths=(str(tmp_path / "photo.jpg"),), model=model, output_dir=out)
    assert main(options) == 0
    assert main(options) == 0
    assert [path.name for path in out.glob("[!.]*")] == ["photo.jpg"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "photo.jpg").symlink_to(tmp_path / "photo.jpg")
    with pytest.raises(UsageError, match="is an input"):
        main(replace(options, output_dir=other))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"json": "photo.jpg"}, "is an input of this command"),
        ({"csv": "link"}, "is an input of this command"),
        ({"json": "/"}, "is a folder"),
        ({"csv": "notes.txt"}, "was not made by this command"),
        ({"json": "x", "csv": "x"}, "name one file"),
    ],
)
def test_tables_never_replace_what_they_did_not_make(
    model: str, tmp_path: Path, output: dict[str, str], message: str
) -> None:
    _picture().save(tmp_path / "photo.jpg")
    (tmp_path / "link").symlink_to("photo.jpg")
    (tmp_path / "notes.txt").write_text("buy milk")
    before = _snapshot(tmp_path)
    paths: dict[str, Any] = {name: tmp_path / file for name, file in output.items()}
    with pytest.raises(UsageError, match=message):
        main(Options(paths=(str(tmp_path / "photo.jpg"),), model=model, **paths))
    assert _snapshot(tmp_path) == before


def test_tables_go_through_links_and_devices(model: str, tmp_path: Path) -> None:
    _picture().save(tmp_path / "photo.jpg")
    (tmp_path / "link.json").symlink_to("real.json")
    paths = (str(tmp_path / "photo.jpg"),)
    for _ in range(2):
        assert main(Options(paths=paths, model=model, json=tmp_path / "link.json", csv=Path("/dev/null"))) == 0
    assert (tmp_path / "link.json").is_symlink()
    assert len(json.loads((tmp_path / "real.json").read_text())) == 1
    assert Path("/dev/null").is_char_device()


def test_a_second_run_in_the_same_folder_is_refused(model: str, tmp_path: Path) -> None:
    _picture().save(tmp_path / "photo.jpg")
    with OutputFolder(tmp_path / "out"), pytest.raises(UsageError, match="another run is writing there"):
        main(Options(paths=(str(tmp_path / "photo.jpg"),), model=model, output_dir=tmp_path / "out"))


def test_sigterm_keeps_what_is_done(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    third, written, write = _four_pictures(tmp_path), [], Run._write

    def note(run: Run, prediction: Any) -> None:
        write(run, prediction)
        written.append(1)

    class Stopped(OracleEngine):
        def run(self, images: np.ndarray) -> Any:
            if images.shape[1:3] == third:
                for _ in range(2000):  # the first two are looked at by another one, and written, meanwhile
                    time.sleep(0 if len(written) == 2 else 0.01)
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)
            return super().run(images)

    monkeypatch.setattr(detector_module, "create_engine", lambda model, *_: Stopped(model.network))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(Run, "_write", note)
    files: dict[str, Any] = {"json": tmp_path / "out.json", "csv": tmp_path / "out.csv"}
    assert main(Options(paths=(str(tmp_path / "*.png"),), model=model, **files)) == 143
    kept = [Path(entry["image"]).name for entry in json.loads(files["json"].read_text())]
    assert kept == ["0.png", "1.png"]
    assert len(files["csv"].read_text().splitlines()) == 5


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files may grow to 4 KB here, which stands for the disk that is full."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)).save(tmp_path / "photo.jpg")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        with pytest.raises(SystemExit) as caught:
            cli.run(main, [str(tmp_path / "photo.jpg"), "--model", model, "--output-dir", str(tmp_path / "out")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == f"error: {tmp_path / 'out' / 'photo.jpg'}: File too large"
    assert [path.name for path in (tmp_path / "out").iterdir()] == [RECORD]


def test_a_picture_through_standard_input(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    _picture().save(stream, "JPEG", quality=95)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stream.getvalue())))
    options = Options(paths=("-",), model=model, output_dir=tmp_path / "out", json=tmp_path / "out.json")
    assert main(options) == 0
    (entry,) = json.loads((tmp_path / "out.json").read_text())
    assert (entry["image"], len(entry["detections"])) == ("standard input", 2)
    assert (tmp_path / "out" / "stdin.jpg").is_file()


def test_counts_of_each_image_are_printed(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _picture().save(tmp_path / "a.png")
    Image.fromarray(np.zeros((100, 100, 3), np.uint8)).save(tmp_path / "b.png")
    options = Options(paths=(str(tmp_path / "*.png"),), model=model, csv=tmp_path / "x.csv")
    assert main(options) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == [f"{tmp_path}/a.png: 2 × face", f"{tmp_path}/b.png: 0 × face"]
    assert (tmp_path / "x.csv").read_text().splitlines()[-1] == f"{tmp_path}/b.png,,,,,,"
    assert main(replace(options, counts=False)) == 0
    assert "×" not in capsys.readouterr().out


@pytest.mark.parametrize("how", ["blur", "pixelate"])
def test_faces_are_hidden_and_nothing_else_changes(model: str, tmp_path: Path, how: str) -> None:
    _picture().save(tmp_path / "a.png")
    flags: dict[str, Any] = {how: True}
    options = Options(paths=(str(tmp_path / "a.png"),), model=model, output_dir=tmp_path / "out", **flags)
    assert main(options) == 0
    before, after = (np.asarray(Image.open(folder / "a.png")).astype(int) for folder in (tmp_path, tmp_path / "out"))
    changed = (before != after).any(axis=2)
    for x0, y0, x1, y1 in FACES:
        assert changed[y0:y1, x0:x1].any()
        changed[max(y0 - 30, 0) : y1 + 30, max(x0 - 30, 0) : x1 + 30] = False
    assert not changed.any()


def _moving(path: Path) -> str:
    """A clip of one face on its way to the right, and one that stands."""
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    for number in range(10):
        writer.write(scene(240, 320, (20 + 8 * number, 30, 60 + 8 * number, 80), (200, 120, 260, 190)))
    writer.release()
    return str(path)


def test_objects_of_a_video_are_followed(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = _moving(tmp_path / "clip.avi")
    files: dict[str, Any] = {"json": tmp_path / "out.json", "csv": tmp_path / "out.csv", "output_dir": tmp_path / "out"}
    assert main(Options(paths=(clip,), model=model, pace=Pace(track=True), **files)) == 0
    entries = json.loads((tmp_path / "out.json").read_text())
    assert len(entries) == 10
    for entry in entries:
        places = {row["track"]: row["box"][0] for row in entry["detections"]}
        assert set(places) == {1, 2}
        standing, walking = sorted(places, key=lambda track: abs(places[track] - 200))
        assert abs(places[walking] - 20 - 8 * entry["frame"]) < 3
        assert abs(places[standing] - 200) < 3
    assert len({tuple(sorted(row["track"] for row in entry["detections"])) for entry in entries}) == 1
    assert (tmp_path / "out.csv").read_text().startswith("image,frame,x0,y0,x1,y1,score,track\n")
    printed = capsys.readouterr().out
    assert "20 × face in 10 frames, at most 2 at once, 2 different ones" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blur": True, "pixelate": True}, "give --blur or --pixelate, not both"),
        ({"blur": True, "save_crops": True}, "--save-crops would show"),
        ({"pixelate": True, "draw": False}, "--no-draw does not go with them"),
        ({"save_txt": "yolo", "paths": ("clip.avi",)}, "--save-txt writes labels of images; clip.avi has frames"),
        ({"save_txt": "coco", "paths": ("a.png", "sub/a.jpg")}, "two images are called a"),
    ],
)
def test_jobs_that_do_not_go_together(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    _moving(tmp_path / "clip.avi")
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "sub/a.jpg"):
        _picture().save(tmp_path / name)
    settings: dict[str, Any] = {"paths": ("a.png",), "model": model} | options
    with pytest.raises(UsageError, match=message):
        main(Options(**settings))
    assert not (tmp_path / "predictions").exists()


@pytest.mark.parametrize("kind", ["yolo", "voc", "coco"])
def test_label_files_beside_the_pictures(model: str, tmp_path: Path, kind: Any) -> None:
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    _picture().save(tmp_path / "photos" / "sub" / "a.png")
    paths = (str(tmp_path / "photos"),)
    assert main(Options(paths=paths, model=model, output_dir=tmp_path / "out", save_txt=kind, draw=False)) == 0
    names = {"yolo": ["classes.txt", "sub/a.txt"], "voc": ["sub/a.xml"], "coco": ["coco.json"]}[kind]
    labels = tmp_path / "out" / "labels"
    assert sorted(path.relative_to(labels).as_posix() for path in labels.rglob("*.*")) == names
    assert not (tmp_path / "out" / "sub").exists()
