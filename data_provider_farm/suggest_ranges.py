"""Command line: propose the object range of each branch from the boxes of packs.

Two wishes are weighed. Ranges of equal ratio (10–20, 20–40, …) give every branch a box code of the same relative
accuracy; ranges at quantiles give every branch the same number of objects. The proposal lies half-way, on the scale of
log side. Two limits come from the network: a branch must see more than its objects (its range ends at 90 % of its
receptive field at most), and an object must hold more than one of its cells (its range starts at two strides at least).
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from numpy.typing import NDArray

from data_provider_farm.pack_format.packed_file import PackReader
from data_provider_farm.survey import coverage, describe_coverage, survey
from lffd import cli
from lffd.errors import DataError, UsageError
from lffd.files import check_output, write_atomic
from lffd.graphs.branches import Branch
from lffd.graphs.network import Network
from symbol_farm.versions import version_network

FIELD_SHARE, STRIDES, LEAST_RATIO = 0.9, 2.0, 1.2
EVENNESS = 0.5
FEWEST = 100


@dataclass(frozen=True)
class Options:
    """Options of the command.

    Attributes:
        packs: the `.rec` files.
        version: the network whose branches get ranges.
        scale: factor from packed pixels to the pixels the network will see, when images are resized before it.
        leave_out: share of the objects, in percent, that may stay outside the ranges at either end.
        json: JSON to write.
    """

    packs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE.rec")]
    version: str = "v2"
    scale: float = 1.0
    leave_out: float = 1.0
    json: Path | None = None


def suggest_ranges(sides: NDArray[np.float32], network: Network, leave_out: float) -> list[tuple[float, float]]:
    """Return a range per branch that the network's strides and receptive fields allow.

    Args:
        sides: longer sides of the objects in pixels, as the network will see them.
        network: the network.
        leave_out: percentage of the objects that may lie below the first range, and above the last.

    Raises:
        DataError: when there are too few objects, or they differ too little for the network's branches.
        GeometryError: when the network refuses the ranges.
    """
    if len(sides) < FEWEST:
        raise DataError(f"{len(sides)} objects are too few to choose ranges from; at least {FEWEST} are needed")
    branches = network.branch_geometry
    floors = np.array([STRIDES * branch.stride for branch in branches])
    ceilings = np.array([FIELD_SHARE * branch.receptive_field for branch in branches])
    logs = np.log(np.maximum(sides, 1.0))
    first, last = np.percentile(logs, [leave_out, 100 - leave_out])
    first = float(np.clip(first, np.log(floors[0]), np.log(ceilings[0] / LEAST_RATIO)))
    last = float(np.clip(last, np.log(LEAST_RATIO * floors[-1]), np.log(ceilings[-1])))
    inside = logs[(logs >= first) & (logs <= last)]
    if len(inside) < FEWEST:
        served = f"{network.name} can serve ({floors[0]:g}–{ceilings[-1]:g} px)"
        few = f"only {len(inside)} of {len(sides):,} objects are of a size that {served}"
        raise DataError(f"{few}; resize the images, or choose another version")
    edges = [first]
    for index in range(1, len(branches)):
        low = max(edges[-1] + np.log(LEAST_RATIO), np.log(floors[index]))
        edge = max(low, _next_edge(inside, edges[-1], last, len(branches) - index + 1))
        edges.append(float(min(edge, np.log(ceilings[index - 1]))))
    edges.append(max(last, edges[-1] + np.log(LEAST_RATIO)))
    lowest = float(np.floor(round(np.exp(first), 6)))
    fields = (float(branch.receptive_field) for branch in branches)
    ends = [min(_round_up(edge), field) for edge, field in zip(np.exp(edges[1:]), fields, strict=True)]
    ranges = list(pairwise([lowest, *ends]))
    if any(high <= low for low, high in ranges):
        shown = ", ".join(f"{low:g}–{high:g}" for low, high in ranges)
        raise DataError(f"the objects differ too little in size for {len(ranges)} branches (ranges would be {shown})")
    changed = tuple(Branch(old.layer, new) for old, new in zip(network.branches, ranges, strict=True))
    return [branch.object_range for branch in dataclasses.replace(network, branches=changed).branches]


def _next_edge(logs: NDArray[np.float64], start: float, end: float, left: int) -> float:
    """Return where the first of `left` ranges from `start` to `end` ends, all on the scale of log side."""
    even_ratio = start + (end - start) / left
    rest = logs[(logs >= start) & (logs <= end)]
    even_count = float(np.quantile(rest, 1 / left)) if len(rest) else even_ratio
    return even_ratio + EVENNESS * (even_count - even_ratio)


def _round_up(side: float) -> float:
    """Return the next round number: whole pixels below 30, fives below 100, tens above."""
    step = 1 if side < 30 else 5 if side < 100 else 10
    return float(step * np.ceil(round(side / step, 6)))


def main(options: Options) -> None:
    """Propose the object range of each branch of a network from the boxes of packs."""
    if not 0.01 <= options.scale <= 100 or not 0 <= options.leave_out < 25:
        raise UsageError("--scale must lie in 0.01–100, and --leave-out in 0–25")
    check_output(options.json, options.packs, ('{"version":',))
    network = version_network(options.version)
    sides = []
    for path in options.packs:
        with PackReader(path) as reader:
            sides.append(options.scale * np.asarray(survey(reader, path.name).sides, np.float32))
    objects = np.concatenate(sides)
    ranges = suggest_ranges(objects, network, options.leave_out)
    current = [branch.object_range for branch in network.branches]
    found, before = coverage(objects, ranges), coverage(objects, current)
    print(f"{len(objects):,} objects, longer side {np.median(objects):.0f} px at the median")
    print(f"proposed for {network.name}:", describe_coverage(ranges, found["branches"], found), sep="\n")
    print("as published:", describe_coverage(current, before["branches"], before), sep="\n")
    print("as a declaration:\n    branches=(")
    for branch, (low, high) in zip(network.branches, ranges, strict=True):
        print(f'        Branch("{branch.layer}", ({low:g}, {high:g})),')
    print("    ),")
    if options.json is not None:
        document = {"version": network.name, "ranges": ranges, "coverage": found, "published_coverage": before}
        write_atomic(options.json, (json.dumps(document, indent=2) + "\n").encode())


if __name__ == "__main__":
    cli.run(main)
