"""Run a detector over the FDDB images: result files, discrete and continuous ROC, plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from accuracy_evaluation.fddb.files import FddbImage, format_result, read_annotations, read_results
from accuracy_evaluation.fddb.report import build_report, plot, to_json, to_text
from accuracy_evaluation.fddb_roc import sizes_of_images
from accuracy_evaluation.output_files import refuse_other_results, start_run, write_json
from detection.detections import ImageDetector
from detection.load import DetectorOptions, ModelFacts, model_facts
from lffd import cli
from lffd.errors import LffdError
from lffd.files import write_atomic
from lffd.images.files import load_ahead

RESULTS = "results.txt"


@dataclass(frozen=True, kw_only=True)
class Options(DetectorOptions):
    """What to evaluate, on what, and where to write."""

    images: Path
    """Folder of the images, with 2002/08/11/big/img_591.jpg and so on below it."""
    annotations: Path
    """Folder of the official FDDB-fold-*-ellipseList.txt."""
    output_dir: Path
    """Result files (fold-01-out.txt ..., results.txt), report.json and the plots go here."""
    json: Path | None = None
    """Write the curves to this file too."""
    ellipses: bool = False
    """Write each box as the upright ellipse that fits into it."""
    overwrite: bool = False
    """Replace results in the output folder instead of going on from them."""


def fold_path(folder: Path, fold: int) -> Path:
    """Return the result file of one fold."""
    return folder / f"fold-{fold:02d}-out.txt"


def is_done(path: Path, images: Sequence[FddbImage]) -> bool:
    """Say whether a fold's result file is valid and complete."""
    try:
        read_results(path, images)
    except LffdError:
        return False
    return True


def write_fold(detector: ImageDetector, images: Sequence[FddbImage], path: Path, options: Options) -> None:
    """Detect on the images of one fold and write its result file."""
    pixels = load_ahead([options.images / f"{image.name}.jpg" for image in images])
    progress = tqdm(images, path.stem, unit="image", disable=None)
    parts = [
        format_result(image.name, detector(image_pixels), options.ellipses)
        for image, image_pixels in zip(progress, pixels, strict=True)
    ]
    write_atomic(path, "".join(parts).encode())


def write_results(options: Options, facts: ModelFacts, images: Sequence[FddbImage]) -> Path:
    """Make sure that every fold has its result file, join them, and return the joint file."""
    folder = options.output_dir
    folds: dict[int, list[FddbImage]] = {}
    for image in images:
        folds.setdefault(image.fold, []).append(image)
    run = {**options.record(facts), "ellipses": options.ellipses}
    paths = {fold: fold_path(folder, fold) for fold in folds}
    todo = list(folds)
    if not options.overwrite:
        refuse_other_results(folder, run)
        todo = [fold for fold in folds if not is_done(paths[fold], folds[fold])]
        if len(todo) < len(folds):
            print(f"{len(folds) - len(todo)} of {len(folds)} folds already have results in {folder}")
    if todo:
        detector = options.load()
        start_run(folder, run, [folder / RESULTS, *(paths[fold] for fold in todo)])
        for fold in todo:
            write_fold(detector, folds[fold], paths[fold], options)
    write_atomic(folder / RESULTS, b"".join(path.read_bytes() for path in paths.values()))
    return folder / RESULTS


def main(options: Options) -> None:
    """Evaluate a detector on FDDB.

    Writes result files in the official layout (going on with the fold where an earlier run stopped), then the discrete
    and the continuous ROC, per fold and together.
    """
    images = read_annotations(options.annotations)
    sizes = sizes_of_images(images, options.images)
    facts = model_facts(options.model)
    results = read_results(write_results(options, facts, images), images)
    report = build_report(images, results, sizes)
    print(to_text(report))
    figures = {"model": facts.spec, "sha256": facts.sha256, **to_json(report)}
    for path in filter(None, (options.output_dir / "report.json", options.json)):
        write_json(path, figures, indent=None)
    plot(report, facts.spec, options.output_dir)


if __name__ == "__main__":
    cli.run(main)
