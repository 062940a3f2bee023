"""A picture of what the network is taught: real crops, and for each branch which cells are positive or ignored.

lffd preview train.rec --version v2 --output preview.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from data_iterator_farm.batch import Batch, BatchPlan
from data_iterator_farm.batch_loader import BatchLoader
from data_iterator_farm.label_maps import BACKGROUND, IGNORED, POSITIVE, ClassMap
from data_iterator_farm.policies import PresetName, preset
from lffd.cli import run
from lffd.errors import UsageError
from lffd.figures import FIGURE_MARKS, write_figure
from lffd.files import check_output
from lffd.graphs.branches import BranchGeometry
from lffd.graphs.network import Network
from lffd.limits import check_batch_memory, check_limits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POSITIVE_COLOUR, IGNORED_COLOUR, BACKGROUND_COLOUR, POINT_COLOUR = "#27d17c", "#ffb020", "#6b7c93", "#ff5ad9"
INK = "#222222"
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
        landmarks: draw the points that it is taught with `--landmarks`.
        preset: how crops are sampled and cells are labelled.
        crops: how many to draw, one per row.
        input_size: side of the crops in pixels; the version's own by default.
        seed: of the crops; another seed shows others.
    """

    pack: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.rec")]
    output: Path
    version: str = "v2"
    landmarks: bool = False
    preset: PresetName = "ours"
    crops: int = 5
    input_size: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what no picture can be made of."""
        check_limits(self, "input_size", "seed")
        check_batch_memory(self.crops, self.input_size or 1)
        if not 1 <= self.crops <= 50:
            raise UsageError(f"crops must lie in 1–50, not {self.crops}")
        if self.output.suffix.lower() != ".png":
            raise UsageError(f"{self.output}: the name of the picture must end in .png")


def draw_batch(batch: Batch, network: Network) -> Figure:
    """Return a figure with one row per crop: its pixels, then the cells of each branch of `network` over them.

    Branches with small cells show the part of the crop where they have most to learn.
    """
    from matplotlib.figure import Figure

    rows, columns = len(batch.names), 1 + len(network.branches)
    figure = Figure(figsize=(PANEL_INCHES * columns, PANEL_INCHES * 1.1 * rows + 0.9), facecolor="white")
    axes: Any = figure.subplots(rows, columns, squeeze=False)
    height = figure.get_figheight()
    figure.subplots_adjust(0.005, 0.36 / height, 0.995, 1 - 0.66 / height, wspace=0.04, hspace=0.14)
    axes[0, 0].set_title("crop", fontsize=9, color=INK)
    for branch in network.branch_geometry:
        title = "branch {0}: {2:g}–{3:g} px, stride {1}".format(branch.index, branch.stride, *branch.object_range)
        axes[0, branch.index + 1].set_title(title, fontsize=9, color=INK)
    for row in range(rows):
        image = batch.images[row][..., ::-1]
        axes[row, 0].imshow(image, interpolation="nearest")
        first, *others = (name.rsplit("/", 1)[-1] for name in batch.names[row].split(" + "))
        label = first if len(first) <= 34 else "…" + first[-33:]
        label += f" + {len(others)} more" if others else ""
        _caption(axes[row, 0], f"{label}\n{batch.faces[row]} face{'' if batch.faces[row] == 1 else 's'}")
        for branch in network.branch_geometry:
            said = {name: values[row] for name, values in batch.targets[branch.index].items()}
            left, top, side = _part(said["score"][0], branch, image.shape[0])
            panel = axes[row, branch.index + 1]
            _draw_branch(panel, image, branch, said)
            panel.set(xlim=(left, left + side), ylim=(top + side, top))
            if side < image.shape[0]:
                _mark(axes[row, 0], left, top, side, branch.index)
    _draw_legend(figure)
    return figure


def _part(classes: ClassMap, branch: BranchGeometry, size: int) -> tuple[float, float, float]:
    """Return `left, top, side` in pixels of the part of a crop that has most positive, and then ignored, cells."""
    import cv2

    side = min(size, CELLS_SHOWN * branch.stride)
    if side == size:
        return -0.5, -0.5, size
    weight = np.where(classes == POSITIVE, 8.0, np.where(classes <= IGNORED, 1.0, 0.0))
    weight[classes.shape[0] // 2, classes.shape[1] // 2] += 0.5  # without anything to see, the middle
    around = (CELLS_SHOWN - 4, CELLS_SHOWN - 4)
    sums = cv2.boxFilter(weight, -1, around, normalize=False, borderType=cv2.BORDER_CONSTANT)
    rows, columns = np.nonzero(sums >= sums.max() - 1e-6)
    middle = branch.places(columns.mean(keepdims=True), rows.mean(keepdims=True))[0]
    left, top = np.clip(middle - side / 2, 0, size - side) - 0.5
    return float(left), float(top), side


def _mark(axes: Axes, left: float, top: float, side: float, index: int) -> None:
    """Show on the crop which part a branch's panel shows."""
    from matplotlib.patches import Rectangle

    for colour, width, alpha in (("black", 1.6, 0.6), ("white", 0.7, 1)):
        axes.add_patch(Rectangle((left, top), side, side, fill=False, edgecolor=colour, linewidth=width, alpha=alpha))
    style = {"boxstyle": "square,pad=0.15", "facecolor": "white", "linewidth": 0, "alpha": 0.85}
    axes.text(left, top, str(index), fontsize=5.5, color=INK, va="top", ha="left", bbox=style, clip_on=True)


def _draw_branch(axes: Axes, image: NDArray[np.uint8], branch: BranchGeometry, said: dict[str, NDArray[Any]]) -> None:
    """Draw the cells of one branch over a darkened crop, and the boxes and points that its positive cells are taught.

    `said` are the crop's targets by output; of several predictions per cell, the first is drawn.
    """
    from matplotlib.collections import EllipseCollection, PatchCollection
    from matplotlib.patches import Rectangle

    axes.imshow((image * 0.45 + 20).astype(np.uint8), interpolation="nearest")
    classes, codes = said["score"][0], said["box"][:4]
    height, width = classes.shape
    x, y = np.meshgrid(branch.centers(width), branch.centers(height, axis=1))
    positive, ignored = classes == POSITIVE, classes <= IGNORED
    for chosen, colour, share in (
        (classes == BACKGROUND, BACKGROUND_COLOUR, 0.16),
        (ignored, IGNORED_COLOUR, 0.6),
        (positive, POSITIVE_COLOUR, 0.7),
    ):
        sizes = np.full(np.count_nonzero(chosen), share * branch.stride)  # diameters in pixels of the crop
        place = {"offsets": np.column_stack((x[chosen], y[chosen])), "offset_transform": axes.transData}
        axes.add_collection(EllipseCollection(sizes, sizes, 0, units="xy", **place, facecolor=colour, linewidth=0))
    centers = np.column_stack((x[positive], y[positive])).astype(np.float32)
    boxes = np.unique(branch.decode(codes[:, positive].T, centers).round(1), axis=0)
    patches = [Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes.tolist()]
    axes.add_collection(PatchCollection(patches, facecolor="none", edgecolor="white", linewidth=0.9))
    if "landmarks" in said:
        taught = said["landmarks"][:11, positive].T
        places = branch.decode_points(taught[:, :10], centers)[taught[:, 10] > 0].reshape(-1, 2) - 0.5
        axes.plot(*np.unique(places.round(1), axis=0).T, ".", color=POINT_COLOUR, markersize=2.5)
    _caption(axes, f"{np.count_nonzero(positive):,} positive · {np.count_nonzero(ignored):,} ignored")


def _caption(axes: Axes, text: str) -> None:
    """Leave nothing but the picture and a caption."""
    axes.set_xlabel(text, fontsize=6.5, color="#444444", labelpad=2)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _draw_legend(figure: Figure) -> None:
    """Say what the colours mean, at the top."""
    from matplotlib.lines import Line2D

    entries = (
        ("positive: learns the face and its box", "o", 7, POSITIVE_COLOUR, POSITIVE_COLOUR),
        ("ignored: no loss", "o", 6, IGNORED_COLOUR, IGNORED_COLOUR),
        ("background: learns that no face of this size is here", "o", 3, BACKGROUND_COLOUR, BACKGROUND_COLOUR),
        ("box that the positive cells are taught", "s", 8, "none", "#666666"),
        ("points that they are taught", "o", 3, POINT_COLOUR, POINT_COLOUR),
        ("numbers on the crop: the part that a branch's panel shows", "", 0, "none", "none"),
    )
    handles = [
        Line2D([], [], linestyle="", marker=marker, markersize=size, markerfacecolor=fill, color=edge, label=text)
        for text, marker, size, fill, edge in entries
    ]
    figure.legend(handles=handles, loc="upper left", ncols=6, fontsize=8, frameon=False, borderaxespad=0.3)


def main(options: Options) -> None:
    """Draw training crops with the cells that each branch is taught to fire at, to ignore, and to stay silent at."""
    from data_provider_farm.pack_format.packed_file import PackReader
    from symbol_farm.versions import version_network

    check_output(options.output, [options.pack], FIGURE_MARKS)
    network = version_network(options.version, options.landmarks)
    policies = preset(options.preset, network)
    with PackReader(options.pack) as source:
        plan = BatchPlan(network, policies, options.crops, options.input_size or network.train_input, options.seed)
        with BatchLoader(source, plan, threads=2, stop=1) as loader:
            figure = draw_batch(next(loader), network)
    write_figure(figure, options.output, DOTS_PER_INCH)
    print(f"{options.output}: {options.crops} crops of {options.pack}, {options.version}, {options.preset} preset")


if __name__ == "__main__":
    run(main)
