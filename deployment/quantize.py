"""Make an 8-bit or half-precision model directory, with what it costs measured and written on its card."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from accuracy_evaluation.evaluation_on_pack import detect_records
from data_provider_farm.pack_format.packed_file import PackReader
from deployment.calibration import RangeRule, collect_ranges
from deployment.parity import measure_engine
from deployment.quantized_graph import INT8_FILES, with_8_bit_graphs
from detection.crew import Crew
from detection.detector import Detector
from detection.selection import Selection
from lffd import cli
from lffd.engines.factory import AUTO_ORDER, ENGINES, install_command
from lffd.engines.runtime import Precision, Runtime
from lffd.errors import DataError, EngineError, ModelError
from lffd.files import OutputFolder
from lffd.graphs.model import Model, check_target, save_model
from lffd.images.encoded import decode, shrink
from lffd.images.files import list_images
from lffd.limits import check_limits
from lffd.untrusted import read_file
from metric_farm.average_precision import average_precision
from symbol_farm.trained_models import resolve_model

LONGEST_SIDE = 640
"""Calibration images are shrunk to this: every map of the network is held in memory at once."""

HELD_OUT = 8
"""Further images, on which parity is measured."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to reduce, with which images, and how much it may cost."""

    model: str
    """Shipped name, model directory, or VERSION=FILE.params."""
    calibration: Path
    """Images like those it will see: a pack (FILE.rec) or a folder. Take them from the training data."""
    output_dir: Path
    """The model directory to write."""
    precision: Literal["int8", "bf16", "fp16"] = "int8"
    """int8: 8-bit convolutions; bf16: measured as it runs in bf16; fp16: parameters stored in half the space."""
    images: int = 64
    """How many images to calibrate with, chosen at random."""
    ranges: RangeRule = "clip"
    """clip: leave out rare values where that makes the error smaller; minmax: cover everything that was seen."""
    val_data: Path | None = None
    """A pack to measure average precision on, before and after."""
    max_drop: float = 0.01
    """Leave out an engine that loses more average precision than this (with --val-data); refuse when all do."""
    seed: int = 0
    """Of the choice of images."""

    def __post_init__(self) -> None:
        check_limits(self, "images", "seed")

    @property
    def arithmetic(self) -> Precision:
        """What it is measured in; parameters stored in fp16 are widened as they are read."""
        return "fp32" if self.precision == "fp16" else self.precision


def read_images(source: Path, count: int, seed: int, smallest: int) -> list[NDArray[np.uint8]]:
    """Return up to `count` random images `(H, W, 3)` uint8 BGR of a pack or folder, shrunk to `LONGEST_SIDE`.

    Images with a side under `smallest` after that are left out.

    Raises:
        DataError: when none is left, or one cannot be read.
    """
    found = list(islice((image for image in _random_images(source, seed) if min(image.shape[:2]) >= smallest), count))
    if not found:
        raise DataError(
            f"{source}: no image has both sides over {smallest} px (longer sides are shrunk to {LONGEST_SIDE})"
        )
    return found


def _random_images(source: Path, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the images of a pack or folder in random order, shrunk."""
    rng = np.random.default_rng(seed)
    if source.is_dir():
        paths = list_images(source)
        for index in rng.permutation(len(paths)):
            yield _shrunk(read_file(paths[index]), str(paths[index]))
        return
    with PackReader(source) as pack:
        if not len(pack):
            raise DataError(f"{source}: holds no records")
        for index in rng.permutation(len(pack)):
            record = pack[int(index)]
            yield _shrunk(record.image, f"{source}: record {index} ({record.name})")


def _shrunk(data: bytes, name: str) -> NDArray[np.uint8]:
    """Return a decoded image whose longer side is at most `LONGEST_SIDE`."""
    image = decode(data, name)
    height, width = image.shape[:2]
    factor = LONGEST_SIDE / max(height, width)
    return image if factor >= 1 else shrink(image, max(1, round(width * factor)), max(1, round(height * factor)))


def reduce_model(model: Model, images: list[NDArray[np.uint8]], options: Options) -> Model:
    """Return the model in the asked precision, not yet measured.

    Raises:
        ModelError: when parameters do not fit into fp16, or the network cannot be quantised.
    """
    if options.precision == "int8":
        return with_8_bit_graphs(model, collect_ranges(model, images, [options.ranges])[options.ranges])
    if options.precision == "fp16":
        with np.errstate(over="ignore"):
            rounded = {name: value.astype(np.float16).astype(np.float32) for name, value in model.params.items()}
        return replace(model, params=rounded)
    return model


def engines_for(arithmetic: str) -> list[str]:
    """Return the installed engines that compute in an arithmetic on a CPU; none is an `EngineError`."""
    names = [name for name in AUTO_ORDER[arithmetic] if ENGINES[name].installed and "cpu" in ENGINES[name].devices]
    if not names:
        commands = " or ".join(install_command(name) for name in AUTO_ORDER[arithmetic])
        raise EngineError(f"no installed engine computes in {arithmetic}; install one with: {commands}")
    return names


def measure_ap(model: Model, pack: Path, engine: str, precision: str) -> float:
    """Return the average precision at IoU 0.5 of a model on a pack, at original image size."""
    selection = Selection()
    with PackReader(pack) as source:
        crew = Crew(lambda runtime: Detector(model, selection, runtime=runtime), Runtime(engine, precision=precision))
        truth, found, _ = detect_records(crew, source)
    return average_precision(truth, found, selection.max_detections).ap50


def losing_engines(before: float, after: dict[str, float], limit: float) -> dict[str, str]:
    """Return by name, as text, what engines lose that lose more average precision than `limit`; refuse when all do."""
    lost = {engine: before - value for engine, value in after.items()}
    losing = {engine: f"{drop:.4f} (from {before:.4f})" for engine, drop in lost.items() if not drop <= limit}
    if len(losing) == len(after):
        listed = ", ".join(f"{engine} {text}" for engine, text in losing.items())
        raise ModelError(
            f"average precision drops by more than {limit:g}: {listed}. Nothing was written; try more --images, the "
            "other --ranges, images closer to those it will see, or a higher --max-drop"
        )
    return losing


def measure_losses(
    model: Model, reduced: Model, measured: dict[str, dict[str, Any]], options: Options
) -> tuple[Model, dict[str, dict[str, Any]]]:
    """Measure average precision in full and on every engine, and leave out the engines that lose too much.

    Returns the reduced model without their files, and what was `measured` on the others.
    """
    pack, limit = options.val_data, options.max_drop
    if pack is None:
        print("accuracy was not measured: give a pack with --val-data")
        return reduced, measured
    before = measure_ap(model, pack, next(iter(measured)), "fp32")
    after = {engine: measure_ap(reduced, pack, engine, options.arithmetic) for engine in measured}
    for engine, value in after.items():
        print(f"AP at IoU 0.5 on {pack.name}: {before:.4f} in fp32, {value:.4f} on {engine}")
        measured[engine]["accuracy"] = {"pack": pack.name, "ap50_fp32": before, "ap50": value}
    files: dict[str, bytes] = dict(reduced.extra_files)
    for engine, text in losing_engines(before, after, limit).items():
        print(f"warning: {engine} loses {text}, more than --max-drop {limit:g}: it is left out", file=sys.stderr)
        del measured[engine]
        files.pop(INT8_FILES.get(engine, ""), None)
    return replace(reduced, extra_files=files), measured


def main(options: Options) -> None:
    """Write a model directory for int8, bf16 or fp16, with its size, parity and loss of accuracy on the card.

    The float parameters stay in the directory, so every engine still runs it; ask for the reduced arithmetic with
    `--precision` where a model runs. An engine that loses too much is left out, with its file.
    """
    check_target(options.output_dir)
    if options.val_data is not None:
        PackReader(options.val_data).close()  # a pack that cannot be opened shows before the long work
    model = resolve_model(options.model)
    engines = engines_for(options.arithmetic)[: 1 if options.precision == "fp16" else None]
    wanted = options.images + HELD_OUT
    images = read_images(options.calibration, wanted, options.seed, model.network.minimum_input)
    used, held_out = images[: options.images], images[options.images :] or images[-HELD_OUT:]
    with OutputFolder(options.output_dir, beside=True):
        reduced = reduce_model(model, used, options)
        measured: dict[str, dict[str, Any]] = {}
        for engine in engines:
            runtime = Runtime(engine, precision=options.arithmetic)
            parity = measure_engine(model, reduced, runtime, [image[None] for image in held_out])
            print(parity.to_text())
            measured[engine] = {"parity": parity.to_dict()}
        reduced, measured = measure_losses(model, reduced, measured, options)
        write(reduced, options, len(used), measured)


def write(reduced: Model, options: Options, calibrated: int, measured: dict[str, dict[str, Any]]) -> None:
    """Write the directory, and say where and how large it is."""
    sizes = {name: len(data) for name, data in reduced.extra_files.items() if name in INT8_FILES.values()}
    entry: dict[str, Any] = {"precision": options.precision, "engines": measured, "bytes": sizes}
    if options.precision == "int8":
        source = {"source": options.calibration.name, "images": calibrated, "seed": options.seed}
        entry["calibration"] = {**source, "ranges": options.ranges}
    card = {**reduced.card, "quantization": entry}
    stored = "float16" if options.precision == "fp16" else reduced.stored_precision
    save_model(replace(reduced, card=card), options.output_dir, stored)
    for path in sorted(options.output_dir.iterdir()):
        print(f"  {path.name:20} {path.stat().st_size / 1e6:7.2f} MB")
    use = f"run it with --precision {options.precision} on {' or '.join(measured)}"
    if options.precision == "fp16":
        use = "parameters are stored in 16 bits; it runs like any model, in fp32, without a flag"
    print(f"wrote {options.output_dir}; {use}")


if __name__ == "__main__":
    cli.run(main)
