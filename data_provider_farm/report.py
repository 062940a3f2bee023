"""The PNG report of a dataset's pack: plots above, a contact sheet with boxes below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from data_provider_farm.survey import Survey
from lffd.figures import write_figure
from lffd.images.encoded import decode, shrink
from lffd.records import Record, RecordSource

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Pixels = NDArray[np.uint8]

COLUMNS, ROWS, TILE = 6, 4, 320
OBJECT_COLOR, IGNORED_COLOR, POINT_COLOR = (70, 220, 60), (0, 150, 255), (255, 90, 230)
INK, SOFT, ACCENT, ORANGE, UNSEEN = "#22303c", "#8795a1", "#2a7fb8", "#f0a04b", "#c0392b"
BRANCH_COLORS = ("#d6eaf8", "#d5f5e3", "#fcf3cf", "#fae5d3", "#f5d9e8", "#e3dcf5", "#dce9e6", "#eee6d3")
COUNT_LABELS = ("0", "1", "2–3", "4–7", "8–15", "16–31", "32–63", "64 +")


def pick_tiles(found: Survey, seed: int) -> list[int]:
    """Return records for the contact sheet: the most crowded, suspicious ones, and a random rest, in pack order."""
    total = min(COLUMNS * ROWS, found.images)
    crowded = np.argsort(-np.asarray(found.boxes_per_image, np.int64), kind="stable")[: total // 8].tolist()
    suspicious = [suspicion.record for suspicion in found.suspicions][: total // 8]
    rest = np.random.default_rng(seed).permutation(found.images).tolist()
    return sorted(list(dict.fromkeys(crowded + suspicious + rest))[:total])


def draw_tile(record: Record) -> Pixels:
    """Return a record's image fitted into a square tile, `(TILE, TILE, 3)` BGR, with its boxes and points."""
    factor = TILE / max(record.width, record.height)
    size = max(1, round(record.width * factor)), max(1, round(record.height * factor))
    pixels = decode(record.image, record.name, at_least=size)
    if factor < 1:
        pixels = shrink(pixels, *size)
    else:
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    rounded = np.rint(record.boxes * factor).astype(int).tolist()
    for (x0, y0, x1, y1), ignored in zip(rounded, record.ignored, strict=True):
        cv2.rectangle(pixels, (x0, y0), (max(x0, x1 - 1), max(y0, y1 - 1)), IGNORED_COLOR if ignored else OBJECT_COLOR)
    for place in [] if record.landmarks is None else record.landmarks[record.landmarks[:, :, 2] > 0, :2]:
        cv2.circle(pixels, np.rint(place * factor).astype(int).tolist(), 1, POINT_COLOR, cv2.FILLED, cv2.LINE_AA)
    tile = np.full((TILE, TILE, 3), 246, np.uint8)
    top, left = (TILE - size[1]) // 2, (TILE - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = pixels
    return tile


def contact_sheet(records: Sequence[Record]) -> Pixels:
    """Return up to 24 records as tiles in one picture, RGB."""
    frame = ((3, 3), (3, 3), (0, 0))
    tiles = [np.pad(draw_tile(record), frame, constant_values=255) for record in records]
    columns = min(COLUMNS, len(tiles))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[start : start + columns], 1) for start in range(0, len(tiles), columns)]
    return np.ascontiguousarray(np.concatenate(rows)[:, :, ::-1])


def write_report(
    path: Path, source: RecordSource, found: Survey, summary: dict[str, Any], *, title: str, network: str
) -> None:
    """Write the report of a pack as a PNG: `summary` is what `summarize` made of the survey `found`."""
    from matplotlib.figure import Figure

    sheet = contact_sheet([source[index] for index in pick_tiles(found, seed=0)])
    sheet_height = 15.2 * sheet.shape[0] / sheet.shape[1]
    height = 6.0 + sheet_height
    figure = Figure(figsize=(16, height), dpi=110, facecolor="white")
    _draw_header(figure, title, summary, height)
    bottom, share = (sheet_height + 1.05) / height, 3.3 / height
    _draw_sides(figure.add_axes((0.05, bottom, 0.4, share)), found, summary, network)
    _draw_branches(figure.add_axes((0.505, bottom, 0.15, share)), summary)
    axes = _titled(figure.add_axes((0.7, bottom, 0.12, share)), "images by number of objects")
    bins = np.ceil(np.log2(np.asarray(found.boxes_per_image, np.int64) + 1)).astype(int).clip(0, len(COUNT_LABELS) - 1)
    axes.bar(COUNT_LABELS, np.bincount(bins, minlength=len(COUNT_LABELS)), color=ACCENT, width=0.75)
    axes.tick_params("x", rotation=60)
    axes = _titled(figure.add_axes((0.875, bottom, 0.11, share)), "widths, heights, px")
    axes.scatter(found.widths, found.heights, s=6, alpha=0.25, color=ACCENT, linewidths=0)
    limit = 1.05 * max(*found.widths, *found.heights)
    axes.set(xlim=(0, limit), ylim=(0, limit))
    axes = figure.add_axes((0.025, 0.1 / height, 0.95, sheet_height / height))
    axes.imshow(sheet)
    axes.set_axis_off()
    axes.set_title("green: objects    orange: ignored    pink: points", loc="left", fontsize=10, color=SOFT)
    write_figure(figure, path)


def _draw_header(figure: Figure, title: str, summary: dict[str, Any], height: float) -> None:
    """Write the title and the numbers that matter most."""
    figure.text(0.025, 1 - 0.45 / height, title, fontsize=18, color=INK, weight="bold")
    counts = {
        "images": summary["images"],
        "objects": summary["boxes"] - summary["ignored_boxes"],
        "ignored boxes": summary["ignored_boxes"],
        "backgrounds": summary["backgrounds"],
        "suspicious boxes": sum(summary["suspicious"].values()),
        "duplicate images": len(summary["duplicate_groups"]),
    }
    counts |= {"SYNTHETIC pictures": summary["synthetic_images"]} if summary["synthetic_images"] else {}
    facts = "    ".join(f"{count:,} {what}" for what, count in counts.items())
    figure.text(0.025, 1 - 0.85 / height, facts, fontsize=12.5, color=ACCENT)
    leaks = [f"{len(pairs):,} images are also in {path}" for path, pairs in summary["shared_images"].items() if pairs]
    figure.text(0.025, 1 - 1.15 / height, ", ".join(leaks), fontsize=12, color=UNSEEN, weight="bold")


def _titled(axes: Axes, title: str) -> Axes:
    """Return the axes with the report's looks."""
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.tick_params(labelsize=9, colors=SOFT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(SOFT)
    return axes


def _draw_sides(axes: Axes, found: Survey, summary: dict[str, Any], network: str) -> None:
    """Draw the histogram of longer sides over the branches' ranges."""
    used, ignored = np.asarray(found.sides), np.asarray(found.ignored_sides)
    ranges = [branch["object_range"] for branch in summary["branches"]]
    present = np.concatenate((used, ignored[ignored > 0]))
    lowest = max(1, int(0.9 * min(present.min(initial=np.inf), ranges[0][0])))
    edges = _side_edges(lowest, 1.1 * max(present.max(initial=0), ranges[-1][1]))
    for index, (start, end) in enumerate(ranges):
        axes.axvspan(start, end, color=BRANCH_COLORS[index % len(BRANCH_COLORS)], zorder=0)
    axes.hist(
        [used, np.maximum(ignored, edges[0])], edges, stacked=True, color=[ACCENT, ORANGE], label=["objects", "ignored"]
    )
    ticks = sorted({round(value, 2) for pair in ranges for value in pair} | {5.0, 1000.0})
    axes.set(xscale="log", xlim=(edges[0], edges[-1]))
    shown = [tick for tick in ticks if edges[0] <= tick <= edges[-1]]
    axes.minorticks_off()
    axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
    _titled(axes, f"longer side of boxes in px; bands: branches of {network}")
    axes.legend(fontsize=9, frameon=False, loc="upper right", labelcolor=INK)


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
    rows += [("in a gap", unseen["between"], UNSEEN)] * bool(unseen["between"])
    labels, counts, colors = zip(*rows, strict=True)
    shares = 100 * np.array(counts) / max(1, sum(counts))
    bars = axes.barh(range(len(rows)), shares, color=colors, height=0.7)
    axes.bar_label(bars, [f"{share:.1f} %" for share in shares], padding=2, fontsize=9, color=INK)
    axes.set_yticks(range(len(rows)), labels)
    axes.set(xlim=(0, 1.25 * max(*shares, 1)), xticks=[])
    axes.invert_yaxis()
    _titled(axes, f"objects by branch ({100 * unseen['share']:.1f} % unseen)").spines["bottom"].set_visible(False)
