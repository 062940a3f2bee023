"""Print and draw the structure of a version: layers, receptive fields, parameters, operations, branches."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from lffd import cli
from lffd.figures import FIGURE_MARKS
from lffd.files import check_output, write_atomic
from lffd.graphs.network import Network
from symbol_farm.versions import version_network


@dataclass(frozen=True)
class Options:
    """What to describe, and where to write it."""

    version: Annotated[str, tyro.conf.Positional]
    """Short or full version name, such as v1 or 10_560_25L_8scales_v1."""
    input: str | None = None
    """Input size as WIDTHxHEIGHT in pixels; the version's training size by default."""
    json: Path | None = None
    """Write the description as JSON to this file."""
    plot: Path | None = None
    """Draw the structure to this file (PNG, SVG or PDF)."""


def describe(network: Network, width: int, height: int) -> dict[str, Any]:
    """Return the structure of `network` at an input of `width` × `height` pixels as plain JSON values.

    Keys: `version`, `input`, `minimum_input`, `parameters`, `gmac` (10⁹ multiply–adds of convolutions), `gflops` (10⁹
    operations of all layers, see `Graph.flops`), `layers` and `branches`; map sizes are `[rows, columns]`.
    """
    sizes, operations = network.layer_sizes(height, width), network.multiply_adds(height, width)
    layers = [
        {
            "name": layer.name,
            "kind": layer.kind,
            "kernel": layer.kernel,
            "layer_stride": layer.stride,
            "output_shape": [layer.out_channels, *sizes[layer.name]],
            "stride": layer.total_stride,
            "receptive_field": layer.receptive_field,
            "first_center": layer.first_center,
            "parameters": layer.parameters,
            "macs": operations.get(layer.name, 0),
        }
        for layer in network.layers
    ]
    branches = [
        {
            "layer": branch.layer,
            "object_range": list(branch.object_range),
            "gray_range": list(branch.gray_range),
            "stride": branch.stride,
            "receptive_field": branch.receptive_field,
            "first_center": branch.first_center,
            "map_size": list(size),
        }
        for branch, size in zip(network.branch_geometry, network.map_sizes(height, width), strict=True)
    ]
    return {
        "version": network.name,
        "input": {"width": width, "height": height},
        "minimum_input": network.minimum_input,
        "parameters": network.parameter_count,
        "gmac": sum(operations.values()) / 1e9,
        "gflops": network.graph.flops(height, width) / 1e9,
        "layers": layers,
        "branches": branches,
    }


def as_text(facts: dict[str, Any]) -> str:
    """Return a description as tables for a terminal."""
    size = f"{facts['input']['width']}x{facts['input']['height']}"
    lines = [f"{facts['version']} at {size} (each side at least {facts['minimum_input']} px)", ""]
    lines.append(f"{'layer':<16}{'output C×H×W':>16}{'kernel':>8}{'stride':>8}{'RF':>6}{'parameters':>12}{'MMAC':>10}")
    for layer in facts["layers"]:
        shape = "×".join(str(n) for n in layer["output_shape"])
        kernel = f"{layer['kernel']}/{layer['layer_stride']}"
        place = f"{layer['stride']:>8}{layer['receptive_field']:>6}"
        cost = f"{layer['parameters']:>12,}{layer['macs'] / 1e6:>10,.1f}"
        lines.append(f"{layer['name']:<16}{shape:>16}{kernel:>8}{place}{cost}")
    lines += [
        "",
        f"total: {facts['parameters']:,} parameters, {facts['gmac']:.3f} GMAC, {facts['gflops']:.3f} GFLOPs",
        "",
    ]
    lines.append(f"{'branch after':<14}{'objects (px)':>14}{'stride':>8}{'RF':>6}{'first centre':>14}{'map H×W':>12}")
    for branch in facts["branches"]:
        low, high = branch["object_range"]
        place = f"{branch['stride']:>8}{branch['receptive_field']:>6}{branch['first_center']:>14}"
        cells = "×".join(str(n) for n in branch["map_size"])
        lines.append(f"{branch['layer']:<14}{f'{low:g}–{high:g}':>14}{place}{cells:>12}")
    lines.append("(kernel: side/stride of the layer itself; stride, RF, first centre: in input pixels)")
    return "\n".join(lines)


def main(options: Options) -> None:
    """Print a version's layer table with shapes, receptive fields, strides, parameters and operations.

    Example: lffd describe v1 --input 640x480 --plot v1.png
    """
    check_output(options.json, marks=('{"version":',))
    check_output(options.plot, marks=FIGURE_MARKS)
    network = version_network(options.version)
    side = network.train_input
    width, height = cli.parse_size(options.input) if options.input else (side, side)
    facts = describe(network, width, height)
    if options.plot:
        from symbol_farm.structure_plot import draw

        draw(network, width, height, options.plot)
    if options.json:
        write_atomic(options.json, (json.dumps(facts, indent=2) + "\n").encode())
    print(as_text(facts))


if __name__ == "__main__":
    cli.run(main)
