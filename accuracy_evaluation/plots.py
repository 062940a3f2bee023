"""The plots of the evaluations, drawn to files without a window."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from lffd.errors import UsageError
from lffd.figures import FIGURE_MARKS, write_figure
from lffd.files import check_output

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg", ".pdf")

ALL_TOGETHER = "all folds"
"""The curve of this name is drawn over the others."""


def check_plot_path(path: str | os.PathLike[str]) -> None:
    """Refuse a plot file in another format, or one that is no plot of ours; commands call this before their long work.

    Raises:
        UsageError: naming the formats, or the file.
    """
    suffix = Path(path).suffix
    if suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: cannot plot to {suffix or 'a file without an ending'}; use {', '.join(FORMATS)}")
    check_output(Path(path), marks=FIGURE_MARKS)


@contextmanager
def plotting(path: str | os.PathLike[str], size: tuple[float, float]) -> Iterator[Axes]:
    """Give a figure's empty axes, and write the figure to `path` (PNG, SVG or PDF by its ending) at the end."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    check_plot_path(path)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(color="0.9")
    yield axes
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_figure(figure, path)


def plot_curves(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    title: str,
    names: tuple[str, str],
    limits: tuple[float, float],
    path: str | os.PathLike[str],
) -> None:
    """Draw curves, x and y by label, into one picture; `names` and upper `limits` are those of the axes."""
    with plotting(path, (6.4, 5.2)) as axes:
        for label, (x, y) in curves.items():
            style = {"color": "black", "linewidth": 2.0} if label == ALL_TOGETHER else {"linewidth": 0.9}
            axes.plot(x, y, label=label, **(style if ALL_TOGETHER in curves else {"linewidth": 1.8}))
        axes.set(xlim=(0, limits[0]), ylim=(0, limits[1]), xlabel=names[0], ylabel=names[1])
        axes.set_title(title, fontsize=9, wrap=True)
        if axes.lines:
            axes.legend(loc="best", fontsize=8)
