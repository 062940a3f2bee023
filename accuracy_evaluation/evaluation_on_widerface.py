"""Run a detector over the WIDER FACE validation images: result files, official average precision, plots, tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from accuracy_evaluation.output_files import refuse_other_results, start_run, write_json
from accuracy_evaluation.plots import plot_precision_recall
from accuracy_evaluation.widerface.branches import (
    branches_path,
    branches_to_json,
    branches_to_text,
    read_branches,
    recall_by_branch,
    write_branches,
)
from accuracy_evaluation.widerface.ground_truth import ImageTruth, images_present, load_ground_truth
from accuracy_evaluation.widerface.report import build_report, to_json, to_text
from accuracy_evaluation.widerface.results import PUBLISHED_FLOOR, read_result, read_results, result_path, write_result
from detection.detections import Detections, ImageDetector
from detection.load import DetectorOptions, ModelFacts, model_facts
from detection.selection import Selection
from lffd import cli
from lffd.errors import DataError
from lffd.images.files import load_ahead


@dataclass(frozen=True, kw_only=True)
class Options(DetectorOptions):
    """What to evaluate, on what, and where to write."""

    images: Path
    """Folder that holds the event folders, such as WIDER_val/images; those that are there are evaluated."""
    ground_truth: Path
    """Folder of the official files wider_face_val.mat and wider_{easy,medium,hard}_val.mat."""
    output_dir: Path
    """Result files (EVENT/IMAGE.txt), report.json and precision_recall.png go here."""
    json: Path | None = None
    """Write the figures to this file too."""
    published_format: bool = False
    """Write result files as the published scripts did: whole pixels, three decimals, scores over 0.11."""
    overwrite: bool = False
    """Replace results in the output folder instead of going on from them."""
    events: bool = False
    """Print the average precision per event too (the report always has it)."""

    @property
    def selection(self) -> Selection:
        """Which candidates become detections; the published format raises the score floor."""
        floor = max(self.score_threshold, PUBLISHED_FLOOR) if self.published_format else self.score_threshold
        return replace(super().selection, score_threshold=floor)


def detect_images(
    detector: ImageDetector, images: Sequence[ImageTruth], options: Options
) -> Iterator[tuple[ImageTruth, Detections]]:
    """Yield the detections of each image, reading the next images while the detector works.

    Raises:
        DataError: for an image that cannot be read.
    """
    paths = [options.images / f"{image.path}.jpg" for image in images]
    progress = tqdm(images, detector.name, unit="image", disable=None)
    for image, pixels in zip(progress, load_ahead(paths), strict=True):
        yield image, detector(pixels)


def is_done(folder: Path, image: ImageTruth, with_branches: bool) -> bool:
    """Say whether an image has a valid result file, and its branch file where there must be one."""
    try:
        rows = read_result(result_path(folder, image))
        if with_branches:
            read_branches(folder, image, len(rows))
    except DataError:
        return False
    return True


def write_results(
    options: Options, facts: ModelFacts, images: Sequence[ImageTruth], every: Sequence[ImageTruth]
) -> None:
    """Make sure that each of `images` has its result file; an overwrite forgets those of `every` image first."""
    folder = options.output_dir
    run = {**options.record(facts), "published_format": options.published_format}
    todo = list(images)
    if not options.overwrite:
        refuse_other_results(folder, run)
        todo = [image for image in images if not is_done(folder, image, facts.network is not None)]
        if len(todo) < len(images):
            print(f"{len(images) - len(todo):,} of {len(images):,} images already have results in {folder}")
    if not todo:
        return
    detector = options.load()
    old = every if options.overwrite else todo
    start_run(folder, run, [path(folder, image) for image in old for path in (result_path, branches_path)])
    for image, detections in detect_images(detector, todo, options):
        if detections.branches is not None:
            write_branches(folder, image, detections.branches)
        write_result(folder, image, detections, options.published_format)


def evaluate(options: Options) -> tuple[dict[str, Any], str]:
    """Evaluate a detector; see `main`.

    Returns:
        The figures as plain JSON values, which are in `output_dir/report.json` too, and the same for people.
    """
    every = load_ground_truth(options.ground_truth)
    images = images_present(every, options.images)
    facts = model_facts(options.model)
    write_results(options, facts, images, every)
    results = read_results(options.output_dir, images)
    report = build_report(images, results, len(every))
    figures: dict[str, Any] = {"model": facts.spec, "sha256": facts.sha256, **to_json(report)}
    text = to_text(report, options.events)
    if facts.network is not None:
        branches = [
            read_branches(options.output_dir, image, len(rows)) for image, rows in zip(images, results, strict=True)
        ]
        recall = recall_by_branch(images, report.matches, branches, facts.network, report.working_score)
        figures["recall_by_branch"] = branches_to_json(recall)
        text += f"\n\n{branches_to_text(recall, report.working_score)}"
    write_json(options.output_dir / "report.json", figures)
    plot_precision_recall(report, facts.spec, options.output_dir / "precision_recall.png")
    return figures, text


def main(options: Options) -> None:
    """Evaluate a detector on WIDER FACE with the official protocol.

    Writes result files in the official layout (going on where an earlier run stopped), then average precision on the
    easy, medium and hard subsets, precision-recall curves, and recall by event, face size and branch.
    """
    figures, text = evaluate(options)
    print(text)
    if options.json is not None:
        write_json(options.json, figures)


if __name__ == "__main__":
    cli.run(main)
