"""The readers of VOC, COCO, YOLO, CSV and the published text list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_provider_farm.readers.annotations import Listing
from data_provider_farm.readers.coco import read_coco
from data_provider_farm.readers.tables import read_csv, read_list
from data_provider_farm.readers.voc import read_voc
from data_provider_farm.readers.yolo import read_yolo
from lffd.errors import DataError
from tests.data_provider_farm.samples import jpeg, with_exif

Row = tuple[str, list[list[float]], list[bool]]


def rows(listing: Listing) -> list[Row]:
    images = list(listing.images)
    assert len(images) == listing.count
    assert all(len(image.box_where) == len(image.boxes) for image in images)
    return [(image.name, image.boxes.tolist(), image.ignored.tolist()) for image in images]


VOC = """<annotation><filename>a.jpg</filename><size><width>64</width><height>48</height></size>
<object><name>face</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>10</xmax><ymax>20</ymax></bndbox></object>
<object><name>face</name><difficult>1</difficult>
  <bndbox><xmin>5</xmin><ymin>5</ymin><xmax>6</xmax><ymax>6</ymax></bndbox></object>
<object><name>hand</name><bndbox><xmin>3</xmin><ymin>3</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>
</annotation>"""


def test_voc_counts_pixels_from_one_and_includes_the_last(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.xml").write_text(VOC)
    (image,) = read_voc(tmp_path, tmp_path, "face").images
    assert image.boxes.tolist() == [[0, 0, 10, 20], [4, 4, 6, 6]]
    assert image.ignored.tolist() == [False, True]
    assert image.size == (64, 48)
    assert image.box_where[1].endswith("a.xml: object 2")
    assert rows(read_voc(tmp_path, tmp_path / "sub/a.xml", None, first_pixel=0)) == [
        ("a.jpg", [[1, 1, 10, 20], [5, 5, 6, 6], [3, 3, 9, 9]], [False, True, False])
    ]
    assert rows(read_voc(tmp_path, tmp_path, "foot")) == [("a.jpg", [], [])]


def test_voc_size_of_zero_means_unknown(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(VOC.replace("64", "0"))
    (image,) = read_voc(tmp_path, tmp_path, None).images
    assert image.size is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>", r"a\.xml:1: is not XML"),
        ("", r"a\.xml:1: is not XML"),
        ("<annotation/>", "<annotation> has no <filename>"),
        (VOC.replace("<bndbox>", "<box>").replace("</bndbox>", "</box>"), r"a\.xml: object 1: has no <bndbox>"),
        (VOC.replace("<xmax>6</xmax>", ""), r"object 2: <xmax> must be a number, not ''"),
        (VOC.replace(">64<", ">wide<"), "<width> must be a number"),
        ('<!DOCTYPE x [<!ENTITY a "aaaa">]><annotation>&a;</annotation>', "declares a document type"),
    ],
)
def test_voc_faults(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(DataError, match=message):
        rows(read_voc(tmp_path, tmp_path, None))


def test_voc_without_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no \.xml file"):
        read_voc(tmp_path, tmp_path, None)
    with pytest.raises(DataError, match="cannot be read"):
        rows(read_voc(tmp_path, tmp_path / "none.xml", None))


def coco(**changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "images": [
            {"id": 7, "file_name": "b.jpg", "width": 64, "height": 48},
            {"id": 3, "file_name": "a.jpg"},
        ],
        "categories": [{"id": 1, "name": "face"}, {"id": 2, "name": "hand"}],
        "annotations": [
            {"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4.5]},
            {"image_id": 7, "category_id": 1, "bbox": [5, 5, 9, 9], "iscrowd": 1},
            {"image_id": 7, "category_id": 2, "bbox": [0, 0, 2, 2], "ignore": 1},
        ],
    }
    return document | changes


def read_document(tmp_path: Path, document: object, class_name: str | None = None) -> Listing:
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(document))
    return read_coco(tmp_path, path, class_name)


def test_coco(tmp_path: Path) -> None:
    assert rows(read_document(tmp_path, coco())) == [
        ("b.jpg", [[1, 2, 4, 6.5], [5, 5, 14, 14], [0, 0, 2, 2]], [False, True, True]),
        ("a.jpg", [], []),
    ]
    assert rows(read_document(tmp_path, coco(), "hand")) == [("b.jpg", [[0, 0, 2, 2]], [True]), ("a.jpg", [], [])]
    assert [image.size for image in read_document(tmp_path, coco()).images] == [(64, 48), None]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "a COCO file is an object"),
        ({}, "has no list of objects 'images'"),
        (coco(images=[1]), "has no list of objects 'images'"),
        (coco(images=[{"file_name": "a"}]), r"images\[0\]: 'id' must be"),
        (
            coco(images=[{"id": 7, "file_name": "a"}, {"id": 7, "file_name": "b"}]),
            r"images\[1\] has the id 7 of images\[0\]",
        ),
        (coco(images=[{"id": 7}]), r"images\[0\]: 'file_name' must be"),
        (coco(images=[{"id": 7, "file_name": "a", "width": 0, "height": 4}]), "whole numbers of pixels"),
        (coco(annotations=[{"image_id": 8}]), r"annotations\[0\]: refers to image 8, which the file does not list"),
        (coco(annotations=[{"image_id": 7, "bbox": [1, 2, 3]}]), r"annotations\[0\]: bbox must be"),
        (coco(annotations=[{"image_id": 7, "bbox": [1, 2, 3, "4"]}]), "bbox must be"),
        (coco(annotations=[{"image_id": 7, "bbox": [1, 2, 3, True]}]), "bbox must be"),
        (coco(annotations=[{"image_id": 7, "bbox": [1, 2, 3, 10**400]}]), "too large"),
    ],
)
def test_coco_faults(tmp_path: Path, document: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rows(read_document(tmp_path, document))


def test_coco_file_faults(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no category 'foot'; it has face, hand"):
        read_document(tmp_path, coco(), "foot")
    path = tmp_path / "coco.json"
    path.write_text('{"images": [\n}')
    with pytest.raises(DataError, match=r"coco\.json:2: is not JSON"):
        read_coco(tmp_path, path, None)
    path.write_text("[" * 100_000)
    with pytest.raises(DataError, match="nested too deeply"):
        read_coco(tmp_path, path, None)


def test_coco_boxes_that_are_no_numbers_are_problems(tmp_path: Path) -> None:
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(coco(annotations=[{"image_id": 7, "bbox": [1, float("nan"), 3, 4]}])))
    image = next(iter(read_coco(tmp_path, path, None).images))
    assert [(p.kind, p.where) for p in image.problems] == [("bad-box", f"{path}: annotations[0]")]


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    (tmp_path / "images/sub").mkdir(parents=True)
    (tmp_path / "labels/sub").mkdir(parents=True)
    (tmp_path / "images/sub/a.jpg").write_bytes(with_exif(jpeg(), 6))
    (tmp_path / "images/b.jpg").write_bytes(jpeg())
    (tmp_path / "images/c.jpg").write_bytes(jpeg())
    (tmp_path / "labels/sub/a.txt").write_text("0 0.5 0.5 0.25 0.5\n1 0.25 0.25 0.5 0.5\n\n")
    (tmp_path / "labels/b.txt").write_text("")
    return tmp_path


def test_yolo_fractions_become_pixels(yolo: Path) -> None:
    assert rows(read_yolo(yolo / "images", yolo / "labels", None)) == [
        ("b.jpg", [], []),
        ("c.jpg", [], []),
        ("sub/a.jpg", [[24, 12, 40, 36], [0, 0, 32, 24]], [False, False]),
    ]
    assert rows(read_yolo(yolo / "images", yolo / "labels", "1", turned=True))[2] == (
        "sub/a.jpg",
        [[0, 0, 24, 32]],
        [False],
    )
    with pytest.raises(DataError, match=r"put the names in .*classes\.txt"):
        read_yolo(yolo / "images", yolo / "labels", "face")
    (yolo / "labels/classes.txt").write_text("hand\nface\n")
    assert len(rows(read_yolo(yolo / "images", yolo / "labels", "face"))[2][1]) == 1
    with pytest.raises(DataError, match=r"has no class 'foot'; it has hand, face"):
        read_yolo(yolo / "images", yolo / "labels", "foot")


@pytest.mark.parametrize("line", ["0 1 2 3", "face 0.5 0.5 0.1 0.1", "0 0.1 0.2 0.3 0.4 0.5", "-1 0 0 0 0"])
def test_yolo_faults_are_named_by_line(yolo: Path, line: str) -> None:
    (yolo / "labels/b.txt").write_text("0 0.5 0.5 0.25 0.5\n" + line)
    with pytest.raises(DataError, match=r"b\.txt:2: expected `class x y width height`"):
        rows(read_yolo(yolo / "images", yolo / "labels", None))
    (yolo / "labels/b.txt").write_text("0 0.5 x 0.25 0.5\n")
    with pytest.raises(DataError, match=r"b\.txt:1: .*must be a number, not 'x'"):
        rows(read_yolo(yolo / "images", yolo / "labels", None))


def test_yolo_folders_that_do_not_belong_together(yolo: Path) -> None:
    with pytest.raises(DataError, match="holds no text file for any image"):
        read_yolo(yolo / "images", yolo / "images", None)
    with pytest.raises(DataError, match="are a folder of text files"):
        read_yolo(yolo / "images", yolo / "labels/b.txt", None)


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("image,x0,y0,x1,y1", "a.jpg,1,2,4,6"),
        ("xmin,ymin,xmax,ymax,filename", "1,2,4,6,a.jpg"),
        ("Path, X1, Y1, X2, Y2", "a.jpg, 1, 2, 4, 6"),
        ("file,x,y,w,h", "a.jpg,1,2,3,4"),
        ("image_path,x,y,width,height", "a.jpg,1,2,3,4"),
        ("\ufeffimage,x0,y0,x1,y1", "a.jpg,1,2,4,6"),
    ],
)
def test_csv_columns_are_found_by_name(tmp_path: Path, header: str, line: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\n{line}\n", encoding="utf-8")
    assert rows(read_csv(tmp_path, path, None)) == [("a.jpg", [[1, 2, 4, 6]], [False])]


def test_csv_groups_rows_by_image(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "filename,width,height,class,xmin,ymin,xmax,ymax,ignored\n"
        'b.jpg,64,48,face,1,2,3,4,\n"a,b.jpg",64,48,,,,,,\nb.jpg,64,48,hand,5,5,6,6,yes\n'
    )
    listing = read_csv(tmp_path, path, None)
    (first, second) = listing.images
    assert (first.name, first.boxes.tolist(), first.ignored.tolist()) == (
        "b.jpg",
        [[1, 2, 3, 4], [5, 5, 6, 6]],
        [False, True],
    )
    assert first.size == (64, 48)
    assert first.box_where == (f"{path}:2", f"{path}:4")
    assert (second.name, len(second.boxes)) == ("a,b.jpg", 0)
    assert rows(read_csv(tmp_path, path, "hand"))[0][1] == [[5, 5, 6, 6]]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "must name an image column"),
        ("image,x,y\na.jpg,1,2\n", 1, "four box columns"),
        ("image,x,y,w,h,w\n", 1, "names a column twice: w"),
        ("image,x,y,w,h\na.jpg,1,2,3\n", 2, "the number of fields"),
        ("image,x,y,w,h\na.jpg,1,2,3,4,5\n", 2, "the number of fields"),
        ("image,x,y,w,h\n,1,2,3,4\n", 2, "names no image"),
        ("image,x,y,w,h\na.jpg,1,2,3,\n", 2, "must be a number, not ''"),
        ("image,x,y,w,h,ignore\na.jpg,1,2,3,4,perhaps\n", 2, "not 'perhaps'"),
        ("image,x0,y0,x1,y1,width,height\na.jpg,1,2,3,4,6.5,7\n", 2, "whole numbers of pixels"),
        ('image,x,y,w,h\n"a.jpg,1,2,3,4\n', 2, "is not CSV"),
    ],
)
def test_csv_faults_are_named_by_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"a\.csv:{line}: .*{message}"):
        rows(read_csv(tmp_path, path, None))


def test_csv_without_classes_cannot_choose_one(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("image,x,y,w,h\n")
    with pytest.raises(DataError, match="no class column"):
        read_csv(tmp_path, path, "face")


def test_published_list(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    absolute = tmp_path / "elsewhere/c.jpg"
    path.write_text(f"a.jpg,1,2,1,2,3,4,5,6,7,8\n\nsub/b.jpg,0\n{absolute},1,0,\n")
    found = rows(read_list(tmp_path / "images", path))
    assert found == [
        ("a.jpg", [[1, 2, 4, 6], [5, 6, 12, 14]], [False, False]),
        ("sub/b.jpg", [], []),
        (str(absolute).lstrip("/"), [], []),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.jpg", "expected `path,1,n"),
        ("a.jpg,1", "expected `path,1,n"),
        ("a.jpg,2,1,1,2,3,4", "expected `path,1,n"),
        ("a.jpg,0,1,1,2,3,4", "expected `path,1,n"),
        ("a.jpg,1,x,1,2,3,4", "expected `path,1,n"),
        ("a.jpg,1,2,1,2,3,4", "announces 2 boxes, so 8 numbers, but holds 4"),
        ("a.jpg,1,1,1,2,3,four", "must be a number, not 'four'"),
    ],
)
def test_published_list_faults(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text("ok.jpg,0\n" + line)
    with pytest.raises(DataError, match=rf"list\.txt:2: .*{message}"):
        rows(read_list(tmp_path, path))
