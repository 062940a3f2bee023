"""Run a detector over a pack with points and compute the normalised mean error of the points that it finds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from accuracy_evaluation.evaluation_on_pack import load_record
from accuracy_evaluation.output_files import write_json
from data_provider_farm.pack_format.packed_file import PackReader
from detection.crew import Crew
from detection.load import DetectorOptions, model_facts
from lffd import cli
from lffd.boxes import longer_sides
from lffd.errors import DataError, UsageError
from lffd.files import check_output
from lffd.points import known
from lffd.records import Record, RecordSource
from metric_farm.landmark_error import CLASSES, FAILED, FaceErrors, LandmarkError, face_errors, join, match, summarise


@dataclass(frozen=True, kw_only=True)
class Options(DetectorOptions):
    """What to evaluate, and on what."""

    pack: Path
    """The pack's .rec file; its .idx lies beside it. Faces that are not ignored and have all five points count."""
    min_side: float = 0.0
    """Faces with a shorter longer side, in pixels, do not count."""
    least_iou: float = 0.5
    """A detection belongs to an annotated face that its box overlaps at least this much (intersection over union)."""
    json: Path | None = None
    """Write the figures to this file."""


def detect_points(crew: Crew, source: RecordSource, options: Options) -> Iterator[FaceErrors]:
    """Yield the errors of each image's faces; every detection belongs to one face at most, also to one without points.

    Raises:
        DataError: when a record is damaged.
    """
    useful = [index for index in range(len(source)) if counted(source[index], options).any()]
    pictures = crew.over(lambda index: load_record(source, index), useful)
    for record, found in tqdm(pictures, crew.first.name, len(useful), unit="image", disable=None):
        assert record.landmarks is not None
        assert found.landmarks is not None
        faces, which = ~record.ignored, counted(record, options)
        owners = match(record.boxes[faces], found.boxes, options.least_iou)[which[faces]]
        yield face_errors(record.boxes[which], record.landmarks[which], found.landmarks, owners)


def counted(record: Record, options: Options) -> NDArray[np.bool_]:
    """Return which boxes of a record `(N,)` are measured."""
    if record.landmarks is None:
        return np.zeros(len(record.boxes), np.bool_)
    large: NDArray[np.bool_] = longer_sides(record.boxes) >= options.min_side
    return ~record.ignored & known(record.landmarks) & large


def by_size(errors: FaceErrors) -> dict[str, LandmarkError]:
    """Return the figures of all faces, and of each size class that has some."""
    classes = [
        (f"{low:g}–{high:g} px" if high < np.inf else f"from {low:g} px", low, high) for low, high in pairwise(CLASSES)
    ]
    parts = {name: summarise(errors, low, high) for name, low, high in classes}
    return {"all": summarise(errors), **{name: part for name, part in parts.items() if part.faces}}


def to_text(figures: dict[str, LandmarkError]) -> str:
    """Return the figures for people."""
    lines = [f"{'longer side':14}{'faces':>8}{'found':>8}{'NME box':>10}{'failed':>9}{'NME eyes':>10}{'of faces':>10}"]
    for name, part in figures.items():
        shares = [f"{value:.4f}" if np.isfinite(value) else "–" for value in (part.nme_box, part.nme_eyes)]
        failed = f"{100 * part.failure_rate:.1f} %" if np.isfinite(part.failure_rate) else "–"
        lines.append(
            f"{name:14}{part.faces:>8,}{part.found:>8,}{shares[0]:>10}{failed:>9}{shares[1]:>10}{part.eyes:>10,}"
        )
    lines.append(
        "NME: mean distance of the points over the box's side √(w·h), or over the eyes' distance where that is"
    )
    lines.append(f"over 10 px; failed: an NME over {FAILED:g} of the box. Both are of the faces that were found.")
    return "\n".join(lines)


def main(options: Options) -> None:
    """Measure how well a detector places the five points of faces, against any pack whose faces have them."""
    check_output(options.json, marks=('{"model":',))
    if not 0 < options.least_iou <= 1 or not options.min_side >= 0:
        raise UsageError("--least-iou must lie above 0 and not above 1, and --min-side must not be negative")
    facts, crew = model_facts(options.model), Crew(options.make_detector, options.runtime)
    if not crew.first.has_landmarks:
        raise UsageError(f"{options.model} finds no points")
    with PackReader(options.pack) as source:
        errors = join(detect_points(crew, source, options))
    if not len(errors.sides):
        raise DataError(f"{options.pack}: no face of at least {options.min_side:g} px has five points")
    figures = by_size(errors)
    print(to_text(figures))
    rows: dict[str, Any] = {
        name: {key: value if np.isfinite(value) else None for key, value in asdict(part).items()}
        for name, part in figures.items()
    }
    measured = {"pack": str(options.pack), "min_side": options.min_side, "least_iou": options.least_iou, "sizes": rows}
    write_json(options.json, {"model": facts.spec, "sha256": facts.sha256, **measured})


if __name__ == "__main__":
    cli.run(main)
