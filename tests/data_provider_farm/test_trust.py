"""Annotations and packs made to hang, to crash, to lead astray, or to be read wrong without a word."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from accuracy_evaluation.evaluation_on_pack import load_record
from data_provider_farm.pack import Options, pack
from data_provider_farm.pack_format.packed_file import PackReader, PackWriter
from data_provider_farm.readers.lffd_pickle import load_plain_pickle
from data_provider_farm.readers.widerface import read_widerface
from lffd.errors import DataError
from tests.data_provider_farm.samples import jpeg, record

LIMIT_S = 20
MANY = "9" * 5000


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(jpeg())
    os.mkfifo(folder / "pipe.jpg")
    return folder


def command(project: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the pack command with a limit of time."""
    return subprocess.run(
        [sys.executable, "-m", "data_provider_farm.pack", *map(str, arguments)],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )


def packed(tmp_path: Path, kind: str, images: Path, content: str | bytes, **more: Any) -> Options:
    """Write annotations of a format, and return the options that pack them."""
    folder = tmp_path / "annotations"
    folder.mkdir(exist_ok=True)
    annotations = folder / {"voc": "a.xml", "yolo": "a.txt", "widerface": more.pop("name", "a.txt")}.get(kind, "a")
    annotations.write_bytes(content if isinstance(content, bytes) else content.encode())
    given = folder if kind == "yolo" else annotations
    return Options(format=kind, images=images, annotations=given, output=tmp_path / "x.rec", **more)  # type: ignore[arg-type]


def coco(**changes: Any) -> str:
    image = {"id": 1, "file_name": "a.jpg"} | changes.pop("image", {})
    box = {"image_id": 1, "bbox": [1, 2, 30, 40]} | changes.pop("box", {})
    return json.dumps({"images": [image], "annotations": [box]} | changes)


def voc(name: str = "a.jpg", width: str = "64", encoding: str = "utf-8") -> str:
    size = f"<size><width>{width}</width><height>48</height></size>"
    return f"<?xml version='1.0' encoding='{encoding}'?><annotation><filename>{name}</filename>{size}</annotation>"


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("coco", coco(image={"id": 7}).replace("7", MANY), "number of thousands of digits"),
        ("coco", coco(box={"bbox": [1, 2, 3, 4]}).replace("[1,", f"[{MANY},"), "number of thousands of digits"),
        ("coco", coco().replace("[1,", f"[1{'0' * 400},"), "bbox has a number that is too large"),
        ("coco", "[" * 100_000, "nested too deeply"),
        ("list", f"a.jpg,1,{MANY},1,2,3,4", "expected `path,1,n"),
        ("list", f"a.jpg,1,1,1_0,2,3,{MANY}", "must be a number"),
        ("yolo", f"{MANY} .5 .5 .1 .1", "with a class number"),
        ("yolo", "0 .5 .5 .1 1_0", "must be a number"),
        ("widerface", f"a.jpg\n{MANY}\n", "expected the number of faces"),
        ("widerface", "a.jpg\n1\n1_0 2 30 40 0 0 0 0 0 0\n", "invalid being 0 or 1"),
        ("widerface", "a.jpg\n1\n1 2 30 40 0 0 0 2 0 0\n", "invalid being 0 or 1"),
        ("csv", f"image,x0,y0,x1,y1,width,height\na.jpg,1,2,3,4,{MANY},48", "width must be a number"),
        ("csv", "image,x0,y0,x1,y1,width,height\na.jpg,1,2,3,4,1e300,48", "must be whole numbers of pixels"),
        ("voc", voc(width="inf"), "no image has the size infx48"),
        ("voc", voc(width=MANY), "must be a number"),
        ("voc", voc(encoding="nothing"), "unknown encoding"),
        ("voc", voc(encoding="idna"), "a.xml"),
        ("voc", "<a>" * 100_000, "nested too deeply"),
        ("widerface", b"MATLAB 5.0 MAT-file" + bytes(107) + b"\0\1IM" + b"\x0f\0\0\0\x08\0\0\0damaged!", "MATLAB"),
        ("lffd-pickle", pickle.dumps({0: [b"x", 1, [[1, 2, 3, 10**5000]]]}), "number that is too large"),
        ("lffd-pickle", pickle.dumps({0: [b"x", 10**5000]}), "the flag must be 1"),
    ],
)
def test_one_error_and_no_traceback(
    tmp_path: Path, images: Path, kind: str, content: str | bytes, message: str
) -> None:
    more = {"name": "a.mat"} if isinstance(content, bytes) and kind == "widerface" else {}
    with pytest.raises(DataError, match=message) as caught:
        pack(packed(tmp_path, kind, images, content, **more))
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)


def test_images_whose_names_no_file_can_have_are_listed_as_problems(
    project: Path, tmp_path: Path, images: Path
) -> None:
    names = ["a\0b.jpg", "a\ud800b.jpg", "a\nb.jpg", "n" * 300 + ".jpg", "n" * 9000 + ".jpg"]
    document = json.loads(coco())
    document["images"] += [{"id": name, "file_name": name} for name in names]
    options = packed(tmp_path, "coco", images, json.dumps(document))
    arguments = ("--format", "coco", "--images", images, "--annotations", options.annotations)
    done = command(project, *arguments, "--output", options.output)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "1 images, 1 boxes" in done.stdout
    assert len((tmp_path / "x.problems.txt").read_text().splitlines()) == len(names)


@pytest.mark.parametrize("follow", [False, True])
def test_names_are_read_inside_the_folder_alone_and_only_files_are(
    project: Path, tmp_path: Path, images: Path, follow: bool
) -> None:
    (tmp_path / "secret.jpg").write_bytes(jpeg(seed=1))
    lines = ["a.jpg", "pipe.jpg", "/dev/zero", "/dev/full", "../secret.jpg", "/etc/hostname", str(images / "a.jpg")]
    options = packed(tmp_path, "list", images, "".join(f"{line},0\n" for line in lines))
    arguments = ["--format", "list", "--images", images, "--annotations", options.annotations]
    arguments += ["--follow-outside"] if follow else []
    done = command(project, *arguments, "--output", options.output)
    assert done.returncode == 0, done.stderr
    assert f"{3 if follow else 2} images" in done.stdout
    problems = [line.split(":", 3)[-1] for line in (tmp_path / "x.problems.txt").read_text().splitlines()]
    assert "is not a file" in problems[0]
    assert len(problems) == (4 if follow else 5)
    for problem in problems[1:]:
        words = ("is not a file", "is not a picture") if follow else ("--follow-outside allows that",)
        assert any(word in problem for word in words)


PIPES = """
import sys
from pathlib import Path
from data_provider_farm.pack import Options, pack
from lffd.errors import DataError
for kind in ("widerface", "coco", "csv", "list", "voc", "lffd-pickle"):
    try:
        pack(Options(format=kind, images=Path("."), annotations=Path(sys.argv[1]), output=Path(sys.argv[1] + ".rec")))
    except DataError as error:
        print(error)
"""


def test_a_pipe_in_the_place_of_annotations_is_refused(project: Path, images: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PIPES, images / "pipe.jpg"],
        cwd=project,
        timeout=LIMIT_S,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("is not a file") == 6


def test_invalid_may_be_written_as_any_number(tmp_path: Path, images: Path) -> None:
    lines = "a.jpg\n2\n1 2 30 40 0 0 0 1.0 0 0\n5 6 20 20 0 0 0 0.0 0 0\n"
    pack(packed(tmp_path, "widerface", images, lines))
    with PackReader(tmp_path / "x.rec") as reader:
        assert reader[0].ignored.tolist() == [True, False]


@pytest.mark.parametrize("size", [(64, 48), (1024, 683), (999, 777)])
def test_rounded_fractions_neither_shrink_boxes_nor_push_them_over_the_border(
    tmp_path: Path, images: Path, size: tuple[int, int]
) -> None:
    width, height = size
    (images / "a.jpg").write_bytes(jpeg(width, height))
    rng, lines = np.random.default_rng(0), []
    for x, y in zip(rng.integers(0, width - 9, 200), rng.integers(0, height - 9, 200), strict=True):
        lines.append(f"0 {(x + 4.5) / width:.6f} {(y + 4.5) / height:.6f} {9 / width:.6f} {9 / height:.6f}")
    lines.append(f"0 {(width - 6.5) / width:.6f} {(height - 6.5) / height:.6f} {13 / width:.6f} {13 / height:.6f}")
    (images / "pipe.jpg").unlink()
    summary = pack(packed(tmp_path, "yolo", images, "\n".join(lines)))
    assert summary.problems == {}
    assert summary.counts.ignored_boxes == 0
    assert summary.counts.boxes == 201


def nested_tuples(depth: int) -> bytes:
    """A pickle under 300 bytes: a dictionary whose key is a tuple of two tuples of two tuples …"""
    steps = b"}K\x01\x85"
    for _ in range(depth):
        steps += b"2\x86"
    return steps + b"K\x01s."


HASH = """
import sys
from data_provider_farm.readers.lffd_pickle import load_plain_pickle
from lffd.errors import DataError
try:
    load_plain_pickle(bytes.fromhex(sys.argv[1]), "x")
except DataError as error:
    print(error)
"""


@pytest.mark.parametrize("set_opcode", [False, True])
def test_tuples_that_share_tuples_are_not_hashed(project: Path, set_opcode: bool) -> None:
    data = nested_tuples(60)
    if set_opcode:
        data = b"\x8f(" + data[1:-4] + b"\x90."
    done = subprocess.run(
        [sys.executable, "-c", HASH, data.hex()],
        cwd=project,
        timeout=LIMIT_S,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "x: refused" in done.stdout


def test_lists_that_share_lists_are_shown_in_short(tmp_path: Path, images: Path) -> None:
    nested: Any = [1]
    for _ in range(60):
        nested = [nested, nested]
    for content in ({0: [b"x", nested]}, {0: [b"x", 1, [nested]]}):
        with pytest.raises(DataError) as caught:
            pack(packed(tmp_path, "lffd-pickle", images, pickle.dumps(content)))
        assert len(str(caught.value)) < 1000
    assert load_plain_pickle(pickle.dumps({1: nested}), "x")


def test_damaged_matlab_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    savemat(path, {"event_list": np.zeros((40, 3)), "file_list": np.arange(99)}, do_compression=True)
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(data)
        damaged[int(rng.integers(128, len(data)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"x\.mat: "):
            read_widerface(tmp_path, path)


def test_a_matlab_file_that_unpacks_to_gigabytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lffd.matlab.MAX_BYTES", 1 << 22)
    path = tmp_path / "x.mat"
    savemat(path, {})
    body = zlib.compress(bytes(5 << 20))
    path.write_bytes(path.read_bytes() + struct.pack("<II", 15, len(body)) + body)
    with pytest.raises(DataError, match="hold more than 4,194,304 bytes"):
        read_widerface(tmp_path, path)


def test_a_record_of_another_size_than_its_jpeg_is_refused_where_it_is_written_and_read(tmp_path: Path) -> None:
    wrong = replace(record([(1, 1, 90, 90)]), width=400, height=300)
    writer = PackWriter(tmp_path / "x.rec")
    with writer, pytest.raises(DataError, match=r"the record says 400x300 pixels, the image has 64x48"):
        writer.add(wrong)
    with pytest.raises(DataError, match=r"a\.jpg.*the record says 400x300 pixels, the image has 64x48"):
        load_record([wrong], 0)
