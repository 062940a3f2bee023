"""The pack command, format by format, as users run it."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data_provider_farm.pack import Options, check_options, describe, main, pack
from data_provider_farm.pack_format.packed_file import PackReader, partial_path
from data_provider_farm.prepare import Counts
from lffd.errors import DataError, UsageError
from tests.data_provider_farm.samples import jpeg

VOC = """<annotation><filename>{name}</filename>
<object><name>face</name><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>31</xmax><ymax>42</ymax></bndbox></object>
</annotation>"""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "ev").mkdir(parents=True)
    (folder / "ev/a.jpg").write_bytes(jpeg(seed=1))
    (folder / "ev/b.jpg").write_bytes(jpeg(seed=2))
    return folder


def write_annotations(kind: str, folder: Path, images: Path) -> Path:
    """Annotate a.jpg with the box 1, 2, 31, 42 and b.jpg with nothing."""
    folder.mkdir()
    path = folder / "annotations"
    if kind == "widerface":
        path.write_text("ev/a.jpg\n1\n1 2 30 40 0 0 0 0 0 0\nev/b.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n")
    elif kind == "voc":
        (folder / "a.xml").write_text(VOC.format(name="ev/a.jpg"))
        (folder / "b.xml").write_text("<annotation><filename>ev/b.jpg</filename></annotation>")
        return folder
    elif kind == "coco":
        listed = [{"id": 1, "file_name": "ev/a.jpg"}, {"id": 2, "file_name": "ev/b.jpg"}]
        path.write_text(json.dumps({"images": listed, "annotations": [{"image_id": 1, "bbox": [1, 2, 30, 40]}]}))
    elif kind == "yolo":
        (folder / "ev").mkdir()
        (folder / "ev/a.txt").write_text(f"0 {16 / 64} {22 / 48} {30 / 64} {40 / 48}\n")
        return folder
    elif kind == "csv":
        path.write_text("image,x0,y0,x1,y1\nev/a.jpg,1,2,31,42\nev/b.jpg,,,,\n")
    elif kind == "list":
        path.write_text(f"{images / 'ev/a.jpg'},1,1,1,2,30,40\nev/b.jpg,0\n")
    else:
        boxes = np.array([[1, 2, 30, 40]])
        path.write_bytes(pickle.dumps({0: [jpeg(seed=1), 1, boxes], 1: [jpeg(seed=2), 0]}))
    return path


@pytest.mark.parametrize("kind", ["widerface", "voc", "coco", "yolo", "csv", "list", "lffd-pickle"])
def test_every_format_gives_the_same_records(tmp_path: Path, images: Path, kind: str) -> None:
    annotations = write_annotations(kind, tmp_path / "in", images)
    options = Options(format=kind, images=images, annotations=annotations, output=tmp_path / "x.rec")  # type: ignore[arg-type]
    summary = pack(options)
    assert summary.counts == Counts(2, 1, 0, 1)
    assert summary.problems == {}
    with PackReader(tmp_path / "x.rec") as reader:
        first, second = reader
    assert first.image == jpeg(seed=1)
    assert second.image == jpeg(seed=2)
    np.testing.assert_allclose(first.boxes, [[1, 2, 31, 42]], rtol=1e-6)
    if kind != "lffd-pickle":
        assert (first.name, second.name) == ("ev/a.jpg", "ev/b.jpg")


def test_backgrounds_come_last(tmp_path: Path, images: Path) -> None:
    folder = tmp_path / "sky"
    folder.mkdir()
    (folder / "c.jpg").write_bytes(jpeg(seed=3))
    annotations = write_annotations("csv", tmp_path / "in", images)
    options = Options(
        format="csv", images=images, annotations=annotations, output=tmp_path / "x.rec", backgrounds=(folder,)
    )
    assert pack(options).counts == Counts(3, 1, 0, 2)
    with PackReader(tmp_path / "x.rec") as reader:
        assert reader[2].name == "sky/c.jpg"


def test_workers_do_not_change_the_pack(tmp_path: Path, images: Path) -> None:
    annotations = tmp_path / "list.txt"
    annotations.write_text("".join(f"ev/{'ab'[i % 2]}.jpg,1,1,{i % 7},2,30,40\n" for i in range(60)))
    outputs = []
    for workers in (0, 1, 5):
        output = tmp_path / f"{workers}.rec"
        pack(
            Options(format="list", images=images, annotations=annotations, output=output, max_side=40, workers=workers)
        )
        outputs.append(output.read_bytes())
    assert outputs[0] == outputs[1] == outputs[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "--format csv needs --images"),
        ({"annotations": None}, "--format csv needs --annotations"),
        ({"images": Path("/none")}, "--images /none: there is no such"),
        ({"annotations": Path("/none")}, "--annotations /none: there is no such"),
        ({"quality": 0}, "--quality must lie in 1–100, not 0"),
        ({"max_side": 3}, "--max-side must lie in"),
        ({"min_side": -1.0}, "--min-side must lie in"),
        ({"min_side": float("nan")}, "--min-side must lie in"),
        ({"seed": -1}, "--seed must lie in"),
        ({"workers": -1}, "--workers must lie in"),
        ({"count": 5}, "--count does not go with --format csv"),
        ({"format": "synthetic"}, "--images does not go with --format synthetic"),
        ({"format": "synthetic", "images": None, "annotations": None, "size": 10}, "--size must lie in 64–4096"),
        ({"format": "widerface", "class_name": "face"}, "--class-name: the format widerface has only one class"),
        ({"output": Path("x.pack")}, "must end in .rec"),
    ],
)
def test_options_that_cannot_work_are_refused(tmp_path: Path, images: Path, changes: dict, message: str) -> None:
    annotations = write_annotations("csv", tmp_path / "in", images)
    fields = {"format": "csv", "images": images, "annotations": annotations, "output": tmp_path / "x.rec"} | changes
    with pytest.raises(UsageError, match=message):
        pack(Options(**fields))
    assert not list(tmp_path.glob("x*"))


def test_default_options_are_fine() -> None:
    check_options(Options(format="voc", output=Path("x.rec")))
    check_options(Options(format="synthetic", output=Path("x.rec"), count=1, size=64))


def test_an_empty_list_and_wrong_images_are_errors(tmp_path: Path, images: Path) -> None:
    annotations = tmp_path / "list.txt"
    annotations.write_text("\n")
    options = Options(format="list", images=images, annotations=annotations, output=tmp_path / "x.rec")
    with pytest.raises(DataError, match="lists no image"):
        pack(options)
    annotations.write_text("elsewhere.jpg,0\n")
    with pytest.raises(DataError, match=r"nothing could be packed: .*list\.txt:1: .*elsewhere\.jpg"):
        pack(options)


def test_the_report_counts_and_explains(tmp_path: Path, images: Path) -> None:
    annotations = tmp_path / "list.txt"
    annotations.write_text("ev/a.jpg,1,3,1,2,30,400,5,5,-5,5,9,9,5,5\ngone.jpg,0\n")
    options = Options(format="list", images=images, annotations=annotations, output=tmp_path / "x.rec")
    text = describe(pack(options), options.output)
    assert "1 images, 2 boxes (1 of them ignored), 0 backgrounds" in text
    assert "1 boxes that reached over the image's border; cut there" in text
    assert f"first: {annotations}:1: box (5, 5, 0, 10) has a negative size (-5x5)" in text
    assert f"first: {annotations}:2:" in text
    lines = (tmp_path / "x.problems.txt").read_text().splitlines()
    assert len(lines) == 3
    assert [line.split(": ")[1] for line in lines] == ["bad-box", "clipped-box", "missing-image"]


def test_file_names_that_are_no_text_are_reported(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sky"
    folder.mkdir()
    (folder / os.fsdecode(b"\xff.jpg")).write_bytes(jpeg(seed=3))
    annotations = write_annotations("csv", tmp_path / "in", images)
    output = tmp_path / "x.rec"
    main(Options(format="csv", images=images, annotations=annotations, output=output, backgrounds=(folder,)))
    assert "printable text" in capsys.readouterr().out
    assert "\\udcff.jpg" in (tmp_path / "x.problems.txt").read_text()
    with PackReader(output) as reader:
        assert len(reader) == 2


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "data_provider_farm.pack", *map(str, arguments)]


def test_the_command_prints_one_error_and_no_traceback(project: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        command("--format", "voc", "--output", tmp_path / "x.rec"),
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "error: --format voc needs --annotations\n"
    assert done.stdout == ""


def test_a_killed_command_goes_on_when_given_again(project: Path, tmp_path: Path) -> None:
    """SIGKILL leaves no time for anything; the second run must end with the very bytes of an undisturbed one."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(8):
        (folder / f"{number}.jpg").write_bytes(jpeg(900, 700, seed=number))
    annotations = tmp_path / "list.txt"
    annotations.write_text("".join(f"{i % 8}.jpg,1,1,{i % 60},2,300,400\n" for i in range(300)))
    arguments = (
        "--format",
        "list",
        "--images",
        folder,
        "--annotations",
        annotations,
        "--max-side",
        600,
        "--workers",
        2,
    )
    output = tmp_path / "x.rec"
    process = subprocess.Popen(command(*arguments, "--output", output), cwd=project, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if partial_path(output).exists() and partial_path(output).stat().st_size > 2_000_000:
            break
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not output.exists()
    again = subprocess.run(
        command(*arguments, "--output", output), cwd=project, capture_output=True, text=True, check=True
    )
    assert "went on from an interrupted run" in again.stdout
    subprocess.run(command(*arguments, "--output", tmp_path / "y.rec"), cwd=project, capture_output=True, check=True)
    assert output.read_bytes() == (tmp_path / "y.rec").read_bytes()
    assert output.with_suffix(".idx").read_bytes() == (tmp_path / "y.idx").read_bytes()
    assert sorted(path.name for path in tmp_path.glob("x*")) == ["x.idx", "x.rec"]
