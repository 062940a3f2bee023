"""Files with images in them, or about images: packs, annotations, pictures, the files of test sets."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import pickle
import struct
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from accuracy_evaluation.fddb.files import read_annotations, read_image_sizes
from accuracy_evaluation.fddb.files import read_results as read_fddb_results
from accuracy_evaluation.widerface.ground_truth import load_ground_truth
from accuracy_evaluation.widerface.results import read_result
from data_iterator_farm.decoding import decode_image
from data_provider_farm.pack import Format, Options, pack
from data_provider_farm.pack_format.packed_file import PackReader, PackWriter, find_whole_records
from data_provider_farm.pack_format.record_layout import (
    CRC,
    CRC_FIELD,
    IMAGE_HEADER,
    encode_record,
    frame_record,
    set_key,
)
from lffd.errors import DataError
from lffd.images.encoded import encode
from lffd.images.files import read_image, read_picture, read_size
from lffd.records import Record
from tools.fuzzing.mutations import Form
from tools.fuzzing.target import Target

WIDTH, HEIGHT = 64, 48
BOXES = ((1, 2, 30, 40), (5, 6, 20, 12))
"""x, y, width, height of the objects in every example."""


@cache
def picture() -> np.ndarray:
    """Return smooth pixels `(HEIGHT, WIDTH, 3)`."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([rows * 4, columns * 3, rows + columns], axis=2).astype(np.uint8)


@cache
def jpeg() -> bytes:
    """Return them as a JPEG."""
    return encode(picture(), 90)


def pictures() -> list[bytes]:
    """Return files of every kind that is decoded here; HEIC needs an extra."""
    from PIL import Image

    image, files = Image.fromarray(picture()), [jpeg()]
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("JPEG", "RGB", {"progressive": True, "exif": exif}),
        *(("JPEG", "L", {"restart_marker_blocks": 2}), ("JPEG", "CMYK", {})),
        *(("PNG", "RGB", {"exif": exif}), ("PNG", "P", {}), ("PNG", "RGBA", {}), ("PNG", "I;16", {}), ("PNG", "1", {})),
        *(("GIF", "P", {"save_all": True, "append_images": [image]}), ("BMP", "RGB", {}), ("BMP", "P", {})),
        *(("TIFF", "RGB", {"exif": exif}), ("TIFF", "L", {"compression": "tiff_lzw"}), ("TIFF", "I;16", {})),
        *(("TIFF", "RGB", {"compression": "jpeg"}), ("TIFF", "1", {"compression": "group4"}), ("TIFF", "I", {})),
        *(("WebP", "RGB", {"exif": exif}), ("WebP", "RGBA", {"lossless": True}), ("PPM", "RGB", {}), ("PPM", "L", {})),
    )
    for kind, mode, options in kinds:
        stream = io.BytesIO()
        converted = image.convert("L").convert("I") if mode in ("I", "I;16") else image.convert(mode)
        if mode == "I;16":
            converted = converted.point(lambda value: value * 200).convert("I;16")
        converted.save(stream, kind, **options)
        files.append(stream.getvalue())
    if importlib.util.find_spec("pillow_heif") is not None:
        from pillow_heif import from_pillow

        stream = io.BytesIO()
        from_pillow(image).save(stream)
        files.append(stream.getvalue())
    return files


def mend_png(data: bytes) -> bytes:
    """Return a PNG with right checksums as far as its chunks go; other files as they are."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    mended, position = bytearray(data), 8
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        if end + 4 > len(data):
            break
        mended[end : end + 4] = zlib.crc32(data[position + 4 : end]).to_bytes(4, "big")
        position = end + 4
    return bytes(mended)


def read_pictures(data: bytes, folder: Path) -> None:
    """Read a picture in every way in which the commands do; each of them must get the same file safely."""
    path, refusals = folder / "a", []
    path.write_bytes(data)
    readers = (read_picture, read_image, partial(read_size, turned=False), partial(read_size, turned=True))
    for read in (*readers, partial(read_picture, trusted=True)):
        try:
            read(path)
        except DataError as error:
            refusals.append(error)
    record = Record("a", data, WIDTH, HEIGHT, np.zeros((0, 4), np.float32), np.zeros(0, np.bool_))
    decode_image(record, 2)
    if refusals:
        raise refusals[0]


def records() -> list[Record]:
    """Return a background, an image with objects, and one with an ignored box."""
    corners = np.array([(x, y, x + w, y + h) for x, y, w, h in BOXES], np.float32)
    plain = Record("a.jpg", jpeg(), WIDTH, HEIGHT, corners, np.zeros(len(BOXES), np.bool_))
    nothing = replace(plain, name="b/é.jpg", boxes=corners[:0], ignored=plain.ignored[:0])
    return [plain, nothing, replace(plain, name="c.jpg", ignored=np.array([True, False]))]


@cache
def pack_files() -> tuple[bytes, bytes]:
    """Return a pack and the index of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.rec")
        with PackWriter(path) as writer:
            for record in records():
                writer.add(record)
        return path.read_bytes(), path.with_suffix(".idx").read_bytes()


def read_pack(data: bytes, index: bytes, folder: Path) -> None:
    """Read and decode every record of a pack, and rebuild its index."""
    path = folder / "x.rec"
    path.write_bytes(data)
    path.with_suffix(".idx").write_bytes(index)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        find_whole_records(descriptor, path)
    finally:
        os.close(descriptor)
    with PackReader(path) as reader:
        for record in reader:
            decode_image(record)


def mend_record(data: bytes) -> bytes:
    """Return the inside of a record with a right number of label bytes as far as that goes, and a right checksum."""
    if len(data) < IMAGE_HEADER.size + 36:
        return data
    count = IMAGE_HEADER.unpack_from(data)[0]
    end, blank = IMAGE_HEADER.size + 4 * count, IMAGE_HEADER.size + 4 * CRC_FIELD
    label = data[IMAGE_HEADER.size : blank] + bytes(8) + data[blank + 8 : end]
    crc = zlib.crc32(data[end:], zlib.crc32(label, zlib.crc32(struct.pack("<I", len(label)))))
    return data[:blank] + CRC.pack(crc & 0xFFFF, crc >> 16) + data[blank + 8 :]


def record_insides() -> list[bytes]:
    """Return what stands inside records, each as the first of its pack."""
    encoded = [encode_record(record) for record in records()]
    for entry in encoded:
        set_key(entry, 0)
    return [bytes(entry.head) + entry.image for entry in encoded]


def read_record_inside(data: bytes, folder: Path) -> None:
    """Read the pack of one record."""
    head = data[: len(data) // 4 * 4][: IMAGE_HEADER.size]
    read_pack(b"".join(frame_record(head, data[len(head) :])), b"%010d\t%015d\n" % (0, 0), folder)


XML = "<?xml version='1.0' encoding='utf-8'?>"


def datasets(kind: str) -> list[bytes]:
    """Return small datasets of a format."""
    corners = [(x, y, x + w, y + h) for x, y, w, h in BOXES]
    faces = "".join(f"{x} {y} {w} {h} 0 0 0 {number} 0 0\n" for number, (x, y, w, h) in enumerate(BOXES))
    objects = "".join(
        f"<object><name>face</name><difficult>{number}</difficult><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for number, (x0, y0, x1, y1) in enumerate(corners)
    )
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    entries = [
        {"id": number, "image_id": 1, "category_id": 1, "bbox": list(box), "iscrowd": number}
        for number, box in enumerate(BOXES)
    ]
    images = [{"id": 1, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}, {"id": 2, "file_name": "b.png"}]
    document = {"images": images, "annotations": entries, "categories": [{"id": 1, "name": "face"}]}
    numbers = ",".join(str(number) for box in BOXES for number in box)
    fractions = [((x + w / 2) / WIDTH, (y + h / 2) / HEIGHT, w / WIDTH, h / HEIGHT) for x, y, w, h in BOXES]
    rows = "".join(f"a.jpg,{x0},{y0},{x1},{y1},{WIDTH},{HEIGHT},face,0\n" for x0, y0, x1, y1 in corners)
    texts = {
        "widerface": [f"a.jpg\n{len(BOXES)}\n{faces}b.png\n0\n0 0 0 0 0 0 0 0 0 0\n"],
        "voc": [f"{XML}\n<annotation><filename>a.jpg</filename>{size}{objects}</annotation>"],
        "coco": [json.dumps(document)],
        "yolo": ["".join(f"0 {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for x, y, w, h in fractions)],
        "csv": [
            f"image,xmin,ymin,xmax,ymax,width,height,class,ignored\n{rows}",
            'image,x,y,w,h\n"a.jpg",1,2,3,4\nb.png,,,,\n',
        ],
        "list": [f"a.jpg,1,{len(BOXES)},{numbers}\nb.png,0\n"],
    }
    return [text.encode() for text in texts[kind]]


def pickles() -> list[bytes]:
    """Return published packs in several protocols, images as arrays and as bytes."""
    image = np.frombuffer(jpeg(), np.uint8)
    packs: list[dict[int, list[Any]]] = [
        {0: [image, 1, np.array(BOXES, np.float32)], 1: [image, 0]},
        {0: [jpeg(), 1, [list(box) for box in BOXES]], 1: [jpeg(), 0, []]},
    ]
    return [pickle.dumps(pack, protocol) for pack in packs for protocol in (0, 2, 4, 5)]


def matlab() -> list[bytes]:
    """Return a MATLAB file that is annotations and ground truth of WIDER FACE at once."""
    from scipy.io import savemat

    def column(*cells: Any) -> np.ndarray:
        array = np.empty((len(cells), 1), object)
        array[:, 0] = cells
        return array

    boxes, flags = np.array(BOXES, float), np.array([[0], [1]], np.uint8)
    content = {
        "event_list": column("0--Parade"),
        "file_list": column(column("a", "b")),
        "face_bbx_list": column(column(boxes, np.zeros((1, 4)))),
        "invalid_label_list": column(column(flags, np.zeros((1, 1), np.uint8))),
        "gt_list": column(column(np.array([[1.0], [2.0]]), np.zeros((0, 1)))),
    }
    stream = io.BytesIO()
    savemat(stream, content, do_compression=False)
    return [stream.getvalue()]


def mend_matlab(data: bytes) -> bytes:
    """Return a MATLAB file of plain variables with each of them compressed, so that what was changed is unpacked."""
    parts, position = [data[:128]], 128
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<II", data, position)
        body = data[position : position + 8 + length]
        packed = zlib.compress(body)
        parts.append(struct.pack("<II", 15, len(packed)) + packed if kind == 14 else body)
        position += 8 + length
    return b"".join(parts)


def read_annotation(kind: Format, name: str, data: bytes, folder: Path) -> None:
    """Pack a dataset of two images; the second is no picture, which is a problem of the data and no error."""
    images, labels = folder / "images", folder / name
    (images / "0--Parade").mkdir(parents=True)
    for place in ("a.jpg", "0--Parade/a.jpg"):
        (images / place).write_bytes(jpeg())
    (images / "b.png").write_bytes(data)
    if kind != "yolo":  # it takes every image that there is
        os.mkfifo(images / "pipe.jpg")
    labels.write_bytes(data)
    given = None if kind == "lffd-pickle" else images
    whole = folder if kind == "yolo" else labels
    pack(Options(format=kind, images=given, annotations=whole, output=folder / "x.rec", workers=1))


def read_truth(data: bytes, folder: Path) -> None:
    """Read the same file as the four official ones of WIDER FACE."""
    for name in ("wider_face", "wider_easy", "wider_medium", "wider_hard"):
        (folder / f"{name}_val.mat").write_bytes(data)
    load_ground_truth(folder)


def read_fddb(data: bytes, folder: Path) -> None:
    """Read annotations of FDDB."""
    (folder / FDDB_FILE).write_bytes(data)
    read_annotations(folder)


def read_fddb_result(data: bytes, folder: Path) -> None:
    """Read a result file of FDDB, and one of image sizes."""
    (folder / FDDB_FILE).write_bytes(FDDB_FACES)
    (folder / "x.txt").write_bytes(data)
    if data.count(b"\n") == 1:
        read_image_sizes(folder / "x.txt")
    else:
        read_fddb_results(folder / "x.txt", read_annotations(folder))


def read_result_file(data: bytes, folder: Path) -> None:
    """Read a result file of WIDER FACE."""
    (folder / "a.txt").write_bytes(data)
    read_result(folder / "a.txt")


TEXTS: Sequence[tuple[Format, str, Form]] = (
    *(("widerface", "x.txt", "text"), ("voc", "a.xml", "text"), ("coco", "x.json", "json")),
    *(("yolo", "a.txt", "text"), ("csv", "x.csv", "text"), ("list", "x", "text")),
)
"""Format, name of the file, and what the mutations know of it."""

FDDB_FILE = "FDDB-fold-01-ellipseList.txt"
FDDB_FACES = b"2002/08/11/big/img_1\n2\n30 20 1.5 25 20 1\n10 8 -0.3 40 30 1\n"
FDDB_RESULTS = [b"2002/08/11/big/img_1\n1\n10 10 20 30 0.9\n", b"2002/08/11/big/img_1 64 48\n"]
WIDER_RESULT = b"0_Parade_1\n2\n10 10 20 30 0.9\n5 5 8 9 0.125\n"


def data_targets() -> list[Target]:
    """Return the targets of this file."""
    return [
        Target("pack", lambda: [pack_files()[0]], lambda data, folder: read_pack(data, pack_files()[1], folder)),
        Target("record", record_insides, read_record_inside, mend=mend_record),
        Target(
            "index", lambda: [pack_files()[1]], lambda data, folder: read_pack(pack_files()[0], data, folder), "text"
        ),
        *(
            Target(kind, partial(datasets, kind), partial(read_annotation, kind, name), form)
            for kind, name, form in TEXTS
        ),
        Target("widerface-mat", matlab, partial(read_annotation, "widerface", "x.mat"), mend=mend_matlab),
        Target("lffd-pickle", pickles, partial(read_annotation, "lffd-pickle", "x.pkl")),
        Target("image", pictures, read_pictures, mend=mend_png),
        Target("ground-truth", matlab, read_truth, mend=mend_matlab),
        Target("fddb", lambda: [FDDB_FACES], read_fddb, "text"),
        Target("fddb-result", lambda: FDDB_RESULTS, read_fddb_result, "text"),
        Target("result", lambda: [WIDER_RESULT], read_result_file, "text"),
    ]
