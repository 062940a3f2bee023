"""Command line: show what is in a dataset's pack, and whether a network fits it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from data_provider_farm.pack_format.packed_file import PackReader
from data_provider_farm.report import write_report
from data_provider_farm.survey import SUSPICIONS, Survey, describe_coverage, summarize, survey
from lffd import cli
from lffd.errors import UsageError
from lffd.figures import FIGURE_MARKS
from lffd.files import check_output, write_atomic
from lffd.graphs.network import Network
from symbol_farm.versions import version_network

SHOWN = 5
SPREADS = {
    "width": "image width, px",
    "height": "image height, px",
    "objects_per_image": "objects per image",
    "longer_side": "longer side of objects, px",
}
LEVELS = {"min": "smallest", "p5": "5 %", "p50": "median", "p95": "95 %", "max": "largest"}


@dataclass(frozen=True)
class Options:
    """Options of the command.

    Attributes:
        pack: the `.rec` file.
        version: the network whose branches are held against the boxes, by its short or full name: v1, v2, head, …
        against: other packs, such as the validation set, that must not share images with this one.
        report: PNG to write: plots and a contact sheet with the boxes drawn.
        json: JSON to write.
    """

    pack: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.rec")]
    version: str = "v2"
    against: tuple[Path, ...] = ()
    report: Path | None = None
    json: Path | None = None


def describe(path: Path, found: Survey, summary: dict[str, Any], network: Network) -> str:
    """Return the survey as text."""
    lines = [
        f"{path}: {summary['images']:,} images, {summary['boxes']:,} boxes "
        f"({summary['ignored_boxes']:,} of them ignored), {summary['backgrounds']:,} backgrounds"
    ]
    if summary["synthetic_images"]:
        lines.append(f"  {summary['synthetic_images']:,} of the images are SYNTHETIC (drawn)")
    if summary["boxes_with_points"]:
        lines.append(f"  {summary['boxes_with_points']:,} of the boxes have five points")
    for key, label in SPREADS.items():
        if spread := summary[key]:
            lines.append(f"  {label:27s}" + "".join(f"{name} {spread[level]:<9g}" for level, name in LEVELS.items()))
    lines.append(f"objects by branch of {network.name}, at the packed size:")
    branches = summary["branches"]
    ranges, counts = [branch["object_range"] for branch in branches], [branch["objects"] for branch in branches]
    lines.append(describe_coverage(ranges, counts, summary["unseen"]))
    return "\n".join(lines + _describe_doubts(found, summary))


def _describe_doubts(found: Survey, summary: dict[str, Any]) -> list[str]:
    """Return lines about suspicious boxes and duplicates."""
    lines = []
    for kind, number in summary["suspicious"].items():
        lines.append(f"{number:,} suspicious boxes, {kind}: {SUSPICIONS[kind]}")
        examples = [suspicion for suspicion in found.suspicions if suspicion.kind == kind][:SHOWN]
        lines += [f"  record {s.record} {s.name}: {[round(value, 1) for value in s.box]}" for s in examples]
    if groups := summary["duplicate_groups"]:
        shown = "; ".join(", ".join(map(str, group)) for group in groups[:SHOWN])
        lines.append(f"{len(groups):,} images are packed more than once, byte for byte: records {shown}")
    for path, pairs in summary["shared_images"].items():
        shown = "; ".join(f"{mine} = {other}" for mine, other in pairs[:SHOWN])
        lines.append(f"{len(pairs):,} images are also in {path}" + (f": records {shown}" if pairs else ""))
    return lines


def main(options: Options) -> None:
    """Show what is in a pack, and whether a network's branches fit its boxes."""
    if options.pack in options.against:
        raise UsageError(f"--against {options.pack}: is the pack itself")
    inputs = [options.pack, *options.against]
    check_output(options.report, inputs, FIGURE_MARKS)
    check_output(options.json, inputs, ('{"pack":',))
    network = version_network(options.version)
    with PackReader(options.pack) as reader:
        if options.report is not None and not len(reader):
            raise UsageError(f"{options.pack}: the pack is empty; there is nothing to show in a report")
        found, others = survey(reader, options.pack.name), {}
        for path in options.against:
            with PackReader(path) as other:
                others[str(path)] = survey(other, path.name)
        summary = summarize(found, network.branch_geometry, others)
        if options.report is not None:
            write_report(options.report, reader, found, summary, title=options.pack.name, network=network.name)
    if options.json is not None:
        document = {"pack": str(options.pack), "version": network.name, **summary}
        write_atomic(options.json, (json.dumps(document, indent=2) + "\n").encode())
    print(describe(options.pack, found, summary, network))


if __name__ == "__main__":
    cli.run(main)
