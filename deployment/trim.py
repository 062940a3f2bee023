"""Cut off the branches that a task cannot need, with every layer behind them."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deployment.parity import probe_images, reference_engine
from lffd import cli
from lffd.errors import ModelError, UsageError
from lffd.files import OutputFolder
from lffd.graphs.cut import keep_branches
from lffd.graphs.model import Model, check_target, save_model
from lffd.graphs.network import Network
from symbol_farm.trained_models import resolve_model

_OF_THE_WHOLE = ("accuracy", "quantization", "trimmed_from")
"""Parts of a card that hold for the network before it was cut."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to cut, and where to write."""

    model: str
    """Shipped name, model directory, or VERSION=FILE.params."""
    output_dir: Path
    """The model directory to write."""
    min_face: float = 0.0
    """Smallest object that the task has, longer side in pixels; branches for smaller ones go."""
    max_face: float = float("inf")
    """Largest object that the task has, longer side in pixels; branches for larger ones go, and the layers behind."""


def kept_branches(network: Network, min_face: float, max_face: float) -> list[int]:
    """Return the indices of the branches whose object range has more than its edge in common with the task's.

    A `UsageError` is raised when the limits are the wrong way round, or no branch is left.
    """
    if not 0 <= min_face < max_face:
        raise UsageError(f"--min-face {min_face:g} must be at least 0 and below --max-face {max_face:g}")
    ranges = [branch.object_range for branch in network.branches]
    kept = [index for index, (low, high) in enumerate(ranges) if high > min_face and low < max_face]
    if not kept:
        listed = ", ".join(f"{low:g}–{high:g}" for low, high in ranges)
        raise UsageError(f"no branch of {network.name} sees {min_face:g}–{max_face:g} px; its branches see {listed}")
    return kept


def trim_model(model: Model, min_face: float, max_face: float) -> Model:
    """Return the model without the branches that the task cannot need.

    Weights stay as they are. What was measured on the whole network moves to `trimmed_from` on the card, and files
    made from it, such as an 8-bit graph, are left out.

    Raises:
        UsageError: when nothing, or nothing at all, would be left out.
        ModelError: when a kept map comes out otherwise, bit by bit, as both networks run.
    """
    network = model.network
    kept = kept_branches(network, min_face, max_face)
    if len(kept) == len(network.branches):
        raise UsageError(f"every branch of {network.name} sees objects of {min_face:g}–{max_face:g} px: nothing to cut")
    card: dict[str, Any] = {key: value for key, value in model.card.items() if key not in _OF_THE_WHOLE}
    former = {key: model.card[key] for key in _OF_THE_WHOLE if key in model.card}
    card["trimmed_from"] = {"version": network.name, "branches_kept": list(kept), **former}
    trimmed = replace(keep_branches(model, kept), card=card)
    (_, before), (_, after) = reference_engine(model), reference_engine(trimmed)
    for images in probe_images(network):
        expected = before.run(images)
        for index, maps in zip(kept, after.run(images), strict=True):
            if not all(np.array_equal(maps[name], expected[index][name]) for name in network.outputs):
                raise ModelError(f"branch {index} of {network.name} gives other maps after trimming")
    return trimmed


def main(options: Options) -> None:
    """Write a smaller model without the branches that a task cannot need, and without the layers behind them.

    The kept branches give the same maps, which is checked by running both networks.
    """
    check_target(options.output_dir)
    model = resolve_model(options.model)
    with OutputFolder(options.output_dir, beside=True):
        trimmed = trim_model(model, options.min_face, options.max_face)
        save_model(trimmed, options.output_dir, model.stored_precision)
    for label, part in (("before", model), ("after", trimmed)):
        network, (low, high) = part.network, part.network.object_range
        work = sum(network.multiply_adds(480, 640).values()) / 1e9
        print(
            f"{label:6} {len(network.branches)} branches, {low:g}–{high:g} px, {part.parameter_count:,} parameters, "
            f"{work:.3f} GMAC at 640x480, images from {network.minimum_input} px"
        )
    print(f"wrote {options.output_dir}; the maps of the kept branches are the same bit by bit")


if __name__ == "__main__":
    cli.run(main)
