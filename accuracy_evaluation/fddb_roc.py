"""Compute the discrete and the continuous FDDB ROC of a result file, from any detector; the images are not needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from accuracy_evaluation.fddb.files import FddbImage, read_annotations, read_image_sizes, read_results
from accuracy_evaluation.fddb.report import build_report, plot, plot_file, to_json, to_text
from accuracy_evaluation.output_files import write_json
from accuracy_evaluation.plots import check_plot_path
from lffd import cli
from lffd.errors import UsageError
from lffd.files import check_output
from lffd.images.files import read_size


@dataclass(frozen=True)
class Options:
    """What to score, against what."""

    result_file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RESULT_FILE")]
    """Per image: its name, the number of detections, then `x y width height score` or `major minor angle x y score`."""
    annotation_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="ANNOTATION_DIR")]
    """Folder of the official FDDB-fold-*-ellipseList.txt."""
    image_sizes: Path | None = None
    """File with lines `name width height`: regions are cut off at the images' borders, as the official program does."""
    images: Path | None = None
    """Folder of the images (2002/08/11/big/img_591.jpg below it): their sizes are read instead."""
    missing_as_empty: bool = False
    """Take annotated images that the result file does not list as images without detections."""
    json: Path | None = None
    """Write the curves to this file."""
    plot_dir: Path | None = None
    """Draw roc_discrete.png and roc_continuous.png into this folder."""


def sizes_of_images(images: list[FddbImage], folder: Path) -> dict[str, tuple[int, int]]:
    """Return width and height of each image by name, from the image files' headers; refuse missing images."""
    paths = {image.name: folder / f"{image.name}.jpg" for image in images}
    missing = [path for path in paths.values() if not path.is_file()]
    if missing:
        raise UsageError(f"{len(missing):,} of {len(paths):,} images are missing, the first is {missing[0]}")
    return {name: read_size(path, turned=False) for name, path in paths.items()}


def main(options: Options) -> None:
    """Score an FDDB result file: discrete and continuous ROC, per fold and together."""
    if options.image_sizes and options.images:
        raise UsageError("give --image-sizes or --images, not both")
    check_output(options.json, marks=('{"discrete":',))
    if options.plot_dir:
        for kind in ("discrete", "continuous"):
            check_plot_path(plot_file(options.plot_dir, kind))
    images = read_annotations(options.annotation_dir)
    results = read_results(options.result_file, images, options.missing_as_empty)
    sizes = sizes_of_images(images, options.images) if options.images else None
    if options.image_sizes:
        sizes = read_image_sizes(options.image_sizes)
    report = build_report(images, results, sizes)
    print(to_text(report))
    write_json(options.json, to_json(report), indent=None)
    if options.plot_dir:
        plot(report, options.result_file.name, options.plot_dir)


if __name__ == "__main__":
    cli.run(main)
