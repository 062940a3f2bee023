"""The PNG report of a pack: plots above, a contact sheet with boxes below."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data_provider_farm.survey import Survey
from lffd.images.encoded import decode, shrink
from lffd.records import Record, RecordSource

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Pixels = NDArray[np.uint8]

COLUMNS, ROWS, TILE = 6, 4, 320
OBJECT_COLOR, IGNORED_COLOR = (70, 220, 60), (0, 150, 255)
INK, SOFT, ACCENT, UNSEEN = "#22303c", "#8795a1", "#2a7fb8", "#c0392b"
BRANCH_COLORS = ("#d6eaf8", "#d5f5e3", "#fcf3cf", "#fae5d3", "#f5d9e8", "#e3dcf5", "#dce9e6", "#eee6d3")


def pick_tiles(found: Survey, seed: int) -> list[int]:
    """Return records for the contact sheet: the most crowded, suspicious ones, and a random rest, in pack order."""
    total = min(COLUMNS * ROWS, found.images)
    crowded = np.argsort(-np.asarray(found.boxes_per_image, np.int64), kind="stable")[: total // 8].tolist()
    chosen = dict.fromkeys(crowded)
    chosen.update(dict.fromkeys([suspicion.record for suspicion in found.suspicions][: total // 8]))
    rest = np.random.default_rng(seed).permutation(found.images).tolist()
    chosen.update(dict.fromkeys(rest))
    return sorted(list(chosen)[:total])


def draw_tile(record: Record) -> Pixels:
    """Return a record's image fitted into a square tile, `(TILE, TILE, 3)` BGR, with its boxes."""
    import cv2

    factor = TILE / max(record.width, record.height)
    size = max(1, round(record.width * factor)), max(1, round(record.height * factor))
    pixels = decode(record.image, record.name, at_least=size)
    if factor < 1:
        pixels = shrink(pixels, *size)
    else:
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    for box, ignored in zip(record.boxes * factor, record.ignored, strict=True):
        x0, y0, x1, y1 = np.rint(box).astype(int).tolist()
        cv2.rectangle(pixels, (x0, y0), (max(x0, x1 - 1), max(y0, y1 - 1)), IGNORED_COLOR if ignored else OBJECT_COLOR)
    tile = np.full((TILE, TILE, 3), 246, np.uint8)
    top, left = (TILE - size[1]) // 2, (TILE - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = pixels
    return tile


def contact_sheet(records: Sequence[Record]) -> Pixels:
    """Return up to 24 records as tiles in one picture, RGB."""
    tiles = [draw_tile(record) for record in records]
    columns = min(COLUMNS, max(1, len(tiles)))
    tiles += [np.full((TILE, TILE, 3), 255, np.uint8)] * (-len(tiles) % columns)
    padded = [np.pad(tile, ((3, 3), (3, 3), (0, 0)), constant_values=255) for tile in tiles]
    rows = [np.concatenate(padded[start : start + columns], 1) for start in range(0, len(padded), columns)]
    return np.ascontiguousarray(np.concatenate(rows)[:, :, ::-1])


def write_report(
    path: Path, source: RecordSource, found: Survey, summary: dict[str, Any], *, title: str, network: str
) -> None:
    """Write the report of a pack as a PNG.

    Args:
        path: of the PNG.
        source: the pack.
        found: its survey.
        summary: what `summarize` made of the survey.
        title: first line of the report.
        network: name of the network whose branches are shown.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sheet = contact_sheet([source[index] for index in pick_tiles(found, seed=0)])
    width = 16.0
    sheet_height = (width - 0.8) * sheet.shape[0] / sheet.shape[1]
    height = 6.0 + sheet_height
    figure = Figure(figsize=(width, height), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    _draw_header(figure, title, summary, height)
    bottom, share = (sheet_height + 1.05) / height, 3.3 / height
    _draw_sides(figure.add_axes((0.05, bottom, 0.4, share)), found, summary, network)
    _draw_branches(figure.add_axes((0.505, bottom, 0.15, share)), summary)
    _draw_counts(figure.add_axes((0.7, bottom, 0.12, share)), found)
    _draw_sizes(figure.add_axes((0.875, bottom, 0.11, share)), found)
    axes = figure.add_axes((0.025, 0.1 / height, 0.95, sheet_height / height))
    axes.imshow(sheet)
    axes.set_axis_off()
    axes.set_title("green: objects    orange: ignored", loc="left", fontsize=10, color=SOFT)
    temporary = path.with_name(f".{path.name}.tmp")
    figure.savefig(temporary, format="png")
    os.replace(temporary, path)


def _draw_header(figure: Figure, title: str, summary: dict[str, Any], height: float) -> None:
    """Write the title and the numbers that matter most."""
    figure.text(0.025, 1 - 0.45 / height, title, fontsize=18, color=INK, weight="bold")
    objects = summary["boxes"] - summary["ignored_boxes"]
    facts = [
        f"{summary['images']:,} images",
        f"{objects:,} objects",
        f"{summary['ignored_boxes']:,} ignored boxes",
        f"{summary['backgrounds']:,} backgrounds",
        f"{sum(summary['suspicious'].values()):,} suspicious boxes",
        f"{len(summary['duplicate_groups']):,} duplicate images",
    ]
    if summary["synthetic_images"]:
        facts.append(f"{summary['synthetic_images']:,} SYNTHETIC pictures")
    figure.text(0.025, 1 - 0.85 / height, "    ".join(facts), fontsize=12.5, color=ACCENT)
    leaks = {path: len(pairs) for path, pairs in summary["shared_images"].items() if pairs}
    if leaks:
        text = ", ".join(f"{count:,} images are also in {path}" for path, count in leaks.items())
        figure.text(0.025, 1 - 1.15 / height, text, fontsize=12, color=UNSEEN, weight="bold")


def _style(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.tick_params(labelsize=9, colors=SOFT)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(SOFT)


def _draw_sides(axes: Axes, found: Survey, summary: dict[str, Any], network: str) -> None:
    """Draw the histogram of longer sides over the branches' ranges."""
    from matplotlib.patches import Patch
    from matplotlib.ticker import FuncFormatter, NullFormatter

    used, ignored = np.asarray(found.sides), np.asarray(found.ignored_sides)
    ranges = [branch["object_range"] for branch in summary["branches"]]
    present = np.concatenate((used, ignored[ignored > 0]))
    low = min([present.min(initial=np.inf), ranges[0][0]]) * 0.9
    high = max([present.max(initial=0), ranges[-1][1]]) * 1.1
    edges = _side_edges(max(1, int(low)), high)
    for index, (start, end) in enumerate(ranges):
        axes.axvspan(start, end, color=BRANCH_COLORS[index % len(BRANCH_COLORS)], zorder=0)
    stacked = {"objects": (used, ACCENT), "ignored": (np.maximum(ignored, edges[0]), "#f0a04b")}
    axes.hist([sides for sides, _ in stacked.values()], edges, stacked=True, color=[c for _, c in stacked.values()])
    axes.set_xscale("log")
    axes.set_xlim(edges[0], edges[-1])
    ticks = sorted({round(value, 2) for pair in ranges for value in pair} | {5.0} | {1000.0})
    axes.set_xticks([tick for tick in ticks if edges[0] <= tick <= edges[-1]])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    _style(axes, f"longer side of boxes in px; bands: branches of {network}")
    handles = [Patch(color=color, label=label) for label, (_, color) in stacked.items()]
    axes.legend(handles=handles, fontsize=9, frameon=False, loc="upper right", labelcolor=INK)


def _side_edges(low: int, high: float) -> list[float]:
    """Return edges between bars that grow with the side by whole pixels.

    Most annotations are whole pixels: bars that end between them and never get narrower show no false gaps.
    """
    edges, step = [low], 1
    while edges[-1] < high:
        step = max(step, round(0.08 * edges[-1]))
        edges.append(edges[-1] + step)
    return [edge - 0.5 for edge in edges]


def _draw_branches(axes: Axes, summary: dict[str, Any]) -> None:
    """Draw the share of the objects that each branch sees at the packed size, and that none does."""
    unseen = summary["unseen"]
    rows = [(f"{b['object_range'][0]:g}–{b['object_range'][1]:g}", b["objects"], ACCENT) for b in summary["branches"]]
    rows = [("too small", unseen["below"], UNSEEN), *rows, ("too large", unseen["above"], UNSEEN)]
    if unseen["between"]:
        rows.append(("in a gap", unseen["between"], UNSEEN))
    total = max(1, sum(count for _, count, _ in rows))
    shares = [100 * count / total for _, count, _ in rows]
    axes.barh(range(len(rows)), shares, color=[color for *_, color in rows], height=0.7)
    for place, share in enumerate(shares):
        axes.text(share + 0.02 * max(shares), place, f"{share:.1f} %", va="center", fontsize=9, color=INK)
    axes.set_yticks(range(len(rows)), [label for label, *_ in rows])
    axes.set_xlim(0, 1.25 * max(*shares, 1))
    axes.set_xticks([])
    axes.invert_yaxis()
    _style(axes, f"objects by branch ({100 * unseen['share']:.1f} % unseen)")
    axes.spines["bottom"].set_visible(False)


def _draw_counts(axes: Axes, found: Survey) -> None:
    """Draw the histogram of objects per image."""
    labels = ["0", "1", "2–3", "4–7", "8–15", "16–31", "32–63", "64 +"]
    counts = np.asarray(found.boxes_per_image, np.int64)
    bins = np.where(counts == 0, 0, np.minimum(np.log2(np.maximum(counts, 1)).astype(int) + 1, len(labels) - 1))
    axes.bar(range(len(labels)), np.bincount(bins, minlength=len(labels)), color=ACCENT, width=0.75)
    axes.set_xticks(range(len(labels)), labels, rotation=60)
    _style(axes, "images by number of objects")


def _draw_sizes(axes: Axes, found: Survey) -> None:
    """Draw image widths against heights."""
    axes.scatter(found.widths, found.heights, s=6, alpha=0.25, color=ACCENT, linewidths=0)
    limit = 1.05 * max(max(found.widths, default=1), max(found.heights, default=1))
    axes.set_xlim(0, limit)
    axes.set_ylim(0, limit)
    axes.set_xlabel("width", fontsize=9, color=SOFT)
    axes.set_ylabel("height", fontsize=9, color=SOFT)
    _style(axes, "image sizes, px")
