"""The readers of what label tools write: CVAT, Label Studio, YOLO datasets, darknet; and of CrowdHuman."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from data_provider_farm.pack import Options, pack
from data_provider_farm.pack_format.packed_file import PackReader
from data_provider_farm.readers.annotations import Listing, SourceImage, around_turned
from data_provider_farm.readers.crowdhuman import read_crowdhuman
from data_provider_farm.readers.cvat import read_cvat
from data_provider_farm.readers.label_studio import read_label_studio
from data_provider_farm.readers.yolo_data import read_yolo_data
from lffd.errors import DataError, UsageError
from lffd.images.encoded import decode
from tests.data_provider_farm.samples import jpeg, with_exif


def _all(listing: Listing) -> list[SourceImage]:
    images = list(listing.images)
    assert len(images) == listing.count
    assert all(len(image.box_where) == len(image.boxes) for image in images)
    return images


def _boxes(listing: Listing) -> dict[str, list[list[float]]]:
    return {image.name: np.round(image.boxes, 3).tolist() for image in _all(listing)}


def test_a_box_turned_by_a_right_angle_about_its_centre_and_its_corner() -> None:
    np.testing.assert_allclose(around_turned((10, 20, 30, 26), 90, (20, 23)), (17, 13, 23, 33), atol=1e-9)
    np.testing.assert_allclose(around_turned((10, 20, 30, 26), 90, (10, 20)), (4, 20, 10, 40), atol=1e-9)
    half = 14.142135623730951
    np.testing.assert_allclose(around_turned((-10, -10, 10, 10), 45, (0, 0)), np.array([-half, -half, half, half]))


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><labels><label><name>face</name></label></labels></task></meta>
<image id="0" name="sub/a.jpg" subset="Train" task_id="7" width="64" height="48">
  <box label="face" source="manual" occluded="0" xtl="1.50" ytl="2.25" xbr="30.00" ybr="40.00" z_order="0">
    <attribute name="blurred">false</attribute></box>
  <box label="face" occluded="0" xtl="10" ytl="20" xbr="30" ybr="26" rotation="90.0"></box>
  <box label="hand" occluded="0" xtl="3" ytl="3" xbr="9" ybr="9"></box>
  <points label="face" points="1.0,2.0;3.0,4.0"></points>
</image>
<image id="1" name="b.jpg" width="64" height="48"></image>
</annotations>"""


def _cvat(tmp_path: Path, text: str, class_name: str | None = None) -> Listing:
    (tmp_path / "annotations.xml").write_text(text)
    return read_cvat(tmp_path, tmp_path / "annotations.xml", class_name)


def test_cvat(tmp_path: Path) -> None:
    first, second = _all(_cvat(tmp_path, CVAT, "face"))
    np.testing.assert_allclose(first.boxes, np.array([(1.5, 2.25, 30, 40), (17, 13, 23, 33)]), atol=1e-5)
    assert (first.name, first.size, second.name, len(second.boxes)) == ("sub/a.jpg", (64, 48), "b.jpg", 0)
    assert [(flaw.kind, flaw.where.rpartition(": ")[2]) for flaw in first.problems] == [
        ("turned-box", "shape 2"),
        ("other-shape", "shape 4"),
    ]
    assert len(_boxes(_cvat(tmp_path, CVAT))["sub/a.jpg"]) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotations>", r"annotations\.xml:1: is not XML"),
        ("<annotation/>", "is no CVAT XML: it starts with <annotation>"),
        ("<annotations/>", "lists no <image>"),
        ('<annotations><track id="0"><box frame="0"/></track></annotations>', "holds tracks of a video"),
        (CVAT.replace('name="b.jpg"', ""), r"^\S+annotations\.xml: image 2: has no name"),
        (CVAT.replace('width="64"', 'width="x"'), r"image 1: expected a whole number of pixels as width, found 'x'"),
        (CVAT.replace('xtl="3"', ""), r"image 1: shape 3: xtl must be a number, not ''"),
        (CVAT.replace('"90.0"', '"' + "9" * 5000 + '"'), r"shape 2: rotation must be a number, not '999.*\.\.\."),
        (
            '<!DOCTYPE a [<!ENTITY b "bb">]><annotations>&b;</annotations>',
            r"annotations\.xml: declares a document type",
        ),
        ("<annotations>" + "<a>" * 60 + "</a>" * 60 + "</annotations>", "is nested too deeply"),
        ('<?xml version="1.0" encoding="klingon"?><annotations/>', r"annotations\.xml"),
    ],
)
def test_cvat_faults(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _all(_cvat(tmp_path, text))


def test_cvat_without_the_label(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no shape of the label 'foot'; it has face, hand"):
        _cvat(tmp_path, CVAT, "foot")


def test_cvat_angles_that_are_no_numbers_are_problems(tmp_path: Path) -> None:
    image = _all(_cvat(tmp_path, CVAT.replace("90.0", "inf"), "face"))[0]
    assert [flaw.kind for flaw in image.problems] == ["turned-box", "other-shape", "bad-box"]


PEOPLE: list[dict[str, Any]] = [
    {"tag": "person", "hbox": [1, 2, 3, 4], "head_attr": {"ignore": 0}, "fbox": [0, 0, 20, 40], "vbox": [0, 0, 20, 9]},
    {"tag": "person", "hbox": [5, 5, 2, 2], "head_attr": {"ignore": 1}, "fbox": [4, 4, 9, 9], "vbox": [4, 4, 8, 8]},
    {"tag": "person", "hbox": [6, 5, 2, 2], "fbox": [5, 4, 9, 9], "vbox": [5, 4, 8, 8], "extra": {"ignore": 1}},
    {"tag": "mask", "hbox": [7, 5, 2, 2], "fbox": [6, 4, 9, 9], "vbox": [6, 4, 8, 8]},
]


def _crowd(tmp_path: Path, *entries: object) -> Path:
    path = tmp_path / "train.odgt"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


@pytest.mark.parametrize(
    ("part", "first", "ignored"),
    [
        ("head", [1, 2, 4, 6], [False, True, True, True]),
        ("full", [0, 0, 20, 40], [False, False, True, True]),
        ("visible", [0, 0, 20, 9], [False, False, True, True]),
    ],
)
def test_crowdhuman(tmp_path: Path, part: Any, first: list[float], ignored: list[bool]) -> None:
    path = _crowd(tmp_path, {"ID": "273271,c9db", "gtboxes": PEOPLE}, {"ID": "empty", "gtboxes": []})
    image, empty = _all(read_crowdhuman(tmp_path, path, part))
    assert (image.name, image.boxes[0].tolist(), image.ignored.tolist()) == ("273271,c9db.jpg", first, ignored)
    assert (empty.name, len(empty.boxes)) == ("empty.jpg", 0)
    assert image.box_where[3] == f"{path}:1: gtboxes[3]"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[]", r"odgt:2: expected \{\"ID\""),
        ("{", r"odgt:2: is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"ID": ' + "9" * 5000 + "}", "thousands of digits"),
        ('{"ID": "a", "gtboxes": [1]}', r"odgt:2: expected"),
        ('{"ID": "a", "gtboxes": [{"tag": "person", "fbox": [1, 2, 3, 4]}]}', r"gtboxes\[0\]: hbox must be"),
        ('{"ID": "a", "gtboxes": [{"hbox": [1, 2, 3, 4], "extra": 3, "tag": "person"}]}', "extra must be an object"),
    ],
)
def test_crowdhuman_faults_are_named_by_line(tmp_path: Path, line: str, message: str) -> None:
    path = _crowd(tmp_path, {"ID": "ok", "gtboxes": []})
    path.write_text(path.read_text() + line)
    with pytest.raises(DataError, match=message):
        _all(read_crowdhuman(tmp_path, path, "head"))


def _rectangle(label: str = "face", **changes: Any) -> dict[str, Any]:
    value: dict[str, Any] = {"x": 25, "y": 50.0, "width": 50, "height": 25, "rotation": 0, "rectanglelabels": [label]}
    outer = {key: changes.pop(key) for key in list(changes) if key not in value}
    size = {"original_width": 64, "original_height": 48, "image_rotation": 0}
    return {"type": "rectanglelabels", "value": value | changes} | size | outer


def _task(image: str, *results: dict[str, Any], **annotation: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"image": image}, "annotations": [{"result": list(results)} | annotation]}


def _studio(tmp_path: Path, document: object, class_name: str | None = None) -> Listing:
    (tmp_path / "export.json").write_text(json.dumps(document))
    return read_label_studio(tmp_path / "images", tmp_path / "export.json", class_name)


def test_label_studio(tmp_path: Path) -> None:
    for name in ("a.jpg", "deep/b c.jpg", "c.jpg", "0123abcd-d.jpg"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(jpeg())
    choice = {"type": "choices", "value": {"choices": ["indoors"]}}
    polygon = _rectangle() | {"type": "polygonlabels", "value": {"polygonlabels": ["face"], "points": []}}
    tasks = [
        _task("/data/upload/3/89abcdef-a.jpg", _rectangle(), _rectangle("hand"), choice),
        _task("/data/local-files/?d=deep/b%20c.jpg", _rectangle(rotation=90), polygon),
        _task("s3://bucket/some/c.jpg"),
        _task("https://host.example/x/0123abcd-d.jpg?token=1", _rectangle()),
        _task("/data/upload/3/89abcdef-missing.jpg", was_cancelled=False),
        _task("skipped.jpg", was_cancelled=True),
        {"data": {"image": "new.jpg"}, "annotations": []},
    ]
    box = [16, 24, 48, 36]
    images = {image.name: image for image in _all(_studio(tmp_path, tasks, "face"))}
    assert {name: np.round(image.boxes, 3).tolist() for name, image in images.items()} == {
        "a.jpg": [box],
        "deep/b c.jpg": [[4, 24, 16, 56]],
        "c.jpg": [],
        "0123abcd-d.jpg": [box],
        "missing.jpg": [],
    }
    assert [flaw.kind for flaw in images["deep/b c.jpg"].problems] == ["turned-box", "other-shape"]
    assert images["a.jpg"].size == (64, 48)


def test_label_studio_takes_the_ground_truth_or_the_latest(tmp_path: Path) -> None:
    task = _task("a.jpg", _rectangle(x=0))
    task["annotations"] += [{"result": [_rectangle(x=10)]}, {"result": [_rectangle(x=20)], "was_cancelled": True}]
    (image,) = _all(_studio(tmp_path, [task]))
    assert image.boxes[0, 0] == pytest.approx(6.4)
    task["annotations"][0]["ground_truth"] = True
    (image,) = _all(_studio(tmp_path, [task]))
    assert image.boxes[0, 0] == 0


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "is a list of tasks"),
        ([{"image": "a.jpg", "label": []}], "no task has an annotation; export as JSON, not as JSON-MIN"),
        ([{"annotations": 3}], "task 0: annotations must be a list"),
        ([_task("a.jpg") | {"data": {}}], "task 0: data names no image"),
        ([_task("a\0.jpg")], "task 0: .* names no file"),
        ([_task("http://[bad")], "task 0: .* is no file and no address"),
        (
            [_task("a.jpg", _rectangle(x="1"))],
            r"result 0: a rectangle must be \[x, y, width, height, rotation\]",
        ),
        ([_task("a.jpg", _rectangle(x=10**400))], "has a number that is too large"),
        ([_task("a.jpg", _rectangle(original_width=0))], "original_width must be a number of pixels, not 0"),
        ([_task("a.jpg", _rectangle(image_rotation=90))], "turned in Label Studio"),
    ],
)
def test_label_studio_faults(tmp_path: Path, document: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _all(_studio(tmp_path, document))


def test_names_in_annotations_lead_nowhere_else(tmp_path: Path) -> None:
    """Neither up, nor to a name that no file system takes: the packer lists them as missing or outside."""
    (tmp_path / "images").mkdir()
    (tmp_path / "secret.jpg").write_bytes(jpeg())
    tasks = [_task("/data/local-files/?d=../secret.jpg", _rectangle()), _task("x" * 5000, _rectangle())]
    tasks.append(_task("ok.jpg", _rectangle()))
    (tmp_path / "images" / "ok.jpg").write_bytes(jpeg())
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    options = Options(
        format="label-studio",
        images=tmp_path / "images",
        annotations=tmp_path / "export.json",
        output=tmp_path / "x.rec",
    )
    summary = pack(options)
    assert summary.counts.images == 1
    assert sum(summary.problems.values()) == 2
    assert "leads outside" in (tmp_path / "x.problems.txt").read_text()


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root = tmp_path / "faces"
    for split, names in (("train", "ab"), ("val", "c")):
        for name in names:
            for kind, suffix, data in (("images", "jpg", jpeg()), ("labels", "txt", b"1 0.5 0.5 0.5 0.5\n")):
                file = root / kind / split / f"{name}.{suffix}"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
    (root / "labels/train/b.txt").write_text("0 0.25 0.25 0.5 0.5\n1 0.5 0.5 1 1\n")
    return root


MIDDLE = [16, 12, 48, 36]


def _read(file: Path, text: str, split: Any = "train", class_name: str | None = None, **options: Any) -> Listing:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    settings: dict[str, Any] = {"images": None, "turned": False, "outside": False} | options
    images = settings.pop("images")
    return read_yolo_data(file, images, split, class_name, **settings)


@pytest.mark.parametrize(
    "text",
    [
        "path: .\ntrain: images/train\nval: images/val\nnames: [hand, face]\n",
        "train: ./images/train\nvalid: images/val\nnc: 2\nnames:\n  0: hand\n  1: face\n",
        "train: ../images/train  # as one tool writes it\nval: ../images/val\nnames: ['hand', 'face']\n",
        "train: [images/train]\nval: [images/val]\nnames: {1: face, 0: hand}\ndownload: echo no\n",
    ],
)
def test_yolo_data_yaml(dataset: Path, text: str) -> None:
    file = dataset / "data.yaml"
    assert _boxes(_read(file, text, class_name="face")) == {
        "images/train/a.jpg": [MIDDLE],
        "images/train/b.jpg": [[0, 0, 64, 48]],
    }
    assert _boxes(_read(file, text, "val", "1")) == {"images/val/c.jpg": [MIDDLE]}
    with pytest.raises(DataError, match=r"has no class 'foot'; it has hand, face"):
        _read(file, text, class_name="foot")
    with pytest.raises(
        DataError, match=r"data\.yaml: test must be a folder, a text file, or a list of these, not None"
    ):
        _read(file, text, "test")


def test_yolo_data_yaml_elsewhere(dataset: Path) -> None:
    """Tools keep the file apart from the images; a foreign one must not choose any folder of the user's."""
    file = dataset.parent / "config" / "data.yaml"
    text = f"path: {dataset}\ntrain: images/train\nnames: [hand, face]\n"
    with pytest.raises(DataError, match=f"leads outside .*config; if right, add --images {dataset}"):
        _read(file, text)
    assert len(_boxes(_read(file, text, images=dataset))) == 2
    assert len(_boxes(_read(file, text, outside=True))) == 2
    with pytest.raises(DataError, match="is no folder here; --images FOLDER"):
        _read(file, "path: gone\ntrain: images\n")
    with pytest.raises(DataError, match="leads outside"):
        _read(file, "train: ../faces/images/train\n")


def test_yolo_data_yaml_with_a_list_of_images(dataset: Path) -> None:
    (dataset / "train.txt").write_text("./images/train/b.jpg\nimages/val/c.jpg\n/etc/passwd\n")
    images = _all(_read(dataset / "data.yaml", "train: train.txt\nnames: [hand, face]\n"))
    assert [image.name for image in images] == ["images/train/b.jpg", "images/val/c.jpg", "passwd"]
    assert images[2].folder == dataset
    assert not len(images[2].boxes)
    options = Options(format="yolo", annotations=dataset / "data.yaml", output=dataset / "x.rec")
    summary = pack(options)
    assert summary.counts.images == 2
    assert "leads outside" in str(summary.examples["unreadable-image"])


@pytest.mark.parametrize("prefix", ["", "data/"])
def test_darknet(dataset: Path, prefix: str) -> None:
    """As darknet's own examples and as CVAT exports it, where `data/` stands for the folder of `obj.data`."""
    for name in "ab":
        for kind, suffix in (("images", "jpg"), ("labels", "txt")):
            target = dataset / "obj_train_data" / f"{name}.{suffix}"
            target.parent.mkdir(exist_ok=True)
            (dataset / kind / "train" / f"{name}.{suffix}").rename(target)
    (dataset / "obj.names").write_text("hand\nface\n")
    (dataset / "train.txt").write_text(f"{prefix}obj_train_data/a.jpg\n{prefix}obj_train_data/b.jpg\n")
    text = f"classes = 2\ntrain = {prefix}train.txt\nnames = {prefix}obj.names\nbackup = backup/\n"
    assert _boxes(_read(dataset / "obj.data", text, class_name="face")) == {
        "obj_train_data/a.jpg": [MIDDLE],
        "obj_train_data/b.jpg": [[0, 0, 64, 48]],
    }
    with pytest.raises(DataError, match=r"obj\.data: has no images for val; it has classes, train"):
        _read(dataset / "obj.data", text, "val")
    with pytest.raises(DataError, match=r"obj\.data:1: expected `key = value`, found 'oops'"):
        _read(dataset / "obj.data", "oops")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "this holds"),
        ("train: [", "is not YAML"),
        ("\x00", "is not YAML"),
        ("train: &a images/train\nval: *a\n", "has aliases"),
        ("a: &a [x,x]\nb: &b [*a,*a]\n", "has aliases"),
        ("train: " + "[" * 50_000, "nested too deeply"),
        ("train: !!python/object/apply:os.system ['touch harmed']\n", "which is not in"),
        ("path: [a]\ntrain: images\n", "path must be a folder"),
        ("train: 3\n", "names '3', which is not in"),
        ("train: images/train\nnames: {x: face}\n", "expected the number of a class, found 'x'"),
        ("train: images/train\nnames: {" + "9" * 900 + ": face}\n", "expected the number of a class"),
        ("train: images/train\nnames: {999999999999999: face}\nval: {}\n", "has no class 'foot'"),
        ("train: images/train\nnames: [[a]]\n", "names must be a list of texts"),
        ("train: /etc\n", "leads outside"),
        ("train: a\\0b\n", "which is not in"),
    ],
)
def test_hostile_data_yaml(dataset: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _all(_read(dataset / "data.yaml", text, class_name="foot" if "names" in text else None))
    assert not (Path.cwd() / "harmed").exists()


def test_a_huge_data_yaml_is_not_read(dataset: Path) -> None:
    with pytest.raises(DataError, match="more than the 1,048,576 that are read"):
        _read(dataset / "data.yaml", "a: b\n" * 300_000)


def test_yolo_labels_of_turned_photos_are_of_what_viewers_show(tmp_path: Path) -> None:
    """A label tool, and the training programs of YOLO, see the photo upright; so does the pack, unless asked."""
    (tmp_path / "a.jpg").write_bytes(with_exif(jpeg(64, 48, seed=3), 6))
    (tmp_path / "a.txt").write_text("0 0.5 0.25 0.5 0.25\n")
    found = {}
    kinds: tuple[Literal["auto", "turned", "stored"], ...] = ("auto", "turned", "stored")
    for exif in kinds:
        output = tmp_path / f"{exif}.rec"
        summary = pack(Options(format="yolo", images=tmp_path, annotations=tmp_path, output=output, exif=exif))
        with PackReader(output) as reader:
            (record,) = reader
        found[exif] = (record.width, record.height, record.boxes.tolist(), list(summary.problems))
    assert found["auto"] == found["turned"] == (48, 64, [[12, 8, 36, 24]], [])
    assert found["stored"] == (64, 48, [[16, 6, 48, 18]], ["orientation"])
    with PackReader(tmp_path / "auto.rec") as reader:
        upright = decode(reader[0].image, "packed")
    expected = np.rot90(decode(jpeg(64, 48, seed=3), "plain"), -1)
    assert np.abs(upright.astype(int) - expected).mean() < 4


def test_options_of_one_format_are_refused_for_others(tmp_path: Path) -> None:
    for wrong in ({"split": "val"}, {"person_box": "full"}):
        options: dict[str, Any] = {"format": "yolo", "images": tmp_path, "annotations": tmp_path} | wrong
        with pytest.raises(UsageError, match="only for --format"):
            pack(Options(output=tmp_path / "x.rec", **options))
