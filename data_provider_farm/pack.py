"""Command line: turn a dataset of annotated images into one packed file."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from data_provider_farm.backgrounds import read_backgrounds
from data_provider_farm.drawn_faces.pictures import SMALLEST_PICTURE, prepare_synthetic
from data_provider_farm.pack_job import Job, Summary, problems_path, run_job
from data_provider_farm.prepare import Preparation, prepare
from data_provider_farm.readers.annotations import PROBLEM_KINDS, Listing, SourceImage
from data_provider_farm.readers.coco import read_coco
from data_provider_farm.readers.crowdhuman import BodyPart, read_crowdhuman
from data_provider_farm.readers.cvat import read_cvat
from data_provider_farm.readers.label_studio import read_label_studio
from data_provider_farm.readers.lffd_pickle import read_lffd_pickle
from data_provider_farm.readers.retinaface import read_retinaface
from data_provider_farm.readers.tables import read_csv, read_list
from data_provider_farm.readers.voc import read_voc
from data_provider_farm.readers.widerface import read_widerface
from data_provider_farm.readers.yolo import read_yolo
from data_provider_farm.readers.yolo_data import SUFFIXES as YOLO_DATA
from data_provider_farm.readers.yolo_data import Split, read_yolo_data
from lffd import cli
from lffd.errors import DataError, UsageError

Format = Literal[
    "widerface",
    "retinaface",
    "voc",
    "coco",
    "yolo",
    "cvat",
    "label-studio",
    "crowdhuman",
    "csv",
    "list",
    "lffd-pickle",
    "synthetic",
]
RUN_OPTIONS = ("output", "strict", "overwrite", "workers")
ONE_CLASS = ("widerface", "retinaface", "crowdhuman", "list", "lffd-pickle", "synthetic")
SHOWN_TURNED = ("yolo", "cvat", "label-studio")
"""Formats whose tools look at pictures as their EXIF tag turns them, so that boxes are of the turned picture."""
DEFAULT_COUNT, DEFAULT_SIZE = 1000, 640


@dataclass(frozen=True, kw_only=True)
class Options(Preparation):
    """Options of the command.

    Attributes:
        format: what the annotations are; `synthetic` draws pictures instead.
        output: the pack to make, ending in `.rec`; its index gets the same name with `.idx`.
        images: folder that the annotations' image names start from; not for lffd-pickle and synthetic. For yolo with a
            `data.yaml` or `obj.data` it may be left out: these say where the images are.
        annotations: the annotation file, or the folder of them (voc, yolo).
        class_name: the only class to take (voc, coco, yolo, cvat, label-studio, csv); all classes count as one by
            default.
        exif: what boxes refer to: the pixels as `stored`, or as a viewer shows them after turning them by the EXIF
            orientation (`turned`); `auto` is turned for yolo, cvat and label-studio, whose tools see turned pictures.
        split: yolo with a `data.yaml` or `obj.data`: which of its images.
        person_box: crowdhuman: the box of the head, of the full body, or of its visible part.
        voc_first_pixel: what the annotating tool calls the first pixel: 1 is Pascal VOC's own way.
        backgrounds: folders of images without any object, added at the end.
        count: synthetic: number of pictures (1000 when not given).
        size: synthetic: side of the pictures in pixels (640 when not given).
        strict: stop at the first problem of the data instead of listing all of them.
        overwrite: replace an existing pack.
        workers: threads (processes for synthetic). 0 takes one where JPEGs are only copied, which more threads would
            slow down, and one per core elsewhere. Give a number for files on a slow network disk.
    """

    format: Format
    output: Path
    images: Path | None = None
    annotations: Path | None = None
    class_name: str | None = None
    exif: Literal["auto", "stored", "turned"] = "auto"
    split: Split = "train"
    person_box: BodyPart = "head"
    voc_first_pixel: Literal[0, 1] = 1
    backgrounds: tuple[Path, ...] = ()
    count: int | None = None
    size: int | None = None
    strict: bool = False
    overwrite: bool = False
    workers: int = 0


def read_source(options: Options) -> Listing:
    """Return the images that the options name, backgrounds last; raises UsageError when a path is missing."""
    annotations, choice = _existing(options.annotations, "--annotations", options.format), options.class_name
    images = annotations
    if options.format != "lffd-pickle" and not (_describes_itself(options) and options.images is None):
        images = _existing(options.images, "--images", options.format)
    turned = options.exif == "turned"
    readers: dict[str, Callable[[], Listing]] = {
        "widerface": lambda: read_widerface(images, annotations),
        "retinaface": lambda: read_retinaface(images, annotations),
        "voc": lambda: read_voc(images, annotations, choice, options.voc_first_pixel),
        "coco": lambda: read_coco(images, annotations, choice),
        "yolo": lambda: read_yolo(images, annotations, choice, turned),
        "cvat": lambda: read_cvat(images, annotations, choice),
        "label-studio": lambda: read_label_studio(images, annotations, choice),
        "crowdhuman": lambda: read_crowdhuman(images, annotations, options.person_box),
        "csv": lambda: read_csv(images, annotations, choice),
        "list": lambda: read_list(images, annotations),
        "lffd-pickle": lambda: read_lffd_pickle(annotations),
    }
    if _describes_itself(options):
        outside = options.follow_outside
        listing = read_yolo_data(annotations, options.images, options.split, choice, turned=turned, outside=outside)
    else:
        listing = readers[options.format]()
    more = read_backgrounds(options.backgrounds)
    return Listing(listing.count + more.count, chain(listing.images, more.images))


def _describes_itself(options: Options) -> bool:
    """Return whether the annotations are a file that says where the images are."""
    path = options.annotations
    return options.format == "yolo" and path is not None and path.suffix.lower() in YOLO_DATA


def _existing(path: Path | None, flag: str, kind: str) -> Path:
    """Return a path that was given and exists."""
    if path is None or not path.exists():
        missing = f"--format {kind} needs {flag}" if path is None else f"{flag} {path}: there is no such file or folder"
        raise UsageError(missing)
    return path


def check_options(options: Options) -> None:
    """Refuse numbers out of range, and options that do not go with the format. Raises UsageError, naming the option."""
    limits = {
        "quality": (1, 100),
        "min_side": (0, float("inf")),
        "min_score": (0, 1),
        "crop_background": (0, 1000),
        "crop_side": (16, 4096),
        "workers": (0, 1024),
        "seed": (0, 2**63 - 1),
        "max_side": (16, 65500),
        "count": (1, 10**9),
        "size": (SMALLEST_PICTURE, 4096),
    }
    for name, (low, high) in limits.items():
        value = getattr(options, name)
        if value is not None and not low <= value <= high:
            raise UsageError(f"--{name.replace('_', '-')} must lie in {low}–{high}, not {value}")
    if options.format in ONE_CLASS and options.class_name is not None:
        raise UsageError(f"--class-name: the format {options.format} has only one class")
    if options.split != "train" and not _describes_itself(options):
        raise UsageError("--split: only for --format yolo with a data.yaml or obj.data as --annotations")
    if options.person_box != "head" and options.format != "crowdhuman":
        raise UsageError("--person-box: only for --format crowdhuman")
    synthetic = options.format == "synthetic"
    others = ("images", "annotations", "max_side") if synthetic else ("count", "size")
    clash = [name for name in others if getattr(options, name) is not None]
    if synthetic:
        clash += [name for name in ("backgrounds", "crop_background") if getattr(options, name)]
    if clash:
        raise UsageError(f"--{clash[0].replace('_', '-')} does not go with --format {options.format}")


def pack(options: Options) -> Summary:
    """Make the pack, with a progress bar; return what is in it, and the problems met.

    Raises:
        UsageError: for options that clash.
        DataError: when annotations cannot be parsed, or nothing can be packed.
    """
    check_options(options)
    if options.exif == "auto":
        options = dataclasses.replace(options, exif="turned" if options.format in SHOWN_TURNED else "stored")
    total, states = _states(options)
    summary = Summary()
    with tqdm(desc=options.output.name, total=total, unit=" images", disable=None) as bar:
        for summary in states:
            bar.update(summary.items - bar.n)
    return summary


def _states(options: Options) -> tuple[int, Iterator[Summary]]:
    """Return the number of source images, and the job that packs them."""
    shaping = {key: value for key, value in dataclasses.asdict(options).items() if key not in RUN_OPTIONS}
    fingerprint = json.dumps(shaping, sort_keys=True, default=str)
    workers, synthetic = options.workers or os.cpu_count() or 1, options.format == "synthetic"
    job = Job(options.output, fingerprint, options.overwrite, options.strict, workers, processes=synthetic)
    if synthetic:
        draw = partial(prepare_synthetic, size=options.size or DEFAULT_SIZE, seed=options.seed)
        count = options.count or DEFAULT_COUNT
        return count, run_job(job, range(count), draw, lambda index: b"%d" % index)
    listing = read_source(options)
    first = next(listing.images, None)
    if first is None:
        raise DataError(f"{options.annotations}: lists no image")
    decoding = options.max_side is not None or options.verify == "full" or options.crop_background > 0
    decoding = decoding or (options.exif == "turned" and options.format not in SHOWN_TURNED)  # there, few are turned
    decoding = decoding or first.path.suffix.lower() not in (".jpg", ".jpeg", ".pkl")
    if not options.workers and not decoding:
        job = dataclasses.replace(job, workers=1)
    settings = Preparation(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Preparation)})
    return listing.count, run_job(job, chain([first], listing.images), partial(prepare, settings=settings), _identify)


def _identify(source: SourceImage) -> bytes:
    """Return bytes that change when a source image or its boxes do."""
    arrays = (source.boxes, source.ignored, source.landmarks, source.scores)
    content = b"".join(array.tobytes() for array in arrays if array is not None)
    return source.name.encode(errors="surrogatepass") + content


def describe(summary: Summary, output: Path) -> str:
    """Return the report of a finished job as text."""
    counts = summary.counts
    lines = [
        f"{output}: {counts.images:,} images, {counts.boxes:,} boxes ({counts.ignored_boxes:,} of them ignored), "
        f"{counts.backgrounds:,} backgrounds, {output.stat().st_size / 1e6:,.1f} MB"
    ]
    if summary.resumed:
        lines.append(f"went on from an interrupted run, which had packed {summary.resumed:,} images")
    for kind, number in summary.problems.most_common():
        lines += [f"{number:,} {PROBLEM_KINDS[kind]}", f"  first: {summary.examples[kind]}"]
    if summary.problems:
        lines.append(f"all problems: {problems_path(output)}")
    return "\n".join(lines)


def main(options: Options) -> None:
    """Turn annotated images into one packed file.

    JPEGs are copied as they are unless they must shrink or turn. A run that was stopped goes on when the same command
    is given again.
    """
    text = describe(pack(options), options.output)
    print(text.encode(errors="backslashreplace").decode())  # file names may hold bytes that are no text


if __name__ == "__main__":
    cli.run(main)
