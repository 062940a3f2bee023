"""Run a detector over the FDDB images: result files, discrete and continuous ROC, plots."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from accuracy_evaluation.fddb.files import FddbImage, format_result, read_annotations, read_results
from accuracy_evaluation.fddb.report import build_report, plot, to_json, to_text
from accuracy_evaluation.fddb_roc import sizes_of_images
from accuracy_evaluation.output_files import EvaluationOptions, start_run, without_results, write_json
from detection.crew import Crew
from detection.load import ModelFacts, model_facts
from lffd import cli
from lffd.files import OutputFolder, check_output, write_atomic
from lffd.images.files import read_image


@dataclass(frozen=True, kw_only=True)
class Options(EvaluationOptions):
    """What to evaluate, on what, and where to write."""

    annotations: Path
    """Folder of the official FDDB-fold-*-ellipseList.txt."""
    ellipses: bool = False
    """Write each box as the upright ellipse that fits into it."""


def write_fold(crew: Crew, images: Sequence[FddbImage], path: Path, options: Options) -> None:
    """Detect on the images of one fold and write its result file."""
    found = crew.over(lambda image: (read_image(options.images / f"{image.name}.jpg"), image), images)
    progress = tqdm(found, path.stem, len(images), unit="image", disable=None)
    parts = [format_result(image.name, detections, options.ellipses) for image, detections in progress]
    write_atomic(path, "".join(parts).encode())


def write_results(options: Options, facts: ModelFacts, images: Sequence[FddbImage]) -> Path:
    """Make sure that every fold has its result file, join them, and return the joint file."""
    folds: dict[Path, list[FddbImage]] = {}
    for image in images:
        folds.setdefault(options.output_dir / f"fold-{image.fold:02d}-out.txt", []).append(image)
    run = {**options.record(facts), "ellipses": options.ellipses}
    joint = options.output_dir / "results.txt"
    todo = without_results(options, run, list(folds), lambda path: read_results(path, folds[path]), "folds")
    if todo:
        crew = Crew(options.make_detector, options.runtime)
        start_run(options.output_dir, run, [joint, *todo])
        for path in todo:
            write_fold(crew, folds[path], path, options)
    write_atomic(joint, b"".join(path.read_bytes() for path in folds))
    return joint


def main(options: Options) -> None:
    """Evaluate a detector on FDDB.

    Writes result files in the official layout (going on with the fold where an earlier run stopped), then the discrete
    and the continuous ROC, per fold and together.
    """
    check_output(options.json, marks=('{"model":',))
    images = read_annotations(options.annotations)
    sizes = sizes_of_images(images, options.images)
    facts = model_facts(options.model)
    with OutputFolder(options.output_dir):
        results = read_results(write_results(options, facts, images), images)
        report = build_report(images, results, sizes)
        print(to_text(report))
        figures = {"model": facts.spec, "sha256": facts.sha256, **to_json(report)}
        for path in (options.output_dir / "report.json", options.json):
            write_json(path, figures, indent=None)
        plot(report, facts.spec, options.output_dir)


if __name__ == "__main__":
    cli.run(main)
