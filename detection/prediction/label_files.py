"""Predictions as the files that label tools open, beside the images that they are about: YOLO, Pascal VOC, COCO.

Each is read back by the reader of its format in `data_provider_farm`. Boxes are of the picture as it is shown, after
its EXIF tag has turned it.
"""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any, Literal
from xml.etree import ElementTree

from detection.coco_file import coco_file
from detection.detections import Detections
from detection.prediction.pictures import Names
from detection.prediction.writers import Prediction, PredictionWriter
from lffd.files import OutputFolder, write_atomic

LabelFormat = Literal["yolo", "voc", "coco"]
FOLDER = "labels"


def label_writer(kind: LabelFormat, output: OutputFolder, label: str) -> PredictionWriter:
    """Return the writer of a format, into the folder `labels`; `label` is the class of every box."""
    writers: dict[str, type[_Files]] = {"yolo": YoloWriter, "voc": VocWriter, "coco": CocoWriter}
    return writers[kind](output, label)


class _Files:
    """What the three have in common: a folder, and one class."""

    def __init__(self, output: OutputFolder, label: str) -> None:
        self._names, self._label = Names(output, FOLDER), label

    def write(self, prediction: Prediction) -> None:
        """Take the boxes of one image."""
        raise NotImplementedError

    def close(self) -> None:
        """Write what belongs to all images."""

    def _save(self, wanted: PurePath, text: str) -> None:
        """Write a text file under this very name, which the tool looks for."""
        path = self._names.claim(self._names.folder / wanted)
        write_atomic(path, text.encode(errors="surrogateescape"), durable=False)


class YoloWriter(_Files):
    """A text file per image, `0 x y width height` as fractions of the picture, and `classes.txt`."""

    def __init__(self, output: OutputFolder, label: str) -> None:
        super().__init__(output, label)
        self._save(PurePath("classes.txt"), f"{label}\n")

    def write(self, prediction: Prediction) -> None:
        """Write the file of one image; an empty one where nothing was found."""
        height, width = prediction.pixels.shape[:2]
        lines = []
        for x0, y0, x1, y1 in prediction.detections.boxes.astype(float).tolist():
            fractions = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
            lines.append(" ".join(["0", *(f"{value:.7f}" for value in fractions)]) + "\n")
        self._save(prediction.source.output.with_suffix(".txt"), "".join(lines))


class VocWriter(_Files):
    """An XML file per image; whole pixels counted from 1 with the last one included, as the format has them."""

    def write(self, prediction: Prediction) -> None:
        """Write the file of one image."""
        height, width, depth = prediction.pixels.shape
        root = ElementTree.Element("annotation")
        _add(root, {"filename": prediction.source.output.as_posix()})
        _add(ElementTree.SubElement(root, "size"), {"width": width, "height": height, "depth": depth})
        for x0, y0, x1, y1 in prediction.detections.boxes.astype(float).tolist():
            node = ElementTree.SubElement(root, "object")
            _add(node, {"name": self._label, "pose": "Unspecified", "truncated": 0, "difficult": 0})
            left, top = min(round(x0), width - 1), min(round(y0), height - 1)
            corners = {
                "xmin": left + 1,
                "ymin": top + 1,
                "xmax": max(round(x1), left + 1),
                "ymax": max(round(y1), top + 1),
            }
            _add(ElementTree.SubElement(node, "bndbox"), corners)
        ElementTree.indent(root)
        text = ElementTree.tostring(root, "unicode")
        self._save(prediction.source.output.with_suffix(".xml"), f"{text}\n")


def _add(node: ElementTree.Element, values: dict[str, Any]) -> None:
    """Add children that hold a text each."""
    for tag, value in values.items():
        # A name may hold a byte that is no letter, which XML cannot hold either.
        ElementTree.SubElement(node, tag).text = str(value).encode(errors="backslashreplace").decode()


class CocoWriter(_Files):
    """One file `coco.json`; annotations also have the `score`, which tools pass over, and `keypoints` if there are."""

    def __init__(self, output: OutputFolder, label: str) -> None:
        super().__init__(output, label)
        self._paths: list[str] = []
        self._sizes: list[tuple[int, int]] = []
        self._found: list[Detections] = []

    def write(self, prediction: Prediction) -> None:
        """Take one image."""
        height, width = prediction.pixels.shape[:2]
        self._paths.append(prediction.source.output.as_posix())
        self._sizes.append((width, height))
        self._found.append(prediction.detections)

    def close(self) -> None:
        """Write the file."""
        document = coco_file(self._paths, self._sizes, self._found, self._label)
        self._save(PurePath("coco.json"), json.dumps(document, allow_nan=False) + "\n")
