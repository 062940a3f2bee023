"""A network that is not LFFD's, declared here alone, through everything that a network goes through.

Depthwise convolutions, maximum pooling, a top-down path, concatenated maps, leaky ReLU, one logit for each prediction;
once with one prediction per cell and LFFD's box code, once with two anchors and the code of centre and size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployment.calibration import collect_ranges
from deployment.decoded_graph import GraphSuppression, decoded_onnx
from deployment.export_onnx import Options, box_codes, build, check_suppression, decode_maps, session_run
from deployment.parity import probe_images
from deployment.quantized_graph import quantized_onnx
from detection.decoding import decode
from detection.detector import Detector
from detection.selection import Selection
from detection.tiling import plan_tiles, smallest_tile
from detection.views import ViewSettings
from lffd.engines import BranchMaps
from lffd.engines.factory import create_engine
from lffd.engines.runtime import Runtime
from lffd.errors import GeometryError
from lffd.graphs.branches import Branch
from lffd.graphs.cut import keep_branches
from lffd.graphs.layers import Layers
from lffd.graphs.model import Model, load_model, make_model, save_model
from lffd.graphs.network import Network, declare
from lffd.training.engine import StepReport
from lffd.training.initialization import initial_arrays
from lffd.training.losses import statistic_names
from lffd.training.mxnet.engine import MXNetTrainingEngine
from lffd.training.mxnet.losses import training_symbol
from lffd.training.options import LossOptions, OptimizerOptions
from tests.training_batches import make_batch

ENGINES = ["onnxruntime", "openvino", "ncnn", "torch"]
RANGES = ((8.0, 16.0), (16.0, 40.0))
TWO_ANCHORS = (((8.0, 8.0), (12.0, 16.0)), ((20.0, 24.0), (40.0, 32.0)))


def _network(
    name: str, anchors: tuple[tuple[tuple[float, float], ...], ...], code: str, points: bool = False
) -> Network:
    """Strides 8 and 16; the finer branch also sees what the coarser one has found."""
    count = max(1, len(anchors[0]))
    net = Layers()
    x = net.leaky_relu(net.conv(net.image(), 8, stride=2, pad=0, relu=False))
    x = net.max_pool(net.separable(x, 12))
    fine = net.separable(net.conv(net.depthwise(x), 16, stride=2), 16)
    pooled = net.max_pool(fine, kernel=3, stride=2)
    deep = net.concat(net.conv(fine, 12, stride=2), net.conv(pooled, 4, 1))
    fine = net.add(net.conv(fine, 16, 1, relu=False), net.enlarge(deep))
    fine = net.leaky_relu(net.depthwise(fine), slope=0.2)
    branches = []
    for layer, x, limits, units in zip(("fine", "deep"), (fine, deep), RANGES, anchors, strict=True):
        said = {
            role: net.conv(x, size * count, 1, relu=False, gain=None, name=f"{layer}_{role}")
            for role, size in (("score", 1), ("box", 4), *([("landmarks", 10)] if points else []))
        }
        branches.append((Branch(layer, limits, units), said))
    return declare(name, net, branches, 96, code=code)


NETWORKS = {
    "one": _network("another", ((), ()), "corners"),
    "two": _network("another_with_anchors", TWO_ANCHORS, "center-size"),
    "points": _network("another_with_points", ((), ()), "corners", points=True),
}


@cache
def _model(kind: str) -> Model:
    """Random weights with scores around a half and boxes of the size of their anchors."""
    network = NETWORKS[kind]
    arrays = initial_arrays(network, batch_norm=False, seed=1, style="prior")
    rng = np.random.default_rng(0)
    params = {name.removeprefix("arg:"): value for name, value in arrays.items()}
    for name, value in params.items():
        if name.endswith(("_score_weight", "_box_weight")):
            params[name] = rng.normal(0, 0.15, value.shape).astype(np.float32)
        elif name.endswith("_score_bias"):
            params[name] = np.zeros_like(value)
        elif name.endswith("_bias") and not name.endswith("_box_bias"):
            params[name] = rng.normal(0, 0.05, value.shape).astype(np.float32)
    return make_model(network, params)


def _images(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


def _difference(found: Sequence[BranchMaps], expected: Sequence[BranchMaps]) -> float:
    pairs = [(a[name], b[name]) for a, b in zip(found, expected, strict=True) for name in b]
    return max(float(np.abs(left - right).max()) for left, right in pairs)


def test_the_declaration() -> None:
    network = NETWORKS["one"]
    assert [(b.stride, b.first_center) for b in network.branch_geometry] == [(8, 1), (16, 1)]
    assert network.input_step == 16
    assert {node.op for node in network.graph.nodes} >= {"Pooling", "UpSampling", "Concat", "LeakyReLU"}
    assert network.score_channels == network.predictions == (1, 1)
    assert NETWORKS["two"].score_channels == NETWORKS["two"].predictions == (2, 2)
    with pytest.raises(GeometryError, match="each side must be a multiple of 16 px"):
        network.map_sizes(96, 100)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_says_what_mxnet_says(engine: str, kind: str) -> None:
    pytest.importorskip(engine)
    model = _model(kind)
    reference = create_engine(model, Runtime("mxnet"))
    subject = create_engine(model, Runtime(engine, threads=1))
    for shape in ((1, 96, 96), (3, 112, 160)):
        images = _images(*shape)
        expected = reference.run(images)
        found = subject.run(images)
        assert [m["box"].shape for m in found] == [m["box"].shape for m in expected]
        assert _difference(found, expected) <= 1e-4
        assert all(np.ptp(m["score"]) > 0.01 for m in expected), "maps without contrast would prove nothing"


def _steps(network: Network, loss: LossOptions, norm: bool) -> tuple[list[StepReport], list[dict[str, np.ndarray]]]:
    """One step of both engines from the same start: reports and gradients."""
    pytest.importorskip("torch")
    from lffd.training.torch.engine import TorchTrainingEngine

    optimizer = OptimizerOptions(name="sgd", momentum=0.0, weight_decay=0.0, clip_norm=0.0, ema=0.0)
    initial = initial_arrays(network, norm, seed=3, style="xavier")
    symbol = training_symbol(network, loss, norm).tojson()
    theirs = MXNetTrainingEngine(symbol, initial, optimizer=optimizer, normalizer=loss.normalizer)
    ours = TorchTrainingEngine(network, initial, loss=loss, optimizer=optimizer)
    batch = make_batch(3, network=network)
    reports = [engine.step([batch], 0.01).wait() for engine in (theirs, ours)]
    return reports, [dict(theirs._gradient.read()), dict(ours._gradient.read())]


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(
    "loss",
    [
        LossOptions(),
        LossOptions(score="focal", box="smooth-l1", normalizer="branch", negatives_per_positive=2),
        LossOptions(score="cross-entropy", box="l2", normalizer="published", negatives_per_positive=5),
    ],
    ids=lambda loss: loss.score,
)
def test_a_training_step_is_the_same_on_both_engines(kind: str, norm: bool, loss: LossOptions) -> None:
    network = NETWORKS[kind]
    (expected, found), (theirs, ours) = _steps(network, loss, norm)
    assert np.isfinite(found.loss)
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert found.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-4)
    assert tuple(found.statistics) == tuple(expected.statistics) == statistic_names(network.outputs)
    for name, values in expected.statistics.items():
        np.testing.assert_allclose(found.statistics[name], values, rtol=1e-5, err_msg=name)
    moved = 0
    for name, gradient in theirs.items():
        scale = float(np.abs(gradient).max())
        moved += scale > 1e-6
        np.testing.assert_allclose(ours[name], gradient, atol=max(1e-4 * scale, 1e-8), err_msg=name)
    assert moved > len(theirs) // 2, "gradients of zero would prove nothing"


def test_the_wing_loss_is_the_same_on_both_engines_and_another_one() -> None:
    """Steep at 0, where a rounding changes its slope by more than that of the other losses."""
    (expected, found), (theirs, ours) = _steps(NETWORKS["points"], LossOptions(landmarks="wing"), norm=False)
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    name = "deep_landmarks_weight"
    scale = float(np.abs(theirs[name]).max())
    np.testing.assert_allclose(ours[name], theirs[name], atol=5e-4 * scale)
    smooth = _steps(NETWORKS["points"], LossOptions(), norm=False)[0][1]
    assert not np.allclose(smooth.statistics["landmarks_loss"], found.statistics["landmarks_loss"], rtol=0.1)


def _decoded_by_hand(network: Network, maps: list[BranchMaps], threshold: float) -> list[list[float]]:
    """Branch, score, corners and points of every prediction above the threshold, in plain loops."""
    found = []
    for index, (geometry, said) in enumerate(zip(network.branch_geometry, maps, strict=True)):
        _, count, height, width = said["score"].shape
        for a, i, j in np.ndindex(count, height, width):
            if (score := float(said["score"][0, a, i, j])) <= threshold:
                continue
            x, y = (geometry.first_center + geometry.stride * cell for cell in (j, i))
            w, h = geometry.units[a]
            c = [float(said["box"][0, 4 * a + k, i, j]) for k in range(4)]
            if network.code == "corners":
                box = [x - w * c[0], y - h * c[1], x - w * c[2], y - h * c[3]]
            else:
                cx, cy = x + 0.1 * c[0] * w, y + 0.1 * c[1] * h
                wide, high = w * np.exp(0.2 * c[2]), h * np.exp(0.2 * c[3])
                box = [cx - wide / 2, cy - high / 2, cx + wide / 2, cy + high / 2]
            points = (
                [(x, y)[k % 2] + (w, h)[k % 2] * float(v) for k, v in enumerate(said["landmarks"][0, :, i, j])]
                if ("landmarks" in said)
                else []
            )
            found.append([index, score, *box, *points])
    return found


@pytest.mark.parametrize("kind", NETWORKS)
def test_decoding_equals_a_plain_loop(kind: str) -> None:
    network = NETWORKS[kind]
    maps = create_engine(_model(kind), Runtime("mxnet")).run(_images(1, 96, 128))
    found = decode(maps, network.branch_geometry, 0.5, 10**6)
    rows = np.column_stack([found.branches, found.scores, found.boxes])
    if kind == "points":
        assert found.landmarks is not None
        rows = np.column_stack([rows, found.landmarks.reshape(-1, 10)])
    expected = np.array(_decoded_by_hand(network, maps, 0.5))
    assert len(expected) > 20
    np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("kind", NETWORKS)
def test_exported_graphs_are_checked_and_decode_alike(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = _model(kind)
    network = model.network
    for options in ({}, {"decoded": True}, {"decoded": True, "input": "nhwc-uint8"}, {"normalization": "outside"}):
        _, parity = build(model, Options(model="", output=tmp_path / "x.onnx", **options))
        assert parity.largest <= 1e-4
    build(model, Options(model="", output=tmp_path / "x.onnx", decoded=True, fixed_shape="128x112"))
    suppressed = Options(model="", output=tmp_path / "x.onnx", suppressed=True, score_threshold=0.4)
    build(model, suppressed)
    decoded = session_run(model.graph, decoded_onnx(model).SerializeToString(), "nchw-float", False)
    images = _images(2, 112, 128)
    expected = decode_maps(network, create_engine(model, Runtime("mxnet")).run(images))
    found = decoded(images)
    assert found["scores"].shape == expected["scores"].shape
    assert np.abs(found["scores"] - expected["scores"]).max() <= 1e-4
    assert set(found) == {"boxes", "scores", *(["landmarks"] if kind == "points" else [])}
    codes = [box_codes(network, outputs, images) for outputs in (found, expected)]
    for name in found.keys() - {"scores"}:
        assert found[name].shape == expected[name].shape
        assert np.abs(found[name] - expected[name]).max() <= 1e-2
        assert np.abs(codes[0][name] - codes[1][name]).max() < 1e-3
    rule = GraphSuppression(0.5, 0.4, 50)
    content = decoded_onnx(model, suppression=rule).SerializeToString()
    check_suppression(network, session_run(model.graph, content, "nchw-float", False), decoded, rule)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize(("engine_name", "most"), [("onnxruntime", 0.0), ("openvino", 0.0), ("mxnet", 5e-6)])
def test_tiles_give_the_maps_of_the_whole_image(kind: str, engine_name: str, most: float) -> None:
    """To the bit, but for MXNet, whose oneDNN adds up in an order that depends on the size."""
    if engine_name != "mxnet":
        pytest.importorskip(engine_name)
    model = _model(kind)
    network, engine = model.network, create_engine(model, Runtime(engine_name))
    height, width = 320, 416
    image = _images(1, height, width)
    whole = engine.run(image)
    joined = [{name: np.full_like(values, np.nan) for name, values in said.items()} for said in whole]
    tiles = plan_tiles(network, height, width, smallest_tile(network, height, width))
    assert len(tiles) > 4
    for tile in tiles:
        part = image[:, tile.rows.start : tile.rows.stop, tile.columns.start : tile.columns.stop]
        for target, piece, (top, left) in zip(
            joined, tile.crop(engine.run(np.ascontiguousarray(part))), tile.first_cells, strict=True
        ):
            for name, values in piece.items():
                place = target[name][:, :, top : top + values.shape[2], left : left + values.shape[3]]
                assert np.isnan(place).all()
                place[:] = values
    assert _difference(joined, whole) <= most


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_tiled_detector_finds_the_same(kind: str) -> None:
    model = _model(kind)
    selection = Selection(score_threshold=0.5, max_detections=60)
    image = _images(1, 1010, 1203, seed=3)[0]
    whole = Detector(model, selection, runtime=Runtime("mxnet"))(image)
    tiled = Detector(model, selection, ViewSettings(tile_memory=20), Runtime("mxnet"))(image)
    assert len(whole) > 20
    np.testing.assert_allclose(tiled.boxes, whole.boxes, rtol=0, atol=1e-3)
    np.testing.assert_allclose(tiled.scores, whole.scores, rtol=0, atol=1e-5)
    assert (whole.landmarks is None) == (kind != "points")
    if whole.landmarks is not None and tiled.landmarks is not None:
        assert np.ptp(whole.landmarks[:, 0] - whole.boxes[:, :2]) > 1
        np.testing.assert_allclose(tiled.landmarks, whole.landmarks, rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_kept_branch_says_the_same(kind: str) -> None:
    model, images = _model(kind), _images(2, 96, 112)
    whole = create_engine(model, Runtime("mxnet")).run(images)
    for kept in ([0], [1]):
        cut = keep_branches(model, kept)
        assert cut.parameter_count < model.parameter_count
        assert cut.network.input_step == (16 if kept == [0] else 1)
        assert _difference(create_engine(cut, Runtime("mxnet")).run(images), [whole[kept[0]]]) == 0


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_8_bits_stay_near(target: Any, kind: str) -> None:
    pytest.importorskip(target)
    pytest.importorskip("onnxruntime")
    model = _model(kind)
    pictures = [image for images in probe_images(model.network) for image in images]
    ranges = collect_ranges(model, pictures[:4], ["clip"])["clip"]
    name = {"onnxruntime": "int8.onnx", "openvino": "int8_openvino.onnx"}[target]
    content = quantized_onnx(model, ranges, target).SerializeToString()
    reduced = replace(model, extra_files={name: content})
    images = pictures[4][None]
    found = create_engine(reduced, Runtime(target, precision="int8")).run(images)
    for maps, expected in zip(found, create_engine(model, Runtime("mxnet")).run(images), strict=True):
        error = float(np.sqrt(np.mean((maps["box"] - expected["box"]) ** 2)))
        assert 0 < error < 0.25 * expected["box"].std()
        assert np.abs(maps["score"] - expected["score"]).max() < 0.15


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_directory_brings_it_back(kind: str, tmp_path: Path) -> None:
    model = _model(kind)
    save_model(model, tmp_path / "m")
    read = load_model(tmp_path / "m")
    assert read.network.to_dict() == model.network.to_dict()
    assert read.network.branch_geometry == model.network.branch_geometry
    assert read.symbol_json == model.symbol_json
    assert read.card["input"]["multiple_of"] == 16
    images = _images(1, 96, 96)
    engines = [create_engine(part, Runtime("mxnet")) for part in (read, model)]
    assert _difference(*(engine.run(images) for engine in engines)) == 0
