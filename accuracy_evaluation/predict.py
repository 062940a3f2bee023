"""Find faces (or whatever a model detects) in images, videos, cameras and streams, and save what was found."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detection.crew import Crew
from detection.detections import ImageDetector
from detection.detector import DEFAULT_MODEL, PREDICTION, Detector
from detection.load import DetectorOptions, load_detector
from detection.prediction.inputs import Source, find_sources
from detection.prediction.label_files import FOLDER, LabelFormat, label_writer
from detection.prediction.pictures import (
    AlignedWriter,
    CropWriter,
    Display,
    PictureWriter,
    StopRequested,
    picture_suffix,
)
from detection.prediction.rendering import Hidden, Marked
from detection.prediction.run import Pace, Run
from detection.prediction.writers import CountWriter, CsvWriter, JsonWriter, PredictionWriter, Render
from detection.selection import Selection
from detection.views import ViewSettings
from lffd import cli
from lffd.engines.runtime import Runtime
from lffd.errors import UsageError
from lffd.files import OutputFolder, check_output

DEFAULT_OUTPUT = Path("predictions")


@dataclass(frozen=True, kw_only=True)
class Options(DetectorOptions):
    """What to look at, what to look for, and what to write."""

    paths: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATH...")] = ()
    """Images, videos, folders, patterns such as 'photos/**/*.jpg', camera:0, addresses of streams (rtsp://, http://,
    rtmp://), or - for standard input: a picture, or a list of these, one per line."""
    model: str = DEFAULT_MODEL
    """Shipped name, model directory, VERSION=FILE (.params, .onnx, .pth), or peer:KIND=FILE (.onnx, .xml)."""
    selection: Annotated[Selection, tyro.conf.arg(name="")] = PREDICTION
    output_dir: Path | None = None
    """Annotated pictures and videos, and crops, go here. Without any output option: ./predictions."""
    json: Path | None = None
    """Write a list of {"image", "detections": [{"box": [x0, y0, x1, y1], "score"}]}, boxes in pixels, to this file;
    with "landmarks" (five of [x, y]) where the model finds them."""
    csv: Path | None = None
    """Write one line per detection to this file, and one with the image's name alone where nothing was found."""
    save_txt: LabelFormat | None = None
    """Write what was found as label files for yolo, voc or coco tools into OUTPUT_DIR/labels; images only."""
    save_crops: bool = False
    """Cut every detection out into OUTPUT_DIR/crops."""
    save_aligned: Path | None = None
    """Write every face upright, 112x112 pixels, into this folder, as face recognition takes it; for models with five
    points."""
    draw: bool = True
    """Write annotated pictures and videos into OUTPUT_DIR."""
    draw_scores: bool = True
    """Write name and score beside boxes, where there is room."""
    label_all: bool = False
    """Write them beside small boxes too, and where there is no room."""
    blur: bool = False
    """Blur what was found, for good, instead of marking it: faces cannot be recognised in the written pictures."""
    pixelate: bool = False
    """The same with a few large squares."""
    counts: bool = True
    """Print how many were found in each image."""
    show: bool = False
    """Show the results in a window; Escape or q ends."""
    views: Annotated[ViewSettings, tyro.conf.arg(name="")] = field(default_factory=ViewSettings)
    pace: Annotated[Pace, tyro.conf.arg(name="")] = field(default_factory=Pace)
    trusted: bool = False
    """Open images even if their size is out of proportion to their file."""

    def make_detector(self, runtime: Runtime) -> ImageDetector:
        """Return the detector, running as it is told; see `load_detector`."""
        return load_detector(self.model, self.selection, runtime, self.views)

    @property
    def folder(self) -> Path | None:
        """Where pictures go; None when only tables or a window are wanted."""
        wanted = self.save_crops or self.save_txt or self.blur or self.pixelate
        if self.output_dir is None and (wanted or not (self.json or self.csv or self.show or self.save_aligned)):
            return DEFAULT_OUTPUT
        return self.output_dir

    def render(self, label: str) -> Render:
        """Return what makes the pictures that are written or shown."""
        if self.blur or self.pixelate:
            return Hidden("blur" if self.blur else "pixelate")
        return Marked(self.draw_scores, label, self.label_all)


def check_options(options: Options, sources: Sequence[Source]) -> None:
    """Refuse options that do not go together, or not with the sources.

    Raises:
        UsageError: naming the options.
    """
    if options.blur and options.pixelate:
        raise UsageError("give --blur or --pixelate, not both")
    shown = "--save-crops" if options.save_crops else "--save-aligned" if options.save_aligned else ""
    if (options.blur or options.pixelate) and (shown or not options.draw):
        other = f"{shown} would show what --blur and --pixelate hide" if shown else "--no-draw"
        raise UsageError(f"--blur and --pixelate write pictures without faces: {other} does not go with them")
    if options.save_txt:
        moving = next((source.name for source in sources if source.kind != "image"), None)
        if moving is not None:
            raise UsageError(f"--save-txt writes labels of images; {moving} has frames. --json or --csv take these")
        names = Counter(source.output.with_suffix("") for source in sources)
        twice = next((name for name, count in names.items() if count > 1), None)
        if twice is not None:
            raise UsageError(f"--save-txt: two images are called {twice}, so their label files would be one")


def check_outputs(options: Options, sources: Sequence[Source]) -> None:
    """Refuse to write over an input, or over a file that this command did not make.

    Raises:
        UsageError: naming the file.
    """
    inputs = [source.name for source in sources if source.kind in ("image", "video")]
    check_output(options.json, inputs, ('[{"image":', "[]"))
    check_output(options.csv, inputs, (CsvWriter.HEADER,))
    if options.json and options.csv and options.json.resolve() == options.csv.resolve():
        raise UsageError(f"--json and --csv name one file, {options.json}")
    if options.save_aligned and options.folder and options.save_aligned.resolve() == options.folder.resolve():
        raise UsageError(f"--save-aligned needs a folder of its own, not {options.folder}")


def check_pictures(folder: OutputFolder, sources: Sequence[Source]) -> None:
    """Refuse a folder in which annotated pictures would get the names of files that are there: see `check_outputs`."""
    for source in sources:
        path = folder.folder / source.output.with_suffix(picture_suffix(source))
        same = os.path.exists(source.name) and path.exists() and os.path.samefile(source.name, path)
        if same or not folder.may_write(path):
            what = "is an input" if same else "was not made by this command"
            raise UsageError(f"{path} {what}, so it is not replaced: choose another --output-dir")


def open_writers(
    options: Options, folder: OutputFolder | None, detector: ImageDetector, bar: Any, stack: ExitStack
) -> list[PredictionWriter]:
    """Return what the options ask for of what `detector` finds; the stack closes it, also after an error."""
    label = detector.object_name if isinstance(detector, Detector) else "face"
    writers: list[PredictionWriter] = []

    def add(writer: PredictionWriter) -> None:
        writers.append(writer)
        stack.callback(writer.close)

    if options.show:
        add(Display(options.render(label)))
    if options.counts:
        add(CountWriter(partial(bar.write, file=sys.stdout), label))
    if options.json:
        add(JsonWriter(options.json))
    if options.csv:
        add(CsvWriter(options.csv, options.pace.track, detector.has_landmarks))
    if folder and options.draw:
        add(PictureWriter(folder, options.render(label), partial(bar.write, file=sys.stderr)))
    if folder and options.save_crops:
        add(CropWriter(folder))
    if options.save_aligned:
        add(AlignedWriter(stack.enter_context(OutputFolder(options.save_aligned))))
    if folder and options.save_txt:
        add(label_writer(options.save_txt, folder, label))
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
    targets["labels"] = options.folder / FOLDER if options.folder and options.save_txt else None
    targets["aligned faces"] = options.save_aligned
    for what, target in targets.items():
        if target:
            print(f"{what}: {target}")
    if run.problems:
        print(f"{len(run.problems)} failed:", *(f"  {problem}" for problem in run.problems), sep="\n", file=sys.stderr)


def main(options: Options) -> int:
    """Find objects in images, videos, cameras and streams, and save pictures, JSON, CSV, label files or crops.

    Inputs that cannot be read are named at the end; the exit code is then 1, after all others are done.
    """
    from tqdm import tqdm

    sources, problems = find_sources(options.paths, sys.stdin, options.folder, options.save_aligned)
    if not sources:
        raise UsageError(f"there is nothing to look at: {'; '.join(problems)}")
    check_options(options, sources)
    check_outputs(options, sources)
    code = 0
    with cli.terminable(), ExitStack() as stack:
        folder = stack.enter_context(OutputFolder(options.folder)) if options.folder else None
        if folder and options.draw:
            check_pictures(folder, sources)
        few = len(sources) == 1 and sources[0].kind == "image"
        crew = Crew(options.make_detector, options.runtime, few or any(s.kind in ("camera", "stream") for s in sources))
        if options.save_aligned and not crew.first.has_landmarks:
            raise UsageError(f"--save-aligned: {options.model} finds no points; peers such as scrfd and yunet do")
        moving = any(source.kind != "image" for source in sources)
        started = time.perf_counter()
        bar = stack.enter_context(tqdm(total=None if moving else len(sources), unit="image", disable=None))
        writers = open_writers(options, folder, crew.first, bar, stack)
        run = Run(crew, options.pace, writers, bar, options.trusted, problems)
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
