"""Matplotlib figures as files that are either whole or absent."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from lffd.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURE_MARKS = ("atplotlib",)
"""Stands in every PNG, SVG and PDF that Matplotlib writes; see `lffd.files.check_output`."""


def write_figure(figure: Figure, path: str | os.PathLike[str], dpi: float | None = None) -> None:
    """Write a figure in the format of the path's ending; without `dpi`, with that of the figure."""
    content = io.BytesIO()
    figure.savefig(content, format=Path(path).suffix[1:].lower(), dpi=dpi or "figure")
    write_atomic(path, content.getvalue())
