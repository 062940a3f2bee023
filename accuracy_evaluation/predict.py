"""Find faces (or whatever a model detects) in images, videos and cameras, and save what was found."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from detection.detector import DEFAULT_MODEL, PREDICTION, Detector
from detection.load import DetectorOptions, load_detector
from detection.prediction.inputs import Source, find_sources
from detection.prediction.run import Pace, Run
from detection.prediction.writers import (
    CropWriter,
    CsvWriter,
    Display,
    JsonWriter,
    PictureWriter,
    PredictionWriter,
    StopRequested,
    picture_suffix,
)
from detection.selection import Selection
from detection.views import ViewSettings
from lffd import cli
from lffd.errors import UsageError
from lffd.files import OutputFolder, check_output

DEFAULT_OUTPUT = Path("predictions")


@dataclass(frozen=True, kw_only=True)
class Options(DetectorOptions):
    """What to look at, what to look for, and what to write."""

    paths: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATH...")] = ()
    """Images, videos, folders, patterns such as 'photos/**/*.jpg', camera:0, or - for a list on standard input."""
    model: str = DEFAULT_MODEL
    """Shipped name, model directory, VERSION=FILE (.params, .onnx, .pth), or peer:KIND=FILE (.onnx, .xml)."""
    selection: Annotated[Selection, tyro.conf.arg(name="")] = PREDICTION
    output_dir: Path | None = None
    """Annotated pictures and videos, and crops, go here. Without any output option: ./predictions."""
    json: Path | None = None
    """Write a list of {"image", "detections": [{"box": [x0, y0, x1, y1], "score"}]}, boxes in pixels, to this file."""
    csv: Path | None = None
    """Write one line per detection to this file."""
    save_crops: bool = False
    """Cut every detection out into OUTPUT_DIR/crops."""
    draw: bool = True
    """Write annotated pictures and videos into OUTPUT_DIR."""
    draw_scores: bool = True
    """Write the scores into annotated pictures."""
    show: bool = False
    """Show the results in a window; Escape or q ends."""
    views: Annotated[ViewSettings, tyro.conf.arg(name="")] = field(default_factory=ViewSettings)
    pace: Annotated[Pace, tyro.conf.arg(name="")] = field(default_factory=Pace)
    trusted: bool = False
    """Open images even if their size is out of proportion to their file."""

    @property
    def folder(self) -> Path | None:
        """Where pictures go; None when only tables or a window are wanted."""
        if self.output_dir is None and (self.save_crops or not (self.json or self.csv or self.show)):
            return DEFAULT_OUTPUT
        return self.output_dir


def check_outputs(options: Options, sources: Sequence[Source]) -> None:
    """Refuse to write over an input, or over a file that this command did not make.

    Raises:
        UsageError: naming the file.
    """
    inputs = [source.name for source in sources if source.kind != "camera"]
    check_output(options.json, inputs, ('[{"image":', "[]"))
    check_output(options.csv, inputs, (CsvWriter.HEADER,))
    if options.json and options.csv and options.json.resolve() == options.csv.resolve():
        raise UsageError(f"--json and --csv name one file, {options.json}")


def check_pictures(folder: OutputFolder, sources: Sequence[Source]) -> None:
    """Refuse a folder in which annotated pictures would get the names of files that are there: see `check_outputs`."""
    for source in sources:
        path = folder.folder / source.output.with_suffix(picture_suffix(source))
        same = os.path.exists(source.name) and path.exists() and os.path.samefile(source.name, path)
        if same or not folder.may_write(path):
            what = "is an input" if same else "was not made by this command"
            raise UsageError(f"{path} {what}, so it is not replaced: choose another --output-dir")


def open_writers(options: Options, folder: OutputFolder | None, label: str, stack: ExitStack) -> list[PredictionWriter]:
    """Return what the options ask for, with `label` written at boxes; the stack closes it, also after an error."""
    writers: list[PredictionWriter] = []

    def add(writer: PredictionWriter) -> None:
        writers.append(writer)
        stack.callback(writer.close)

    if options.show:
        add(Display(options.draw_scores, label))
    if options.json:
        add(JsonWriter(options.json))
    if options.csv:
        add(CsvWriter(options.csv))
    if folder and options.draw:
        add(PictureWriter(folder, options.draw_scores, label))
    if folder and options.save_crops:
        add(CropWriter(folder))
    return writers


def report(options: Options, run: Run, seconds: float) -> None:
    """Print what was done and where it is; failures go to standard error."""
    kinds = (("image", run.images), ("frame", run.frames))
    counts = [f"{count:,} {kind}{'' if count == 1 else 's'}" for kind, count in kinds if count]
    done = run.images + run.frames
    print(f"{' and '.join(counts) or 'no images'}: {run.objects:,} detections in {seconds:.1f} s", end="")
    print(f" ({done / seconds:.1f} per second)" if done > 1 else "")
    targets = {"results": options.json, "table": options.csv, "pictures": options.folder if options.draw else None}
    targets["crops"] = options.folder / "crops" if options.folder and options.save_crops else None
    for what, target in targets.items():
        if target:
            print(f"{what}: {target}")
    if run.problems:
        print(f"{len(run.problems)} failed:", *(f"  {problem}" for problem in run.problems), sep="\n", file=sys.stderr)


def main(options: Options) -> int:
    """Find objects in images, videos and cameras, and save pictures, JSON, CSV or crops.

    Inputs that cannot be read are named at the end; the exit code is then 1, after all others are done.
    """
    from tqdm import tqdm

    sources, problems = find_sources(options.paths, sys.stdin, options.folder)
    if not sources:
        raise UsageError(f"there is nothing to look at: {'; '.join(problems)}")
    check_outputs(options, sources)
    code = 0
    with cli.terminable(), ExitStack() as stack:
        folder = stack.enter_context(OutputFolder(options.folder)) if options.folder else None
        if folder and options.draw:
            check_pictures(folder, sources)
        detector = load_detector(options.model, options.selection, options.runtime, options.views)
        label = detector.object_name if isinstance(detector, Detector) else "face"
        moving = any(source.kind != "image" for source in sources)
        started = time.perf_counter()
        writers = open_writers(options, folder, label, stack)
        bar = stack.enter_context(tqdm(total=None if moving else len(sources), unit="image", disable=None))
        run = Run(detector, options.pace, writers, bar, options.trusted, problems)
        try:
            run.over(sources)
        except StopRequested:
            pass
        except KeyboardInterrupt as reason:
            code = 143 if isinstance(reason, cli.Terminated) else 130
    report(options, run, time.perf_counter() - started)
    return code or (1 if run.problems else 0)


if __name__ == "__main__":
    cli.run(main)
