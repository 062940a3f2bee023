"""Command line: let detectors annotate pictures, or complete the annotations of a pack.

Several looks at each picture (sizes, mirrored, several detectors) are merged into one opinion, see `merging`. For a
folder it becomes a COCO file with scores and, where the detectors give them, five keypoints a face: an annotation like
any other, for `data_provider_farm.pack --format coco`. For a pack it is compared with the annotations that are there:
they keep their boxes, get points, and what nobody annotated becomes ignored, so that a network is not taught that a
missed face is background.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from numpy.typing import NDArray
from tqdm import tqdm

from data_iterator_farm.decoding import decode_image
from data_provider_farm.pack_format.packed_file import PackReader, PackWriter
from detection.coco_file import coco_file, seen_points
from detection.detections import Detections, ImageDetector
from detection.load import load_detector
from detection.merging import Look, merge
from detection.selection import Selection
from lffd import cli
from lffd.boxes import iou
from lffd.errors import UsageError
from lffd.files import check_output, write_atomic
from lffd.images.files import list_images, read_picture
from lffd.points import COUNT, UNKNOWN
from lffd.records import Record

_SAME, _OTHER = 0.5, 0.3
"""IoU with an annotated box from which a find is that object, and below which it is another one."""


@dataclass(frozen=True)
class Options:
    """What to look at, who looks how, and where the annotation goes.

    Attributes:
        source: folder of pictures, or a pack (FILE.rec).
        output: for a folder a COCO file (.json), for a pack another pack (.rec).
        models: who looks; each a shipped name, a model directory, VERSION=FILE, or peer:KIND=FILE.
        scales: factors by which each picture is enlarged, one look for each.
        mirrored: look at each picture's mirror image as well.
        least_score: of an opinion that becomes an annotation, 0–1: the mean over all looks.
        missed: what becomes of objects in a pack that only the detectors see: ignored, objects to learn, or nothing.
        least_side: objects of a pack whose longer side is below this many pixels get no points.
        class_name: of the objects, in a COCO file.
    """

    source: Annotated[Path, tyro.conf.Positional]
    output: Path
    models: tuple[str, ...]
    scales: tuple[float, ...] = (0.5, 1.0, 2.0)
    mirrored: bool = True
    least_score: float = 0.3
    missed: Literal["ignore", "object", "leave"] = "ignore"
    least_side: float = 16.0
    class_name: str = "face"


@dataclass
class Labeller:
    """Forms opinions with the looks and detectors of the options.

    Attributes:
        options: how.
        detectors: who.
        matched, missed: how many annotated objects were found, and how many others.
    """

    options: Options
    detectors: Sequence[ImageDetector]
    matched: int = field(default=0, init=False)
    missed: int = field(default=0, init=False)

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        """Return what is in a picture `(H, W, 3)` uint8 BGR."""
        ways = [
            Look(scale, turn) for scale in self.options.scales for turn in (False, True)[: 1 + self.options.mirrored]
        ]
        return merge([way(detector, image) for detector in self.detectors for way in ways]).above(
            self.options.least_score
        )

    def complete(self, record: Record) -> Record:
        """Return a record with points for the objects that are found, and what is missing in it, see `missed`."""
        found = self(decode_image(record))
        overlap = iou(record.boxes, found.boxes)
        points, taken = np.zeros((len(record.boxes), COUNT, 3), np.float32), np.zeros(len(found), bool)
        for box, number in _pairs(overlap):
            taken[number] = True
            self.matched += not record.ignored[box]
            if found.landmarks is not None and self._usable(record.boxes[box], found.landmarks[number]):
                points[box] = seen_points(found.landmarks[number])
        extra = ~taken & (overlap.max(axis=0, initial=0) < _OTHER)
        self.missed += int(extra.sum())
        boxes, ignored = record.boxes, record.ignored
        if self.options.missed != "leave" and extra.any():
            limit = np.array([record.width, record.height] * 2, np.float32)
            boxes = np.concatenate([boxes, np.clip(found.boxes[extra], 0, limit)])
            ignored = np.concatenate([ignored, np.full(int(extra.sum()), self.options.missed == "ignore")])
            more = np.zeros((int(extra.sum()), COUNT, 3), np.float32)
            if found.landmarks is not None and self.options.missed == "object":
                more = np.stack([seen_points(one) for one in found.landmarks[extra]])
            points = np.concatenate([points, more])
        if record.landmarks is not None:  # what people marked stands
            marked = (record.landmarks[:, :, 2] > UNKNOWN).any(axis=1)
            points[: len(marked)][marked] = record.landmarks[marked]
        known = (points[:, :, 2] > UNKNOWN).any()
        return replace(record, boxes=boxes, ignored=ignored, landmarks=points if known else None)

    def _usable(self, box: NDArray[np.float32], points: NDArray[np.float32]) -> bool:
        """Say whether points can be those of a face: known, within its box, its eyes above its mouth, large enough."""
        if not np.isfinite(points).all() or max(box[2:] - box[:2]) < self.options.least_side:
            return False
        inside = ((points >= box[:2]) & (points <= box[2:])).all()
        return bool(inside and points[:2, 1].mean() < points[3:, 1].mean())


def _pairs(overlap: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Yield which box is which find, each at most once, best overlap first."""
    boxes, numbers = np.nonzero(overlap >= _SAME)
    free_boxes, free_numbers = (np.ones(count, bool) for count in overlap.shape)
    for place in np.argsort(-overlap[boxes, numbers], kind="stable"):
        box, number = int(boxes[place]), int(numbers[place])
        if free_boxes[box] and free_numbers[number]:
            free_boxes[box] = free_numbers[number] = False
            yield box, number


def main(options: Options) -> None:
    """Let detectors annotate a folder of pictures, or complete the annotations of a pack."""
    pack = options.source.is_file()
    if options.output.suffix != (".rec" if pack else ".json"):
        kinds = "a pack gives another pack (.rec)" if pack else "a folder of pictures gives a COCO file (.json)"
        raise UsageError(f"--output {options.output}: {kinds}")
    if not options.models or not options.scales or not all(0.05 <= scale <= 8 for scale in options.scales):
        raise UsageError("give at least one of --models, and --scales from 0.05 to 8")
    if not 0 < options.least_score <= 1:
        raise UsageError(f"--least-score must lie in 0–1, 0 excluded, not {options.least_score}")
    check_output(options.output, [options.source], ('"images":',))
    selection = Selection(min(0.05, options.least_score))
    labeller = Labeller(options, [load_detector(model, selection) for model in options.models])
    if pack:
        _complete_pack(options, labeller)
    else:
        _label_folder(options, labeller)


def _complete_pack(options: Options, labeller: Labeller) -> None:
    with PackReader(options.source) as reader, PackWriter(options.output) as writer:
        objects = 0
        for record in tqdm(reader, total=len(reader), unit="image"):
            objects += int((~record.ignored).sum())
            writer.add(labeller.complete(record))
    print(f"{options.output}: {labeller.matched:,} of {objects:,} annotated objects found, {labeller.missed:,} others")


def _label_folder(options: Options, labeller: Labeller) -> None:
    paths = list_images(options.source)
    sizes, opinions = [], []
    for path in tqdm(paths, unit="image"):
        image = read_picture(path)
        sizes.append((image.shape[1], image.shape[0]))
        opinions.append(labeller(image))
    names = [path.relative_to(options.source).as_posix() for path in paths]
    document = coco_file(names, sizes, opinions, options.class_name)
    write_atomic(options.output, json.dumps(document, indent=1).encode())
    print(f"{options.output}: {len(document['annotations']):,} objects in {len(paths):,} images")


if __name__ == "__main__":
    cli.run(main)
