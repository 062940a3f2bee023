"""A picture of a version: its backbone with the branches on it, and what each branch sees and detects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lffd.errors import UsageError
from lffd.figures import write_figure
from lffd.graphs.network import Layer, Network

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DOWN, _PAIR, _BRANCH = "#d95f02", "#7fa8d1", "#1b7837"

FORMATS = (".png", ".svg", ".pdf")


def draw(network: Network, width: int, height: int, path: Path) -> None:
    """Draw `network` at an input of `width` × `height` pixels to `path` (the suffix chooses PNG, SVG or PDF).

    Raises:
        UsageError: for another suffix.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: a structure is drawn to a file that ends in one of {', '.join(FORMATS)}")
    from matplotlib.figure import Figure

    rows = len(network.branches)
    figure = Figure(figsize=(12, 3.4 + 0.45 * rows), layout="constrained")
    backbone, ranges = figure.subplots(2, 1, height_ratios=[2.2, 0.6 + 0.45 * rows])
    gmac = sum(network.multiply_adds(height, width).values()) / 1e9
    figure.suptitle(f"{network.name}: {network.parameter_count:,} parameters, {gmac:.3f} GMAC at {width}×{height}")
    _draw_backbone(backbone, network)
    _draw_ranges(ranges, network, network.map_sizes(height, width))
    write_figure(figure, path, dpi=120)


def _draw_backbone(axes: Axes, network: Network) -> None:
    """Draw one box per convolution, branches hanging below the layers that feed them."""
    from matplotlib.patches import Rectangle

    branches = {branch.layer: branch for branch in network.branch_geometry}
    for position, layer in enumerate(network.backbone):
        tall = 0.5 + 0.5 * layer.out_channels / max(other.out_channels for other in network.backbone)
        color = _DOWN if layer.kind == "down" else _PAIR
        axes.add_patch(Rectangle((position - 0.4, -tall / 2), 0.8, tall, facecolor=color, edgecolor="black", lw=0.6))
        axes.text(position, 0, _label(layer), ha="center", va="center", fontsize=7)
        if layer.kind == "down":
            axes.text(position, 0.62, f"stride {layer.total_stride}", ha="center", fontsize=7, color=_DOWN)
        if layer.name in branches:
            branch = branches[layer.name]
            axes.annotate(
                "", (position, -1.0), (position, -tall / 2), arrowprops={"arrowstyle": "->", "color": _BRANCH}
            )
            low, high = branch.object_range
            text = f"branch {branch.index}\n{low:g}–{high:g} px"
            axes.text(position, -1.03, text, ha="center", va="top", fontsize=7, color=_BRANCH)
    axes.set(xlim=(-0.8, len(network.backbone) - 0.2), ylim=(-1.5, 0.85))
    axes.axis("off")
    axes.set_title(
        "Backbone: 3×3 convolutions with their output channels; orange halves the map, blue is a residual pair's half",
        fontsize=9,
        loc="left",
    )


def _label(layer: Layer) -> str:
    return f"{layer.name.removeprefix('conv')}\n{layer.out_channels}"


def _draw_ranges(axes: Axes, network: Network, sizes: tuple[tuple[int, int], ...]) -> None:
    """Draw each branch's object range, gray range and receptive field on one axis of pixels."""
    from matplotlib.ticker import ScalarFormatter

    for branch, (rows, columns) in zip(network.branch_geometry, sizes, strict=True):
        y, (low, high), (gray_low, gray_high) = branch.index, branch.object_range, branch.gray_range
        axes.barh(y, gray_high - gray_low, left=gray_low, height=0.7, color="#dddddd", zorder=1)
        axes.barh(y, high - low, left=low, height=0.7, color=_BRANCH, zorder=2)
        axes.plot([branch.receptive_field], [y], "|", color=_DOWN, ms=16, mew=3, zorder=3)
        note = f"stride {branch.stride}, RF {branch.receptive_field}, map {rows}×{columns}"
        axes.text(branch.receptive_field * 1.06, y, note, va="center", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(network.object_range[0] * 0.8, network.branch_geometry[-1].receptive_field * 2.6)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xticks(sorted({end for branch in network.branches for end in branch.object_range}))
    axes.minorticks_off()
    axes.tick_params(axis="x", labelsize=8)
    axes.set_yticks(range(len(sizes)), [f"{branch.index}: {branch.layer}" for branch in network.branch_geometry])
    axes.invert_yaxis()
    axes.set_xlabel("pixels of the input (log)")
    axes.set_title(
        "Green: object range (longer side). Grey: ignored edges. Orange: receptive field.", fontsize=9, loc="left"
    )
    axes.grid(axis="x", lw=0.3)
