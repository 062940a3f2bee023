"""Export a model to ONNX, checked by running it against another engine before anything is written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from numpy.typing import NDArray

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deployment.decoded_graph import GraphSuppression, decoded_onnx
from deployment.layouts import LAYOUTS, layout_onnx
from deployment.parity import (
    TOLERANCE,
    Outputs,
    Parity,
    Run,
    measure_parity,
    named_maps,
    probe_images,
    reference_engine,
)
from deployment.quantized_graph import INT8_FILES
from detection.decoding import decode
from lffd import cli
from lffd.boxes import clip, suppress
from lffd.engines import BranchMaps
from lffd.engines.onnxruntime_engine import open_session
from lffd.errors import ModelError, UsageError
from lffd.files import check_output, write_atomic
from lffd.graphs.graph import Graph
from lffd.graphs.model import Model
from lffd.graphs.network import Network
from lffd.graphs.onnx_graph import InputForm, Size, image_position, maps_onnx, normalisation
from lffd.hints import unknown
from symbol_farm.trained_models import resolve_model


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to export, and in which form."""

    model: str
    """Shipped name, model directory, or VERSION=FILE.params."""
    output: Path
    """The ONNX file to write."""
    decoded: bool = False
    """Outputs boxes (B, N, 4) in pixels and scores (B, N) instead of raw maps per branch; landmarks (B, N, 5, 2) too
    where the model has them."""
    suppressed: bool = False
    """Suppression inside too: outputs boxes (K, 4), scores (K,), images (K,), and landmarks (K, 5, 2)."""
    layout: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(LAYOUTS) + "}")] | None = None
    """Outputs with the names, shapes and order of another project's detector instead."""
    input: InputForm = "nchw-float"
    """nchw-float: float (B, 3, H, W); nhwc-uint8: bytes (B, H, W, 3) as a camera gives them. Both BGR, 0–255."""
    fixed_shape: str | None = None
    """WIDTHxHEIGHT, such as 640x480: take one image of this size only, for converters that want every shape known."""
    precision: Literal["fp32", "int8"] | None = None
    """int8: the 8-bit graph that a directory made by lffd quantize holds, as it is: bytes in, raw maps out. Such a
    directory must be asked for one of the two; all others give fp32."""
    int8_for: Literal["onnxruntime", "openvino"] = "onnxruntime"
    """Which of the directory's 8-bit graphs: each is shaped for the engine that runs it fastest."""
    normalization: Literal["inside", "outside"] = "inside"
    """outside: you bring normalised pixels yourself, (pixel - 127.5) / 127.5 for the networks of the paper."""
    score_threshold: float = 0.02
    """With --suppressed: detections must score more."""
    suppression_threshold: float = 0.45
    """With --suppressed: a box that overlaps a better one by more (intersection over union) is dropped."""
    max_detections: int = 750
    """With --suppressed: kept per image."""
    tolerance: float = TOLERANCE
    """Largest difference from the reference engine, of scores and of box codes; more refuses the export."""

    def __post_init__(self) -> None:
        if self.layout is not None and self.layout not in LAYOUTS:
            raise UsageError(unknown(self.layout, LAYOUTS, "layout"))
        if self.layout is not None and (self.decoded or self.suppressed):
            raise UsageError("--layout says what the outputs are: leave out --decoded and --suppressed")


def decode_maps(network: Network, maps: list[BranchMaps]) -> Outputs:
    """Return what the decoded graph must give for an engine's maps; see `decoded_graph.decoded_onnx`."""
    batch, everything = range(len(maps[0]["score"])), sum(branch["score"][0].size for branch in maps)
    listed = [decode(maps, network.branch_geometry, -1, everything, row=row) for row in batch]
    names = ("boxes", "scores", *(["landmarks"] if "landmarks" in network.outputs else []))
    return {name: np.stack([getattr(row, name) for row in listed]) for name in names}


def box_codes(network: Network, outputs: Outputs, images: NDArray[np.uint8]) -> Outputs:
    """Return decoded outputs with boxes and points in units of their prediction, so that one tolerance fits all."""
    sizes = network.map_sizes(images.shape[1], images.shape[2])
    listed = zip(network.branch_geometry, sizes, strict=True)
    parts = [np.repeat(branch.units, rows * columns, axis=0) for branch, (rows, columns) in listed]
    size = np.concatenate(parts).astype(np.float32)
    sizes_of = {"boxes": np.tile(size, 2), "scores": np.ones(1, np.float32), "landmarks": size[:, None]}
    return {name: values / sizes_of[name] for name, values in outputs.items()}


def session_run(graph: Graph, content: bytes, form: InputForm, normalised: bool) -> Run:
    """Return a function that runs an ONNX file with ONNX Runtime on uint8 images, as its user would."""
    session = open_session(content)
    source = session.get_inputs()[0].name
    names = [output.name for output in session.get_outputs()]

    def run(images: NDArray[np.uint8]) -> Outputs:
        data: NDArray[Any] = images
        if form == "nchw-float":
            data = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32)
            offset, factor = normalisation(graph, image_position(graph))
            data = (data - offset.astype(np.float32)) / factor.astype(np.float32) if normalised else data
        return dict(zip(names, session.run(names, {source: data}), strict=True))

    return run


def check_suppression(
    network: Network, suppressed: Run, decoded: Run, rule: GraphSuppression, fixed: Size | None = None
) -> None:
    """Compare suppression inside a graph with ours, on the same candidates; a `ModelError` says where they differ."""
    for images in probe_images(network, fixed=fixed):
        found, candidates = suppressed(images), decoded(images)
        for index, (boxes, scores) in enumerate(zip(candidates["boxes"], candidates["scores"], strict=True)):
            over = np.flatnonzero(scores > rule.score_threshold)
            kept = over[suppress(boxes[over], scores[over], rule.overlap_threshold, limit=rule.max_detections)]
            mine, inside = found["images"] == index, clip(boxes[kept], images.shape[2], images.shape[1])
            pairs = [(found["boxes"][mine], inside), (found["scores"][mine], scores[kept])]
            if "landmarks" in candidates:
                pairs.append((found["landmarks"][mine], candidates["landmarks"][index][kept]))
            if any(a.shape != b.shape or not np.allclose(a, b, rtol=1e-5, atol=1e-4) for a, b in pairs):
                raise ModelError(
                    f"suppression inside the graph keeps {int(mine.sum())} boxes where ours keeps {kept.size} on "
                    f"images {images.shape}, or other ones, so the file was not written"
                )


def build(model: Model, options: Options) -> tuple[bytes, Parity]:
    """Return the file's content and its parity, both checked; suppression is checked apart, on the same candidates.

    Raises:
        ModelError: when the graph's outputs differ too much from the reference's.
    """
    normalised, network = options.normalization == "outside", model.network
    layout = LAYOUTS[options.layout] if options.layout else None
    make: Callable[..., Any] = decoded_onnx if options.decoded or options.suppressed else maps_onnx
    if options.layout:
        make = partial(layout_onnx, layout=options.layout)
    fixed = cli.parse_size(options.fixed_shape)[::-1] if options.fixed_shape else None
    content = make(model, options.input, normalised, fixed=fixed).SerializeToString()
    run = session_run(model.graph, content, options.input, normalised)
    title, reference = reference_engine(model, "onnxruntime")

    def found(images: NDArray[np.uint8]) -> Outputs:
        return box_codes(network, run(images), images) if make is decoded_onnx else run(images)

    def expected(images: NDArray[np.uint8]) -> Outputs:
        maps = reference.run(images)
        if layout is not None:
            return layout.compute(network, maps, *images.shape[1:3])
        return named_maps(maps) if make is maps_onnx else box_codes(network, decode_maps(network, maps), images)

    parity = measure_parity((options.output.name, found), (title, expected), probe_images(network, fixed=fixed))
    parity.check(options.tolerance)
    if options.suppressed:
        rule = GraphSuppression(options.score_threshold, options.suppression_threshold, options.max_detections)
        content = decoded_onnx(model, options.input, normalised, rule, fixed).SerializeToString()
        check_suppression(network, session_run(model.graph, content, options.input, normalised), run, rule, fixed)
    return content, parity


def wants_int8(model: Model, options: Options) -> bool:
    """Say whether the 8-bit graph is to be written; a `UsageError` where a quantised model leaves it open."""
    quantised = [name for name in INT8_FILES.values() if name in model.extra_files]
    if quantised and options.precision is None:
        raise UsageError(
            f"{options.model} is quantised: say --precision int8 for its 8-bit graph (with --input nhwc-uint8), or "
            "--precision fp32 for the float network"
        )
    if options.precision != "int8":
        return False
    if (name := INT8_FILES[options.int8_for]) not in quantised:
        has = f"only {', '.join(quantised)}" if quantised else "no 8-bit graph; make one with lffd quantize"
        raise UsageError(f"--precision int8: {options.model} has no {name}, but {has}")
    shaped = options.decoded or options.suppressed or options.fixed_shape
    if shaped or (options.input, options.normalization) != ("nhwc-uint8", "inside"):
        raise UsageError(
            "--precision int8: an 8-bit graph takes bytes and gives raw maps: give --input nhwc-uint8, without "
            "--decoded, --suppressed, --fixed-shape and --normalization outside"
        )
    return True


def build_int8(model: Model, options: Options) -> tuple[bytes, Parity]:
    """Return the 8-bit graph of a model directory, and how far it is from the float network, which its card has too."""
    content = model.extra_files[INT8_FILES[options.int8_for]]
    title, reference = reference_engine(model, "onnxruntime")
    found = session_run(model.graph, content, "nhwc-uint8", normalised=False)
    sides = ((options.output.name, found), (f"{title} fp32", lambda images: named_maps(reference.run(images))))
    return content, measure_parity(*sides, probe_images(model.network))


def main(options: Options) -> None:
    """Export a model to ONNX with batch, height and width left open, or for one size (--fixed-shape).

    The file is run with ONNX Runtime on images of several sizes and compared with MXNet or PyTorch, whichever is
    installed (else with the engine that runs our networks on ONNX Runtime); when an output differs by more than the
    tolerance, nothing is written.
    """
    if not options.output.parent.is_dir():
        raise UsageError(f"{options.output.parent} is not a folder; make it first, or choose another --output")
    check_output(options.output, marks=("lffd",))
    model = resolve_model(options.model)
    content, parity = build_int8(model, options) if wants_int8(model, options) else build(model, options)
    write_atomic(options.output, content)
    print(parity.to_text())
    print(f"wrote {options.output}: {model.network.name}, {len(content) / 1e6:.1f} MB, input {options.input} BGR")


if __name__ == "__main__":
    cli.run(main)
