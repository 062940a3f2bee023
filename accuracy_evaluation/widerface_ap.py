"""Compute the official WIDER FACE average precision of a folder of result files, from any detector."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from accuracy_evaluation.output_files import write_json
from accuracy_evaluation.plots import check_plot_path
from accuracy_evaluation.widerface.ground_truth import images_present, load_ground_truth
from accuracy_evaluation.widerface.report import Report, build_report, plot, to_json, to_text
from accuracy_evaluation.widerface.results import read_results
from lffd import cli
from lffd.files import check_output


@dataclass(frozen=True)
class Options:
    """What to score, against what."""

    result_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RESULT_DIR")]
    """Folder of result files in the official layout: EVENT/IMAGE.txt."""
    ground_truth_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="GROUND_TRUTH_DIR")]
    """Folder of the official files wider_face_val.mat and wider_{easy,medium,hard}_val.mat."""
    images_present: Path | None = None
    """Score only the images that lie in this folder as EVENT/IMAGE.jpg, and say so."""
    missing_as_empty: bool = False
    """Take a missing result file as an image without detections, as the official program does."""
    json: Path | None = None
    """Write the figures to this file."""
    plot: Path | None = None
    """Draw the precision-recall curves to this file (PNG, SVG or PDF)."""
    events: bool = False
    """Print the average precision per event too (the JSON always has it)."""


def score_folder(
    result_dir: Path, ground_truth_dir: Path, image_dir: Path | None = None, missing_as_empty: bool = False
) -> Report:
    """Return the report on a folder of result files; the arguments are those of `Options`."""
    every = load_ground_truth(ground_truth_dir)
    images = every if image_dir is None else images_present(every, image_dir)
    return build_report(images, read_results(result_dir, images, missing_as_empty), len(every))


def main(options: Options) -> None:
    """Score WIDER FACE result files with the official protocol.

    Prints average precision on the easy, medium and hard subsets, and recall by face size.
    """
    check_output(options.json, marks=('"recall_by_size":',))
    if options.plot:
        check_plot_path(options.plot)
    folders = (options.result_dir, options.ground_truth_dir, options.images_present)
    report = score_folder(*folders, options.missing_as_empty)
    print(to_text(report, options.events))
    write_json(options.json, to_json(report))
    if options.plot:
        plot(report, options.result_dir.name, options.plot)


if __name__ == "__main__":
    cli.run(main)
