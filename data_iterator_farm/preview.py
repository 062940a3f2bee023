"""A picture of what the network is taught: real crops, and for each branch which cells are positive or ignored.

python -m data_iterator_farm.preview train.rec --version v2 --output preview.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
import tyro
from numpy.typing import NDArray

from data_iterator_farm.assignment import BACKGROUND, IGNORED, POSITIVE, ClassMap
from data_iterator_farm.batch import Batch
from data_iterator_farm.batch_loader import BatchLoader
from data_iterator_farm.policies import preset
from lffd.cli import run
from lffd.errors import DataError, UsageError
from lffd.graphs.network import BranchGeometry, Network

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POSITIVE_COLOUR, IGNORED_COLOUR, BACKGROUND_COLOUR = "#27d17c", "#ffb020", "#6b7c93"
PANEL_INCHES = 2.7
CELLS_SHOWN = 44
DOTS_PER_INCH = 110


@dataclass(frozen=True)
class Options:
    """Options of the command.

    Attributes:
        pack: the packed file to read.
        output: the PNG to write.
        version: of the network whose crops and labels are drawn: v1, v2, head, …
        preset: how crops are sampled and cells are labelled.
        crops: how many to draw, one per row.
        input_size: side of the crops in pixels; the version's own by default.
        seed: of the crops; another seed shows others.
    """

    pack: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.rec")]
    output: Path
    version: str = "v2"
    preset: Literal["ours", "published"] = "ours"
    crops: int = 5
    input_size: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what no picture can be made of."""
        if not 1 <= self.crops <= 50:
            raise UsageError(f"crops must lie in 1–50, not {self.crops}")
        if self.output.suffix.lower() != ".png":
            raise UsageError(f"{self.output}: the name of the picture must end in .png")


def draw_batch(batch: Batch, network: Network) -> Figure:
    """Return a figure with one row per crop: its pixels, then each branch's cells over them.

    Branches with small cells show the part of the crop where they have most to learn.

    Args:
        batch: from a loader of `network`.
        network: whose branches are drawn.
    """
    from matplotlib.figure import Figure

    rows, columns = len(batch.names), 1 + len(network.branches)
    figure = Figure(figsize=(PANEL_INCHES * columns, PANEL_INCHES * 1.1 * rows + 0.9), facecolor="white")
    axes: Any = figure.subplots(rows, columns, squeeze=False)
    height = figure.get_figheight()
    figure.subplots_adjust(0.005, 0.36 / height, 0.995, 1 - 0.66 / height, wspace=0.04, hspace=0.14)
    for row in range(rows):
        image = batch.images[row][..., ::-1]
        _draw_image(axes[row, 0], image, batch.names[row], int(batch.faces[row]))
        for branch in network.branch_geometry:
            said = batch.targets[branch.index]
            classes, codes = said["score"][row, 0], said["box"][row, :4]
            view = _view(classes, branch, image.shape[0])
            _draw_branch(axes[row, branch.index + 1], image, branch, classes, codes)
            _show(axes[row, branch.index + 1], view)
            if view.side < image.shape[0]:
                _mark(axes[row, 0], view, branch.index)
    axes[0, 0].set_title("crop", fontsize=9, color="#222222")
    for branch in network.branch_geometry:
        low, high = branch.object_range
        title = f"branch {branch.index}: {low:g}–{high:g} px, stride {branch.stride}"
        axes[0, branch.index + 1].set_title(title, fontsize=9, color="#222222")
    _draw_legend(figure)
    return figure


class View(NamedTuple):
    """The square part of a crop that a panel shows, in pixels."""

    left: float
    top: float
    side: float


def _view(classes: ClassMap, branch: BranchGeometry, size: int) -> View:
    """Return the part of a crop of side `size` that holds the most positive, and then ignored, cells."""
    import cv2

    side = min(size, CELLS_SHOWN * branch.stride)
    if side == size:
        return View(-0.5, -0.5, size)
    weight = np.where(classes == POSITIVE, 8.0, np.where(classes == IGNORED, 1.0, 0.0))
    weight[classes.shape[0] // 2, classes.shape[1] // 2] += 0.5  # without anything to see, the middle
    sums = cv2.boxFilter(
        weight, -1, (CELLS_SHOWN - 4, CELLS_SHOWN - 4), normalize=False, borderType=cv2.BORDER_CONSTANT
    )
    rows, columns = np.nonzero(sums >= sums.max() - 1e-6)
    middle = branch.first_center + branch.stride * np.array([columns.mean(), rows.mean()])
    left, top = np.clip(middle - side / 2, 0, size - side) - 0.5
    return View(float(left), float(top), side)


def _show(axes: Axes, view: View) -> None:
    """Limit a panel to its view."""
    axes.set_xlim(view.left, view.left + view.side)
    axes.set_ylim(view.top + view.side, view.top)


def _mark(axes: Axes, view: View, index: int) -> None:
    """Show on the crop which part a branch's panel shows."""
    from matplotlib.patches import Rectangle

    place = (view.left, view.top)
    axes.add_patch(Rectangle(place, view.side, view.side, fill=False, edgecolor="black", linewidth=1.6, alpha=0.6))
    axes.add_patch(Rectangle(place, view.side, view.side, fill=False, edgecolor="white", linewidth=0.7))
    style = {"boxstyle": "square,pad=0.15", "facecolor": "white", "linewidth": 0, "alpha": 0.85}
    axes.text(*place, str(index), fontsize=5.5, color="#222222", va="top", ha="left", bbox=style, clip_on=True)


def _draw_image(axes: Axes, image: NDArray[np.uint8], names: str, faces: int) -> None:
    """Draw a crop as the network gets it."""
    axes.imshow(image, interpolation="nearest")
    first, *others = (name.rsplit("/", 1)[-1] for name in names.split(" + "))
    label = first if len(first) <= 34 else "…" + first[-33:]
    label += f" + {len(others)} more" if others else ""
    axes.set_xlabel(f"{label}\n{faces} face{'' if faces == 1 else 's'}", fontsize=6.5, color="#444444", labelpad=2)
    _strip(axes)


def _draw_branch(
    axes: Axes, image: NDArray[np.uint8], branch: BranchGeometry, classes: ClassMap, codes: NDArray[np.float32]
) -> None:
    """Draw the cells of one branch over a darkened crop, and the boxes that its positive cells are taught."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    axes.imshow((image * 0.45 + 20).astype(np.uint8), interpolation="nearest")
    height, width = classes.shape
    x, y = np.meshgrid(branch.centers(width), branch.centers(height))
    positive, ignored = classes == POSITIVE, classes == IGNORED
    for chosen, colour, share in (
        (classes == BACKGROUND, BACKGROUND_COLOUR, 0.16),
        (ignored, IGNORED_COLOUR, 0.6),
        (positive, POSITIVE_COLOUR, 0.7),
    ):
        _draw_cells(axes, np.column_stack((x[chosen], y[chosen])), share * branch.stride, colour)
    centers = np.column_stack((x[positive], y[positive])).astype(np.float32)
    boxes = np.unique(branch.decode(codes[:, positive].T, centers).round(1), axis=0)
    patches = [Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes.tolist()]
    axes.add_collection(PatchCollection(patches, facecolor="none", edgecolor="white", linewidth=0.9))
    counts = f"{np.count_nonzero(positive):,} positive · {np.count_nonzero(ignored):,} ignored"
    axes.set_xlabel(counts, fontsize=6.5, color="#444444", labelpad=2)
    _strip(axes)


def _draw_cells(axes: Axes, centers: NDArray[np.float32], diameter: float, colour: str) -> None:
    """Draw one dot per cell centre `(M, 2)`; the diameter is in pixels of the crop."""
    from matplotlib.collections import EllipseCollection

    sizes = np.full(len(centers), diameter)
    axes.add_collection(
        EllipseCollection(
            sizes,
            sizes,
            0,
            units="xy",
            offsets=centers,
            offset_transform=axes.transData,
            facecolor=colour,
            linewidth=0,
        )
    )


def _strip(axes: Axes) -> None:
    """Leave nothing but the picture and its caption."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_legend(figure: Figure) -> None:
    """Say what the colours mean, at the top."""
    from matplotlib.lines import Line2D

    entries = (
        ("positive: learns the face and its box", "o", 7, POSITIVE_COLOUR, POSITIVE_COLOUR),
        ("ignored: no loss", "o", 6, IGNORED_COLOUR, IGNORED_COLOUR),
        ("background: learns that no face of this size is here", "o", 3, BACKGROUND_COLOUR, BACKGROUND_COLOUR),
        ("box that the positive cells are taught", "s", 8, "none", "#666666"),
        ("numbers on the crop: the part that a branch's panel shows", "", 0, "none", "none"),
    )
    handles = [
        Line2D([], [], linestyle="", marker=marker, markersize=size, markerfacecolor=fill, color=edge, label=text)
        for text, marker, size, fill, edge in entries
    ]
    figure.legend(handles=handles, loc="upper left", ncols=5, fontsize=8, frameon=False, borderaxespad=0.3)


def main(options: Options) -> None:
    """Draw training crops with the cells that each branch is taught to fire at, to ignore, and to stay silent at."""
    from data_provider_farm.pack_format.packed_file import PackReader
    from symbol_farm.versions import version_network

    network = version_network(options.version)
    policies = preset(options.preset, network)
    with PackReader(options.pack) as source:
        loader = BatchLoader(
            source,
            network,
            batch_size=options.crops,
            input_size=options.input_size or network.train_input,
            sampling=policies.sampling,
            jitter=policies.jitter,
            labels=policies.labels,
            seed=options.seed,
            threads=2,
            stop=1,
        )
        with loader:
            figure = draw_batch(next(loader), network)
    try:
        figure.savefig(options.output, dpi=DOTS_PER_INCH)
    except OSError as error:
        raise DataError(f"{options.output}: cannot be written: {error.strerror}") from error
    print(f"{options.output}: {options.crops} crops of {options.pack}, {options.version}, {options.preset} preset")


if __name__ == "__main__":
    run(main)
