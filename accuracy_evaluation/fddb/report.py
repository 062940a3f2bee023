"""What an evaluation on FDDB says: both ROC curves, per fold and together, as figures, text and plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accuracy_evaluation.fddb.files import FddbImage
from accuracy_evaluation.fddb.protocol import Roc, Size, match_images, rate_at, roc
from accuracy_evaluation.plots import ALL_TOGETHER, plot_curves

REPORTED = (100, 200, 500, 1000, 2000)
"""Numbers of false positives at which the text gives the true-positive rate."""

PER_FOLD = 100

CLIPPED_AT_ZERO = (
    "Image sizes unknown: regions are cut off at 0 alone, not at the right and lower border. The rates are slight "
    "under-estimates; --image-sizes or --images makes them exact."
)


@dataclass(frozen=True)
class Report:
    """The curves of all folds together and of each that has faces; `exact`: regions were cut off at image borders."""

    together: Roc
    folds: Mapping[int, Roc]
    images: int
    exact: bool


def build_report(
    images: Sequence[FddbImage], results: Sequence[NDArray[np.float64]], sizes: Mapping[str, Size] | None = None
) -> Report:
    """Evaluate detections; the arguments are those of `protocol.match_images`."""
    steps = match_images(images, results, sizes)
    folds = {fold: roc(steps, fold) for fold, faces in sorted(steps.faces.items()) if faces}
    return Report(roc(steps), folds, len(images), sizes is not None)


def to_json(report: Report) -> dict[str, Any]:
    """Return the report as plain JSON values.

    Keys: `discrete` and `continuous` (lists of `[false_positives, true_positive_rate]`), `faces`, `detections`,
    `images`, `clipped_at_image_border`, `folds` (the same by fold).
    """
    folds = {str(fold): _curves(found) for fold, found in report.folds.items()}
    facts = {"images": report.images, "clipped_at_image_border": report.exact, "folds": folds}
    return {**_curves(report.together), **facts}


def to_text(report: Report) -> str:
    """Return the report for people."""
    together = report.together
    lines = [f"FDDB: {report.images:,} images, {together.faces:,} faces, {together.detections:,} detections"]
    if not report.exact:
        lines.append(CLIPPED_AT_ZERO)
    lines += ["", f"{'false positives':>16}{'discrete':>11}{'continuous':>12}"]
    for count in (*REPORTED, int(together.discrete[-1, 0])):
        if count <= together.discrete[-1, 0]:
            lines.append(f"{count:16,}" + _rates(together, count))
    lines += ["", f"{'fold':>16}{'discrete':>11}{'continuous':>12}   at {PER_FOLD} false positives of its own"]
    lines += [f"{fold:16}" + _rates(found, PER_FOLD) for fold, found in report.folds.items()]
    return "\n".join(lines)


def plot_file(folder: Path, kind: str) -> Path:
    """Return where the plot of `discrete` or `continuous` rates goes."""
    return folder / f"roc_{kind}.png"


def plot(report: Report, title: str, folder: Path) -> None:
    """Draw `roc_discrete.png` and `roc_continuous.png` into a folder."""
    heading = title if report.exact else f"{title}\nimage sizes unknown: regions cut off at 0 alone"
    for kind in ("discrete", "continuous"):
        curves = {f"fold {fold}": getattr(found, kind).T for fold, found in report.folds.items()}
        curves[ALL_TOGETHER] = getattr(report.together, kind).T
        names = ("false positives", f"true-positive rate ({kind})")
        plot_curves(curves, heading, names, (REPORTED[-1], 1), plot_file(folder, kind))


def _curves(found: Roc) -> dict[str, Any]:
    """Return curves as lists; false positives are whole numbers."""
    discrete, continuous = ([[int(x), y] for x, y in curve.tolist()] for curve in (found.discrete, found.continuous))
    counts = {"faces": found.faces, "detections": found.detections}
    return {"discrete": discrete, "continuous": continuous, **counts}


def _rates(found: Roc, false_positives: int) -> str:
    return f"{rate_at(found.discrete, false_positives):11.4f}{rate_at(found.continuous, false_positives):12.4f}"
