"""Run a detector over the WIDER FACE validation images: result files, official average precision, plots, tables."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from accuracy_evaluation.output_files import EvaluationOptions, start_run, without_results, write_json
from accuracy_evaluation.widerface import branches, report
from accuracy_evaluation.widerface.ground_truth import ImageTruth, images_present, load_ground_truth
from accuracy_evaluation.widerface.large_faces import precision_over
from accuracy_evaluation.widerface.results import PUBLISHED_FLOOR, read_result, read_results, result_path, write_result
from detection.crew import Crew
from detection.detections import ImageDetector
from detection.load import ModelFacts, load_detector, model_facts
from detection.views import ViewSettings
from lffd import cli
from lffd.engines.runtime import Runtime
from lffd.files import OutputFolder, check_output
from lffd.images.files import read_image


@dataclass(frozen=True, kw_only=True)
class Options(EvaluationOptions):
    """What to evaluate, on what, and where to write."""

    ground_truth: Path
    """Folder of the official files wider_face_val.mat and wider_{easy,medium,hard}_val.mat."""
    published_format: bool = False
    """Write result files as the published scripts did: whole pixels, three decimals, scores over 0.11."""
    input_size: str | None = None
    """Give the network every image at this size, WIDTHxHEIGHT in pixels."""
    fit: Literal["letterbox", "stretch"] = "letterbox"
    """With --input-size: letterbox keeps proportions and puts black beside; stretch fills it."""
    faces_over: tuple[float, ...] = ()
    """Also give average precision over all faces wider and higher than so many pixels, others ignored, as some model
    cards do (64); 0 counts every face."""
    events: bool = False
    """Print the average precision per event too (the report always has it)."""

    @property
    def views(self) -> ViewSettings:
        """How the network sees images."""
        return ViewSettings(input_size=self.input_size, fit=self.fit)

    def make_detector(self, runtime: Runtime) -> ImageDetector:
        """Return the detector, seeing images as it is told; see `load_detector`."""
        return load_detector(self.model, self.selection, runtime, self.views)


def write_results(
    options: Options, facts: ModelFacts, images: Sequence[ImageTruth], every: Sequence[ImageTruth]
) -> None:
    """Make sure that each of `images` has its result file; an overwrite forgets those of `every` image first."""
    folder = options.output_dir
    run = {**options.record(facts), "published_format": options.published_format}
    if options.views != ViewSettings():
        run |= {"input_size": options.input_size, "fit": options.fit}

    def read(image: ImageTruth) -> None:
        rows = read_result(result_path(folder, image))
        if facts.network is not None:
            branches.read_branches(folder, image, len(rows))

    todo = without_results(options, run, images, read, "images")
    if not todo:
        return
    crew = Crew(options.make_detector, options.runtime)
    old = every if options.overwrite else todo
    start_run(folder, run, [path(folder, image) for image in old for path in (result_path, branches.branches_path)])
    found = crew.over(lambda image: (read_image(options.images / f"{image.path}.jpg"), image), todo)
    for image, detections in tqdm(found, crew.first.name, len(todo), unit="image", disable=None):
        if detections.branches is not None:
            branches.write_branches(folder, image, detections.branches)
        write_result(folder, image, detections, options.published_format)


def evaluate(options: Options) -> tuple[dict[str, Any], str]:
    """Evaluate a detector; see `main`. Return the figures as JSON values, as in `report.json`, and as text."""
    if options.published_format:
        floor = max(options.selection.score_threshold, PUBLISHED_FLOOR)
        options = replace(options, selection=replace(options.selection, score_threshold=floor))
    every = load_ground_truth(options.ground_truth)
    images = images_present(every, options.images)
    facts = model_facts(options.model)
    with OutputFolder(options.output_dir):
        write_results(options, facts, images, every)
        return _report(options, facts, images, len(every))


def _report(
    options: Options, facts: ModelFacts, images: list[ImageTruth], images_total: int
) -> tuple[dict[str, Any], str]:
    """Score the result files, and write report and plot."""
    results = read_results(options.output_dir, images)
    found = report.build_report(images, results, images_total)
    figures: dict[str, Any] = {"model": facts.spec, "sha256": facts.sha256, **report.to_json(found)}
    text = report.to_text(found, options.events)
    large = [precision_over(images, found.matches, over) for over in options.faces_over]
    figures["faces_over"] = [{name: report.number(value) for name, value in asdict(row).items()} for row in large]
    text += "".join(
        f"\n\naverage precision over the {row.faces:,} faces of more than {row.over:g}×{row.over:g} px: "
        f"{row.average_precision:.4f}"
        for row in large
    )
    if facts.network is not None:
        pairs = zip(images, results, strict=True)
        finders = [branches.read_branches(options.output_dir, image, len(rows)) for image, rows in pairs]
        recall = branches.recall_by_branch(images, found.matches, finders, facts.network, found.working_score)
        figures["recall_by_branch"] = branches.branches_to_json(recall)
        text += f"\n\n{branches.branches_to_text(recall, found.working_score)}"
    write_json(options.output_dir / "report.json", figures)
    report.plot(found, facts.spec, options.output_dir / "precision_recall.png")
    return figures, text


def main(options: Options) -> None:
    """Evaluate a detector on WIDER FACE with the official protocol.

    Writes result files in the official layout (going on where an earlier run stopped), then average precision on the
    easy, medium and hard subsets, precision-recall curves, and recall by event, face size and branch.
    """
    check_output(options.json, marks=('{"model":',))
    figures, text = evaluate(options)
    print(text)
    write_json(options.json, figures)


if __name__ == "__main__":
    cli.run(main)
