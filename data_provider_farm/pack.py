"""Command line: turn annotated images into one packed file."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

from data_provider_farm.annotations import PROBLEM_KINDS, SourceImage
from data_provider_farm.backgrounds import read_backgrounds
from data_provider_farm.coco import read_coco
from data_provider_farm.pack_job import Job, Summary, problems_path, run_job
from data_provider_farm.prepare import Preparation, prepare
from data_provider_farm.tables import read_csv, read_list
from data_provider_farm.voc import read_voc
from data_provider_farm.widerface import read_widerface
from data_provider_farm.yolo import read_yolo
from lffd import cli
from lffd.errors import DataError, UsageError

Format = Literal["widerface", "voc", "coco", "yolo", "csv", "list"]
RUN_OPTIONS = ("output", "strict", "overwrite", "workers")


@dataclass(frozen=True, kw_only=True)
class Options(Preparation):
    """Options of the command.

    Attributes:
        format: what the annotations are.
        images: folder that the annotations' image names start from.
        annotations: the annotation file, or the folder of them (voc, yolo).
        output: the pack to make, ending in `.rec`; its index gets the same name with `.idx`.
        class_name: the only class to take (voc, coco, yolo, csv); all classes count as one by default.
        voc_first_pixel: what the annotating tool calls the first pixel: 1 is Pascal VOC's own way.
        backgrounds: folders of images without any object, added at the end.
        strict: stop at the first problem of the data instead of listing all of them.
        overwrite: replace an existing pack.
        workers: threads. 0 takes one where JPEGs are only copied, which more threads would slow down, and one per core
            where images are decoded. Give a number for files on a slow network disk.
    """

    format: Format
    output: Path
    images: Path
    annotations: Path
    class_name: str | None = None
    voc_first_pixel: Literal[0, 1] = 1
    backgrounds: tuple[Path, ...] = ()
    strict: bool = False
    overwrite: bool = False
    workers: int = 0


def read_source(options: Options) -> Iterator[SourceImage]:
    """Return the reader of the chosen format, started.

    Raises:
        UsageError: when an option does not go with the format.
    """
    if not options.images.is_dir():
        raise UsageError(f"--images {options.images}: there is no such folder")
    if not options.annotations.exists():
        raise UsageError(f"--annotations {options.annotations}: there is no such file or folder")
    if options.class_name is not None and options.format in ("widerface", "list"):
        raise UsageError(f"--class-name: the format {options.format} has only one class")
    where, choice = (options.images, options.annotations), options.class_name
    match options.format:
        case "widerface":
            return read_widerface(*where)
        case "voc":
            return read_voc(*where, choice, options.voc_first_pixel)
        case "coco":
            return read_coco(*where, choice)
        case "yolo":
            return read_yolo(*where, choice, turned=options.exif == "turned")
        case "csv":
            return read_csv(*where, choice)
        case "list":
            return read_list(*where)


def identify(source: SourceImage) -> bytes:
    """Return bytes that change when a source image or its boxes do."""
    return source.name.encode() + source.boxes.tobytes() + source.ignored.tobytes()


def fingerprint(options: Options) -> str:
    """Return every option that shapes the records, as text."""
    fields = {key: value for key, value in dataclasses.asdict(options).items() if key not in RUN_OPTIONS}
    return json.dumps(fields, sort_keys=True, default=str)


def check_options(options: Options) -> None:
    """Refuse numbers out of range.

    Raises:
        UsageError: naming the option.
    """
    limits = {
        "quality": (1, 100),
        "min_side": (0, float("inf")),
        "crop_background": (0, 1000),
        "crop_side": (16, 4096),
        "workers": (0, 1024),
        "seed": (0, 2**63 - 1),
    } | ({} if options.max_side is None else {"max_side": (16, 65500)})
    for name, (low, high) in limits.items():
        if not low <= getattr(options, name) <= high:
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag} must lie in {low}–{high}, not {getattr(options, name)}")


def pack(options: Options) -> Summary:
    """Make the pack, with a progress bar.

    Returns:
        What is in the pack, and the problems met.

    Raises:
        UsageError: for options that clash.
        DataError: when annotations cannot be parsed, or nothing can be packed.
    """
    check_options(options)
    sources = chain(read_source(options), read_backgrounds(options.backgrounds))
    first = next(sources, None)
    if first is None:
        raise DataError(f"{options.annotations}: lists no image")
    workers = options.workers or (os.cpu_count() or 1 if _decodes(options, first) else 1)
    job = Job(options.output, fingerprint(options), options.overwrite, options.strict, workers)
    settings = Preparation(**{f.name: getattr(options, f.name) for f in dataclasses.fields(Preparation)})
    return show_progress(
        run_job(job, chain([first], sources), partial(prepare, settings=settings), identify), options.output
    )


def _decodes(options: Options, first: SourceImage) -> bool:
    """Return whether images will be decoded, judging their format by the first one."""
    asked = options.max_side is not None or options.verify == "full" or options.crop_background > 0
    return asked or options.exif == "turned" or first.path.suffix.lower() not in (".jpg", ".jpeg")


def show_progress(states: Iterable[Summary], output: Path) -> Summary:
    """Follow a job to its end with a progress bar, and return its last state."""
    from tqdm import tqdm

    summary = Summary()
    with tqdm(desc=output.name, unit=" images", disable=None) as bar:
        for summary in states:
            bar.update(summary.counts.images - bar.n)
    return summary


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
    print(describe(pack(options), options.output))


if __name__ == "__main__":
    cli.run(main)
