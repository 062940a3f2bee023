"""Speed figures for people and programs: Markdown tables, CSV, a plot."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, fields

from accuracy_evaluation.plots import check_plot_path, plotting
from inference_speed_evaluation.sweep import Row
from lffd.errors import UsageError


def cell(row: Row) -> str:
    """Return a latency as the published tables write it: `12.94ms(77.26FPS)`; `-` where there is none."""
    return "-" if row.total_ms is None else f"{row.total_ms:.2f}ms({row.fps:.2f}FPS)"


def row_name(row: Row) -> str:
    """Return model, engine and precision of a row, with a mark where the weights are random."""
    mark = " (random weights)" if row.weights == "random weights" else ""
    return f"{row.model}{mark} {row.engine} {row.precision}"


def latency_tables(rows: Sequence[Row]) -> str:
    """Return one Markdown table per batch size and number of threads: models in rows, resolutions in columns."""
    blocks = []
    for batch, threads, device in dict.fromkeys((row.batch, row.threads, row.device) for row in rows):
        part = [row for row in rows if (row.batch, row.threads, row.device) == (batch, threads, device)]
        sizes = list(dict.fromkeys(row.resolution for row in part))
        cells = {(row_name(row), row.resolution): cell(row) for row in part}
        where = f"{threads} CPU thread{'s' * (threads > 1)}" if device == "cpu" else device
        lines = [f"Latency from image in memory to boxes, batch {batch}, {where}", ""]
        lines += ["Model | " + " | ".join(size.replace("x", "×") for size in sizes) + " |", "---|" * (len(sizes) + 1)]
        for name in dict.fromkeys(row_name(row) for row in part):
            lines.append(f"{name} | " + " | ".join(cells.get((name, size), "-") for size in sizes) + " |")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def detail_table(rows: Sequence[Row]) -> str:
    """Return a Markdown table with the phases, the ratio to MXNet and its spread, rates and memory of every row."""
    head = "Model | size | batch | threads | forward ms (p95) | decode | suppression | other | ratio to MXNet | "
    head += "GFLOP/s (of peak) | MB |"
    lines = [head, "---|" * 11]
    for row in (row for row in rows if not row.error):
        ratio = _number(row.ratio_to_mxnet, ".3f")
        if row.ratio_low is not None and row.ratio_high is not None:
            ratio += f" ({row.ratio_low:.3f}–{row.ratio_high:.3f})"
        share = f" ({100 * row.peak_share:.0f} %)" if row.peak_share is not None else ""
        values = [row_name(row), row.resolution.replace("x", "×"), str(row.batch), str(row.threads)]
        values.append(f"{_number(row.forward_ms, '.2f')} ({_number(row.forward_p95_ms, '.2f')})")
        values += [_number(value, ".2f") for value in (row.decode_ms, row.suppression_ms, row.other_ms)]
        values += [ratio, _number(row.gflops, ".0f") + share, _number(row.peak_memory_mb, ".0f")]
        lines.append(" | ".join(values) + " |")
    lines += [f"\n{row_name(row)} at {row.resolution}: {row.error}" for row in rows if row.error]
    return "\n".join(lines)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def to_csv(rows: Sequence[Row]) -> str:
    """Return the rows as CSV with a header; missing figures are empty."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return stream.getvalue()


def plot_latency(rows: Sequence[Row], title: str, path: str | os.PathLike[str]) -> None:
    """Draw latency over image size, one line per model, engine, precision, batch and threads, to PNG, SVG or PDF.

    Raises:
        UsageError: for another ending, or when nothing was timed.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    check_plot_path(path)
    if not (timed := [row for row in rows if row.total_ms is not None]):
        raise UsageError("nothing was timed, so there is nothing to plot")
    several = len({(row.batch, row.threads) for row in timed}) > 1
    sizes = {row.resolution: math.prod(int(side) for side in row.resolution.split("x")) for row in timed}
    lines: dict[str, list[tuple[int, float | None]]] = {}
    for row in timed:
        name = row_name(row) + (f", batch {row.batch}, {row.threads} threads" if several else "")
        lines.setdefault(name, []).append((sizes[row.resolution], row.total_ms))
    with plotting(path, (8, 6)) as axes:
        axes.set(xscale="log", yscale="log", xlabel="image size in pixels", title=title)
        axes.set_ylabel("ms from image in memory to boxes")
        for number, (name, points) in enumerate(lines.items()):
            axes.plot(*zip(*sorted(points), strict=True), marker="osD^v<>P*X"[number % 10], label=name)
        axes.set_xticks(list(sizes.values()), [name.replace("x", "×") for name in sizes], rotation=20)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_locator(NullLocator())
        axes.figure.legend(fontsize=8, loc="outside lower center", ncols=2)
