"""Make an 8-bit or half-precision model directory, with what it costs measured and written on its card."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from accuracy_evaluation.evaluation_on_pack import detect_records
from data_provider_farm.pack_format.packed_file import PackReader
from deployment.calibration import RangeRule, collect_ranges
from deployment.parity import Parity, measure_parity, named_maps
from deployment.quantized_graph import quantized_onnx
from detection.load import load_detector
from detection.selection import Selection
from lffd import cli
from lffd.engines import onnxruntime_engine, openvino_engine
from lffd.engines.factory import AUTO_ORDER, ENGINES, create_engine, install_command
from lffd.engines.runtime import Precision, Runtime
from lffd.errors import DataError, EngineError, ModelError, UsageError
from lffd.images.encoded import decode, shrink
from lffd.images.files import list_images
from lffd.model import Model, check_target, save_model
from lffd.untrusted import read_file
from metric_farm.average_precision import average_precision
from symbol_farm.trained_models import resolve_model

INT8_FILES = (onnxruntime_engine.INT8_FILE, openvino_engine.INT8_FILE)

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
    """Refuse a model that loses more average precision than this (with --val-data)."""
    seed: int = 0
    """Of the choice of images."""

    def __post_init__(self) -> None:
        if self.images < 1:
            raise UsageError(f"--images must be at least 1, not {self.images}")

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
    shrunk = (_shrunk(image) for image in _random_images(source, seed))
    found = list(islice((image for image in shrunk if min(image.shape[:2]) >= smallest), count))
    if not found:
        raise DataError(
            f"{source}: no image has both sides over {smallest} px (longer sides are shrunk to {LONGEST_SIDE})"
        )
    return found


def _random_images(source: Path, seed: int) -> Iterator[NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    if source.is_dir():
        paths = list_images(source)
        for index in rng.permutation(len(paths)):
            yield decode(read_file(paths[index]), str(paths[index]))
        return
    with PackReader(source) as pack:
        if not len(pack):
            raise DataError(f"{source}: holds no records")
        for index in rng.permutation(len(pack)):
            record = pack[int(index)]
            yield decode(record.image, f"{source}: record {index} ({record.name})")


def _shrunk(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    factor = LONGEST_SIDE / max(height, width)
    return image if factor >= 1 else shrink(image, max(1, round(width * factor)), max(1, round(height * factor)))


def reduce_model(model: Model, images: list[NDArray[np.uint8]], options: Options) -> Model:
    """Return the model in the asked precision, not yet measured.

    Raises:
        ModelError: when parameters do not fit into fp16, or the network cannot be quantised.
    """
    if options.precision == "int8":
        ranges = collect_ranges(model, images, [options.ranges])[options.ranges]
        files = {
            onnxruntime_engine.INT8_FILE: quantized_onnx(model, ranges, "onnxruntime").SerializeToString(),
            openvino_engine.INT8_FILE: quantized_onnx(model, ranges, "openvino").SerializeToString(),
        }
        return replace(model, extra_files={**model.extra_files, **files})
    if options.precision == "fp16":
        with np.errstate(over="ignore"):
            rounded = {name: value.astype(np.float16).astype(np.float32) for name, value in model.params.items()}
        return replace(model, params=rounded)
    return model


def engines_for(arithmetic: str) -> list[str]:
    """Return the installed engines that compute in an arithmetic on a CPU.

    Raises:
        EngineError: when none is installed.
    """
    names = [name for name in AUTO_ORDER[arithmetic] if ENGINES[name].installed and "cpu" in ENGINES[name].devices]
    if not names:
        commands = " or ".join(install_command(name) for name in AUTO_ORDER[arithmetic])
        raise EngineError(f"no installed engine computes in {arithmetic}; install one with: {commands}")
    return names


def measure_engine(
    model: Model, reduced: Model, images: list[NDArray[np.uint8]], engine: str, precision: str
) -> Parity:
    """Return how far a reduced model on an engine is from the full one on MXNet, over single images."""
    runner = create_engine(reduced, Runtime(engine, precision=precision))
    reference = create_engine(model, Runtime("mxnet"))
    return measure_parity(
        (f"{engine} {precision}", lambda x: named_maps(runner.run(x))),
        ("MXNet fp32", lambda x: named_maps(reference.run(x))),
        [image[None] for image in images],
    )


def measure_ap(model: Model, pack: Path, engine: str, precision: str) -> float:
    """Return the average precision at IoU 0.5 of a model on a pack, at original image size.

    Raises:
        DataError: for a damaged or empty pack.
    """
    with TemporaryDirectory(prefix="lffd-quantize-") as folder, PackReader(pack) as source:
        save_model(model, Path(folder, "model"))
        detector = load_detector(str(Path(folder, "model")), runtime=Runtime(engine, precision=precision))
        truth, found, _ = detect_records(detector, source)
    return average_precision(truth, found, Selection().max_detections).ap50


def check_drop(before: float, after: dict[str, float], limit: float) -> None:
    """Refuse a reduced model that loses too much.

    Raises:
        ModelError: naming each engine's loss.
    """
    lost = {engine: before - value for engine, value in after.items()}
    if any(not drop <= limit for drop in lost.values()):
        listed = ", ".join(f"{engine} {drop:.4f} (from {before:.4f})" for engine, drop in lost.items())
        raise ModelError(
            f"average precision drops by more than {limit:g}: {listed}. Nothing was written; try more --images, the "
            "other --ranges, images closer to those it will see, or a higher --max-drop"
        )


def main(options: Options) -> None:
    """Write a model directory for int8, bf16 or fp16, with its size, parity and loss of accuracy on the card.

    The float parameters stay in the directory, so every engine still runs it; ask for the reduced arithmetic with
    `--precision` where a model runs.
    """
    check_target(options.output_dir)
    if options.val_data is not None:
        PackReader(options.val_data).close()  # a pack that cannot be opened shows before the long work
    model = resolve_model(options.model)
    engines = engines_for(options.arithmetic)[: 1 if options.precision == "fp16" else None]
    wanted = options.images + HELD_OUT
    images = read_images(options.calibration, wanted, options.seed, model.network.minimum_input)
    used, held_out = images[: options.images], images[options.images :] or images[-HELD_OUT:]
    reduced = reduce_model(model, used, options)
    measured: dict[str, dict[str, Any]] = {}
    for engine in engines:
        parity = measure_engine(model, reduced, held_out, engine, options.arithmetic)
        print(parity.to_text())
        measured[engine] = {"parity": parity.to_dict()}
    if options.val_data is not None:
        before = measure_ap(model, options.val_data, engines[0], "fp32")
        after = {engine: measure_ap(reduced, options.val_data, engine, options.arithmetic) for engine in engines}
        for engine, value in after.items():
            print(f"AP at IoU 0.5 on {options.val_data.name}: {before:.4f} in fp32, {value:.4f} on {engine}")
            measured[engine]["accuracy"] = {"pack": options.val_data.name, "ap50_fp32": before, "ap50": value}
        check_drop(before, after, options.max_drop)
    else:
        print("accuracy was not measured: give a pack with --val-data")
    write(reduced, options, len(used), measured)


def write(reduced: Model, options: Options, calibrated: int, measured: dict[str, dict[str, Any]]) -> None:
    """Write the directory, and say where and how large it is."""
    sizes = {name: len(reduced.extra_files[name]) for name in INT8_FILES if name in reduced.extra_files}
    entry: dict[str, Any] = {"precision": options.precision, "engines": measured, "bytes": sizes}
    if options.precision == "int8":
        source = {"source": options.calibration.name, "images": calibrated, "seed": options.seed}
        entry["calibration"] = {**source, "ranges": options.ranges}
    card = {**reduced.card, "quantization": entry}
    stored = "float16" if options.precision == "fp16" else reduced.stored_precision
    save_model(replace(reduced, card=card), options.output_dir, stored)
    for path in sorted(options.output_dir.iterdir()):
        print(f"  {path.name:20} {path.stat().st_size / 1e6:7.2f} MB")
    print(f"wrote {options.output_dir}; run it with --precision {options.arithmetic}")


if __name__ == "__main__":
    cli.run(main)
