"""Measure how long scoring takes: average precision of a made-up detector on the full WIDER FACE validation set."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from accuracy_evaluation.output_files import write_json
from accuracy_evaluation.widerface.ground_truth import ImageTruth, load_ground_truth
from accuracy_evaluation.widerface.results import write_result
from accuracy_evaluation.widerface_ap import score_folder
from detection.detections import Detections
from lffd import cli
from lffd.files import check_output


@dataclass(frozen=True)
class Options:
    """What to measure with."""

    ground_truth_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="GROUND_TRUTH_DIR")]
    """Folder of the official WIDER FACE .mat files."""
    detections: int = 750
    """Detections per image."""
    json: Path | None = None
    """Write the measurement to this file."""


def made_up_detections(image: ImageTruth, count: int, generator: np.random.Generator) -> Detections:
    """Return `count` detections: the image's faces, moved a little, then random boxes with lower scores."""
    faces = image.boxes[:count]
    corners = np.concatenate([faces[:, :2], faces[:, :2] + faces[:, 2:]], axis=1)
    found = corners + generator.normal(0, 0.1, corners.shape) * np.tile(faces[:, 2:], 2)
    corner = generator.uniform(0, 1000, (count - len(faces), 2))
    others = np.concatenate([corner, corner + generator.uniform(8, 200, corner.shape)], axis=1)
    scores = np.concatenate([generator.uniform(0.3, 1, len(faces)), generator.uniform(0.02, 0.6, len(others))])
    order = np.argsort(-scores)
    return Detections(np.concatenate([found, others])[order].astype(np.float32), scores[order].astype(np.float32))


def time_scoring(ground_truth_dir: Path, count: int) -> dict[str, float]:
    """Return wall-clock and processor seconds of scoring a full set of result files with `count` boxes per image."""
    generator = np.random.default_rng(0)
    images = load_ground_truth(ground_truth_dir)
    with tempfile.TemporaryDirectory() as folder:
        for image in images:
            write_result(folder, image, made_up_detections(image, count, generator))
        wall, processor = time.perf_counter(), time.process_time()
        score_folder(Path(folder), ground_truth_dir)
        seconds = {"wall_seconds": time.perf_counter() - wall, "processor_seconds": time.process_time() - processor}
    return {"images": len(images), "detections_per_image": count, **seconds}


def main(options: Options) -> None:
    """Time the official average precision on a full set of made-up WIDER FACE result files, reading included."""
    check_output(options.json, marks=('"wall_seconds":',))
    figures = time_scoring(options.ground_truth_dir, options.detections)
    what = f"{figures['images']:,} result files with {figures['detections_per_image']:,} boxes each"
    print(f"{what}: scored in {figures['wall_seconds']:.1f} s ({figures['processor_seconds']:.1f} s of processor time)")
    write_json(options.json, figures)


if __name__ == "__main__":
    cli.run(main)
