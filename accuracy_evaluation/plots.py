"""The plots of the evaluations, drawn to files without a window."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from accuracy_evaluation.widerface.ground_truth import SUBSETS
from accuracy_evaluation.widerface.report import Report
from lffd.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FORMATS = (".png", ".svg", ".pdf")


def check_plot_path(path: str | os.PathLike[str]) -> None:
    """Refuse a plot file in a format that is not offered; commands call this before their long work.

    Raises:
        UsageError: naming the formats.
    """
    suffix = Path(path).suffix
    if suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: cannot plot to {suffix or 'a file without an ending'}; use {', '.join(FORMATS)}")


def plot_precision_recall(report: Report, title: str, path: str | os.PathLike[str]) -> None:
    """Draw the precision–recall curves of the three subsets into one picture.

    Args:
        report: from `widerface_report.build_report`.
        title: usually the detector's name.
        path: PNG, SVG or PDF by its ending.
    """
    figure, axes = _figure()
    for subset, found in zip(SUBSETS, report.curves, strict=True):
        if np.isfinite(found.average_precision):
            reached = np.flatnonzero(found.recall > 0)
            label = f"{subset}: AP {found.average_precision:.3f}, {found.faces:,} faces"
            axes.plot(found.recall[reached], found.precision[reached], label=label, linewidth=1.8)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.set_title(f"{title}\n{report.scope}", fontsize=9, wrap=True)
    if axes.lines:
        axes.legend(loc="lower left")
    _save(figure, path)


def plot_roc(
    curves: Mapping[str, NDArray[np.float64]],
    title: str,
    kind: str,
    path: str | os.PathLike[str],
    false_positives_shown: int = 2000,
) -> None:
    """Draw FDDB ROC curves into one picture.

    Args:
        curves: by label, `(N, 2)` false positives and true-positive rate.
        title: usually the detector's name.
        kind: `discrete` or `continuous`, for the axis.
        path: PNG, SVG or PDF by its ending.
        false_positives_shown: right end of the axis.
    """
    figure, axes = _figure()
    for label, points in curves.items():
        style = {"color": "black", "linewidth": 2.0} if label == "all folds" else {"linewidth": 0.9, "alpha": 0.8}
        axes.plot(*points.T, label=label, **style)
    axes.set(xlim=(0, false_positives_shown), ylim=(0, 1), xlabel="false positives")
    axes.set_ylabel(f"true-positive rate ({kind})")
    axes.set_title(title, fontsize=9, wrap=True)
    axes.legend(loc="lower right", fontsize=8)
    _save(figure, path)


def _figure() -> tuple[Figure, Axes]:
    """Return an empty figure with one set of axes and a grid."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 5.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(color="0.9")
    return figure, axes


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure in the format that the file's ending names."""
    check_plot_path(path)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target)
