"""Accuracy, size, operations and latency of several detectors in one table and chart, ours and other projects'."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from accuracy_evaluation import evaluation_on_widerface as widerface
from accuracy_evaluation.output_files import write_json
from accuracy_evaluation.plots import check_plot_path, plotting
from accuracy_evaluation.widerface.ground_truth import SUBSETS
from detection.load import parse_peer
from detection.peers.size import peer_size
from inference_speed_evaluation import inference_speed_eval as speed
from inference_speed_evaluation.machine import describe_machine
from lffd import cli
from lffd.engines.runtime import Precision, Runtime
from lffd.errors import UsageError
from lffd.files import check_output, write_atomic
from symbol_farm.trained_models import params_file


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to compare, on what."""

    model: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Each a shipped name, a model directory, VERSION=FILE (.params, .onnx, .pth), VERSION (random weights where none
    is shipped: cost and latency only), or peer:KIND=FILE (.onnx, .xml)."""
    images: Path
    """Folder that holds the WIDER FACE event folders, such as WIDER_val/images; those that are there are evaluated."""
    ground_truth: Path
    """Folder of the official files wider_face_val.mat and wider_{easy,medium,hard}_val.mat."""
    output_dir: Path
    """Result files of each detector, comparison.json, .md and .png (a chart); a run that was stopped goes on."""
    resolution: str = "640x480"
    """Image size of latency and operations as WIDTHxHEIGHT."""
    engine: str = "onnxruntime"
    """Runs our networks; other projects' always run on ONNX Runtime."""
    precision: Precision = "fp32"
    """Arithmetic of our networks."""
    threads: int = 1
    """CPU threads while latency is measured."""
    seconds: float = 60.0
    """About how long latency is measured, all detectors in turns."""
    image: Path | None = None
    """Picture whose latency is measured, stretched to the resolution; noise by default."""
    overwrite: bool = False
    """Replace results of other settings in the output folder."""

    def __post_init__(self) -> None:
        if not self.model:
            raise UsageError("name at least one detector")
        if len(set(self.folders)) < len(self.model):
            raise UsageError(f"the same detector is named twice: {', '.join(self.model)}")

    @property
    def names(self) -> list[str]:
        """What the table calls each detector: as short as tells them apart."""
        short = [speed.short_name(spec) for spec in self.model]
        return [name if short.count(name) == 1 else spec for name, spec in zip(short, self.model, strict=True)]

    @property
    def folders(self) -> list[str]:
        """The folder of each detector's result files inside the output folder."""
        return [re.sub(r"[^\w.-]+", "_", name).strip("._") or "model" for name in self.names]

    @property
    def latency(self) -> speed.Options:
        """The same as options of the speed command."""
        return speed.Options(
            model=self.model,
            engines=(self.engine,),
            precisions=(self.precision,),
            resolutions=(self.resolution,),
            threads=(self.threads,),
            rounds=1000,
            seconds=self.seconds,
            image=self.image,
        )


@dataclass(frozen=True)
class Compared:
    """One line of the table; a figure that does not exist is None.

    `gmac`: billions of multiply–adds in convolutions for an image of the resolution. `milliseconds`: from image in
    memory to boxes, median and 95th percentile.
    """

    name: str
    easy: float | None
    medium: float | None
    hard: float | None
    parameters: int
    megabytes: float
    gmac: float
    milliseconds: float | None
    slowest_milliseconds: float | None


def size_of(spec: str, width: int, height: int) -> tuple[int, float, float]:
    """Return parameters, megabytes and GMAC at an image size of any detector."""
    if peer := parse_peer(spec):
        parameters, gmac = peer_size(*peer, width, height)
        return parameters, peer[1].stat().st_size / 1e6, gmac
    model, weights = speed.load_weights(spec)
    width, height = model.network.seen_size(width, height)
    gmac = sum(model.network.multiply_adds(height, width).values()) / 1e9
    size = 4 * model.parameter_count if weights == speed.RANDOM else params_file(spec).stat().st_size
    return model.parameter_count, size / 1e6, gmac


def is_random(spec: str) -> bool:
    """Say whether a detector has random weights, so that its accuracy means nothing."""
    return parse_peer(spec) is None and speed.load_weights(spec)[1] == speed.RANDOM


def to_markdown(rows: Sequence[Compared], options: Options, scope: str, machine: str) -> str:
    """Return the table, best on the hard subset first."""
    width, _, height = options.resolution.partition("x")
    ours = f"ours: {options.engine} {options.precision}"
    lines = [
        f"{scope}; latency from image to boxes on {options.threads} CPU thread(s) of {machine} ({ours})",
        "",
        f"| detector | AP easy / medium / hard | parameters | MB | GMAC at {width}×{height} | ms (p95) |",
        "|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: -(row.hard or 0)):
        figures = ("-" if ap is None else f"{ap:.3f}".lstrip("0") for ap in (row.easy, row.medium, row.hard))
        time = "-" if row.milliseconds is None else f"{row.milliseconds:.1f} ({row.slowest_milliseconds:.1f})"
        cells = (row.name, " / ".join(figures), f"{row.parameters:,}", f"{row.megabytes:.1f}", f"{row.gmac:.3f}", time)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw_chart(rows: Sequence[Compared], ours: Sequence[bool], scope: str, path: Path) -> None:
    """Draw AP on the hard subset over latency, our networks filled, as PNG, SVG or PDF.

    Rows without accuracy stand at the lower edge; those without latency are left out.

    Raises:
        UsageError: for a file that another program made.
    """
    with plotting(path, (8, 5)) as axes:
        axes.set(xlabel="ms from image in memory to boxes", ylabel="AP, hard subset")
        axes.set_title(scope, fontsize=9, wrap=True)
        for row, own in zip(rows, ours, strict=True):
            if row.milliseconds is None:
                continue
            if row.hard is None:  # at the lower edge
                edge = axes.get_xaxis_transform()
                axes.plot(row.milliseconds, 0.01, "|", color="C7", transform=edge)
                axes.text(row.milliseconds, 0.03, row.name, rotation=90, fontsize=7, color="C7", transform=edge)
                continue
            axes.plot(row.milliseconds, row.hard, "o", color="C0" if own else "C7", mfc=None if own else "white")
            weight = "bold" if own else "normal"
            axes.annotate(
                row.name, (row.milliseconds, row.hard), (5, 4), textcoords="offset points", fontsize=8, weight=weight
            )
        axes.margins(x=0.15, y=0.1)
        axes.set_xlim(left=0)


def main(options: Options) -> None:
    """Compare detectors: WIDER FACE average precision, parameters, file size, operations and latency in one table.

    Every detector sees the images at their original size, once, scores over 0.02 (those that have a fixed input get
    them stretched to it). Random weights have no accuracy, and are marked. Latency is measured in turns, each detector
    in a process of its own.
    """
    latency, tables = options.latency, (options.output_dir / "comparison.json", options.output_dir / "comparison.md")
    chart = options.output_dir / "comparison.png"
    check_plot_path(chart)
    for path, mark in zip(tables, ('{"machine":', "| detector | AP easy"), strict=True):
        check_output(path, marks=(mark,))
    (width, height), *_ = latency.sizes
    speed.engine_pairs(latency)
    speed.make_images(latency, width, height, batch=1)  # what is wrong with these should be said before the long work
    sizes = [size_of(spec, width, height) for spec in options.model]
    shared: Any = {name: getattr(options, name) for name in ("images", "ground_truth", "overwrite")}
    figures: list[dict[str, Any]] = []
    random = [is_random(spec) for spec in options.model]
    for spec, folder, untrained in zip(options.model, options.folders, random, strict=True):
        if untrained:
            figures.append(dict.fromkeys(SUBSETS))
            continue
        runtime = Runtime() if parse_peer(spec) else Runtime(options.engine, precision=options.precision)
        run = widerface.Options(model=spec, output_dir=options.output_dir / folder, runtime=runtime, **shared)
        figures.append(widerface.evaluate(run)[0])
    times = speed.time_models(latency)
    for time in times:
        if time.error:
            print(f"{time.model}: {time.error}")
    names = [f"{n} ({speed.RANDOM})" if untrained else n for n, untrained in zip(options.names, random, strict=True)]
    scope = next((found["scope"] for found in figures if "scope" in found), "no detector with trained weights")
    rows = [
        Compared(name, found["easy"], found["medium"], found["hard"], *size, time.total_ms, time.total_p95_ms)
        for name, size, found, time in zip(names, sizes, figures, times, strict=True)
    ]
    machine = describe_machine("cpu")
    write_json(tables[0], {"machine": machine, "rows": [asdict(row) for row in rows]})
    table = to_markdown(rows, options, scope, str(machine["cpu"]))
    print(table)
    write_atomic(tables[1], table.encode())
    draw_chart(rows, [not parse_peer(spec) for spec in options.model], scope, chart)


if __name__ == "__main__":
    cli.run(main)
