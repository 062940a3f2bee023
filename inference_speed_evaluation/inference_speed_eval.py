"""Time networks on engines, resolutions, precisions, threads and batches, against each other in one run."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from accuracy_evaluation.output_files import write_json
from accuracy_evaluation.plots import check_plot_path
from deployment.calibration import collect_ranges
from deployment.quantized_graph import with_8_bit_graphs
from detection.load import parse_peer
from detection.selection import Selection
from detection.views import ViewSettings
from inference_speed_evaluation.machine import describe_machine
from inference_speed_evaluation.processes import WorkerProcess
from inference_speed_evaluation.speed_report import detail_table, latency_tables, plot_latency, to_csv
from inference_speed_evaluation.sweep import Contender, Effort, Row, Setting, measure_setting, with_peak
from lffd import cli
from lffd.engines.base import gpu_number
from lffd.engines.factory import AUTO_ORDER, ENGINES, installed_kind
from lffd.engines.runtime import Precision
from lffd.errors import EngineError, UsageError
from lffd.files import check_output, write_atomic
from lffd.graphs.model import Model, make_model, save_model
from lffd.images.files import read_image
from lffd.limits import check_limits
from lffd.training.initialization import initial_arrays
from symbol_farm.own_version import is_version_file
from symbol_farm.trained_models import resolve_model, shipped_models
from symbol_farm.versions import SYSTEMS, VERSIONS, version_network

RANDOM = "random weights"

SMALLEST = ViewSettings().minimum_side

SIZES = ("160x140", "320x240", "640x480", "1280x720", "1920x1080", "3840x2160", "7680x4320")
"""The sizes of the published tables."""

MOST_IMAGES, MOST_PIXELS = 1024, 1 << 28
"""What one pass may hold."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to time, where, and how long."""

    model: tuple[str, ...]
    """One or more: shipped name, model directory, VERSION=FILE (.params, .onnx, .pth), VERSION or a version's own file
    (random weights where none is shipped), or peer:KIND=FILE (.onnx, .xml)."""
    engines: tuple[str, ...] | None = None
    """Engines that run our networks; every installed one by default."""
    precisions: tuple[Precision, ...] = ("fp32",)
    """Arithmetic; each engine takes part in what it has. int8 needs a directory made by lffd quantize."""
    resolutions: tuple[str, ...] = SIZES[:4]
    """Image sizes as WIDTHxHEIGHT; the published tables go from 160x140 to 7680x4320."""
    threads: tuple[int, ...] = (1,)
    """Numbers of CPU threads."""
    batches: tuple[int, ...] = (1,)
    """Numbers of images per pass."""
    device: str = "cpu"
    """cpu, gpu:0, gpu:1, ..."""
    rounds: int = 30
    """Most rounds per setting; in each, every row runs once, in turning order."""
    seconds: float = 30.0
    """Go on to the next setting after about so long (three rounds at least)."""
    warmup: int = 2
    """Passes before the clock runs."""
    score_threshold: float = 0.3
    """Candidates must score more to enter suppression."""
    image: Path | None = None
    """Picture to run, stretched to each size; noise by default, in which a network finds little."""
    json: Path | None = None
    """Write machine and rows here."""
    csv: Path | None = None
    """Write the rows here."""
    markdown: Path | None = None
    """Write the tables here."""
    plot: Path | None = None
    """Draw latency over image size (PNG, SVG or PDF)."""

    def __post_init__(self) -> None:
        check_limits(self, "threads")
        if any(not 1 <= batch <= MOST_IMAGES for batch in self.batches):
            raise UsageError(f"--batches must be at least 1 and at most {MOST_IMAGES}")
        if self.rounds < 1 or self.warmup < 0 or not 0 <= self.seconds < math.inf:
            raise UsageError("--rounds must be at least 1, --warmup and --seconds at least 0")
        if self.plot is not None:
            check_plot_path(self.plot)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Width and height of every image size."""
        sizes = {text: cli.parse_size(text) for text in self.resolutions}
        for text, size in sizes.items():
            if min(size) < SMALLEST:
                raise UsageError(f"{text}: prediction enlarges images under {SMALLEST} px, so choose larger sizes")
            if math.prod(size) > MOST_PIXELS:
                raise UsageError(f"{text}: images of more than {MOST_PIXELS:,} pixels are not timed")
        return list(sizes.values())


def short_name(spec: str) -> str:
    """Return what tables call a model: a peer without its folder, a directory by its own name, others as written."""
    if peer := parse_peer(spec):
        return f"{peer[0]}:{peer[1].name}"
    return Path(spec).name if Path(spec).is_dir() else spec


def load_weights(spec: str) -> tuple[Model, str]:
    """Return a model and where its weights are from; a version without trained weights gets random ones."""
    if is_version_file(spec):
        return random_weights(spec), RANDOM
    full = VERSIONS.get(spec, spec)
    if full not in (*VERSIONS.values(), *SYSTEMS):
        return resolve_model(spec), short_name(spec)
    for folder in shipped_models().values():
        if (model := resolve_model(folder)).network.name == full:
            return model, folder.name
    return random_weights(spec), RANDOM


def random_weights(version: str) -> Model:
    """Return a model of a version with random weights."""
    network = version_network(version)
    start = initial_arrays(network, batch_norm=False, seed=0, style="prior")
    return make_model(network, {name.removeprefix("arg:"): value for name, value in start.items()})


def quantized(model: Model) -> Model:
    """Return a model of random weights with 8-bit graphs, calibrated on noise: fit for timing only."""
    side = 64 + model.network.minimum_input
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return with_8_bit_graphs(model, collect_ranges(model, [noise], ["minmax"])["minmax"])


def engine_pairs(options: Options) -> list[tuple[str, str]]:
    """Return every engine with every precision that it has.

    Raises:
        UsageError: for an unknown engine, or a precision that none of them has.
        EngineError: for one that is named but not installed.
    """
    sort = "cpu" if gpu_number(options.device) is None else "gpu"
    if options.engines is None:
        names = [name for name, kind in ENGINES.items() if kind.installed and sort in kind.devices]
    else:
        names = [name for name in options.engines if installed_kind(name)]
    for precision in options.precisions:
        if not any(precision in ENGINES[name].precisions for name in names):
            able = " or ".join(AUTO_ORDER[precision])
            raise UsageError(f"none of {', '.join(names)} computes in {precision}; add {able} to --engines")
    return [pair for pair in product(names, options.precisions) if pair[1] in ENGINES[pair[0]].precisions]


def gather_contenders(options: Options, folder: Path) -> list[Contender]:
    """Return everything that is timed; our networks are written to `folder`, so that all workers load the same."""
    pairs = engine_pairs(options)
    found = []
    for number, spec in enumerate(options.model):
        if parse_peer(spec) is not None:
            found.append(Contender(short_name(spec), "peer", spec, "onnxruntime", "fp32", None))
            continue
        model, weights = load_weights(spec)
        if weights == RANDOM and "int8" in options.precisions:
            model = quantized(model)
        place = folder / str(number)
        save_model(model, place)
        found += [Contender(short_name(spec), weights, str(place), *pair, model.network) for pair in pairs]
    return found


def make_images(options: Options, width: int, height: int, batch: int) -> NDArray[np.uint8]:
    """Return the images to run, `(B, H, W, 3)` uint8 BGR."""
    if options.image is None:
        return np.random.default_rng(0).integers(0, 256, (batch, height, width, 3), dtype=np.uint8)
    import cv2

    picture = cv2.resize(read_image(options.image), (width, height), interpolation=cv2.INTER_AREA)
    return np.repeat(np.asarray(picture, np.uint8)[None], batch, axis=0)


def measure_peaks(options: Options, known: Mapping[int, float]) -> dict[int, float]:
    """Return the matrix peak in GFLOP/s by number of threads, or the `known` one where that was higher.

    It is measured before and after the networks, since other work on the machine can only lower it. Empty where a GPU
    does the work.
    """
    if gpu_number(options.device) is not None:
        return {}
    peaks = {}
    for threads in options.threads:
        with WorkerProcess(threads, "matrix peak") as worker:
            peaks[threads] = max(float(worker.ask(do="peak")["gflops"]), known.get(threads, 0))
    return peaks


def time_models(options: Options) -> list[Row]:
    """Return the rows of every setting."""
    selection = Selection(score_threshold=options.score_threshold)
    effort = Effort(options.rounds, options.seconds, options.warmup)
    settings = list(product(options.threads, options.batches, options.sizes))
    rows: list[Row] = []
    with TemporaryDirectory(prefix="lffd-speed-") as folder:
        contenders, images = gather_contenders(options, Path(folder)), Path(folder, "images.npy")
        for threads, batch, (width, height) in tqdm(settings, "settings", unit="setting", disable=None):
            np.save(images, make_images(options, width, height, batch))
            setting = Setting(width, height, batch, threads, options.device)
            rows += measure_setting(contenders, setting, images=images, selection=selection, effort=effort)
    return rows


def main(options: Options) -> None:
    """Time networks on engines, from an image in memory to boxes, and compare them with MXNet.

    Every row runs in a process of its own with the asked number of threads. A round runs each row once, and ratios are
    taken round by round, so they hold on noisy machines too; their quartiles are given.
    """
    check_output(options.json, marks=('{"machine":',))
    check_output(options.csv, marks=("model,weights,engine",))
    check_output(options.markdown, marks=("Latency from image in memory",))
    machine, sizes = describe_machine(options.device), len(options.sizes)
    engine_pairs(options)  # refuses what cannot be before anything is measured
    peaks = measure_peaks(options, {})
    rows = time_models(options)
    peaks = measure_peaks(options, peaks)
    if all(row.error for row in rows):
        raise EngineError(f"nothing could be timed at {sizes} sizes: {rows[0].error}")
    rows = [with_peak(row, peaks) for row in rows]
    machine["matrix_gflops"] = {str(threads): peak for threads, peak in peaks.items()}
    rates = ", ".join(f"{peak:.0f} GFLOP/s on {threads} thread(s)" for threads, peak in peaks.items())
    title = machine["card"]["name"] if "card" in machine else machine["cpu"]
    text = f"{title}; matrix products in float32: {rates}" if rates else title
    text = f"{text}\n\n{latency_tables(rows)}\n\n{detail_table(rows)}\n"
    print(text)
    if options.json is not None:
        write_json(options.json, {"machine": machine, "rows": [asdict(row) for row in rows]})
    for path, content in ((options.csv, to_csv(rows)), (options.markdown, text)):
        if path is not None:
            write_atomic(path, content.encode())
    if options.plot is not None:
        plot_latency(rows, str(machine["cpu"]), options.plot)


if __name__ == "__main__":
    cli.run(main)
