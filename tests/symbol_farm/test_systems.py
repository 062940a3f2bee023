"""The other projects' detectors as networks here: sizes, costs, anchors and outputs, from their own documents."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from deployment.export_onnx import Options, build, session_run
from deployment.layouts import LAYOUTS
from lffd.engines.factory import create_engine
from lffd.engines.runtime import Runtime
from lffd.errors import UsageError
from lffd.graphs.model import Model, load_model, make_model, save_model
from lffd.training.initialization import initial_arrays
from symbol_farm.versions import SYSTEMS, version_network
from tests.systems import calm_model

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@dataclass(frozen=True)
class Facts:
    """Of one system at its input size: width × height, millions of parameters, GFLOPs, anchors per level."""

    size: tuple[int, int]
    millions: str
    gflops: float
    anchors: list[int]
    constants: int = 0
    """Further numbers that the document counts: the anchors inside the exported graph, three pairs each."""


FACTS = {
    "retinaface_r50": Facts((640, 640), "27.2646", 88.8627, [12_800, 3_200, 800]),
    "retinaface_r50_mxnet": Facts((640, 640), "29.4276", 100.8478, [12_800, 3_200, 800]),
    "retinaface_r18": Facts((480, 480), "11.7050", 19.9273, [86_400, 21_600, 5_400, 1_350, 384]),  # cost: our own count
    "retinaface_mnet025": Facts((640, 640), "0.4233", 2.0016, [12_800, 3_200, 800]),  # our own count
    "slim_320": Facts((320, 240), "0.2844", 0.1724, [3_600, 600, 160, 60], constants=26_520),
    "rfb_320": Facts((320, 240), "0.3004", 0.2107, [3_600, 600, 160, 60], constants=26_520),  # our own count
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_sizes_costs_and_anchors(name: str) -> None:
    network, facts = version_network(name), FACTS[name]
    width, height = facts.size
    assert f"{(network.parameter_count + facts.constants) / 1e6:.4f}" == facts.millions
    # The documents also count the decoding of boxes, where their graphs do it: a thousandth of the smallest network.
    assert network.graph.flops(height, width) / 1e9 == pytest.approx(facts.gflops, rel=1e-3)
    cells = [rows * columns for rows, columns in network.map_sizes(height, width)]
    assert [count * each for count, each in zip(cells, network.predictions, strict=True)] == facts.anchors
    assert importlib.import_module(f"symbol_farm.symbol_{name}").NETWORK is network


@pytest.mark.parametrize(
    ("name", "total"),
    [("retinaface_r50", 16_800), ("retinaface_r18", 115_134), ("slim_320", 4_420), ("rfb_320", 4_420)],
)
def test_all_anchors_together(name: str, total: int) -> None:
    assert sum(FACTS[name].anchors) == total


def test_the_anchors_of_r18_are_those_of_its_table() -> None:
    branches = version_network("retinaface_r18").branch_geometry
    sides = [sorted({round((w * h) ** 0.5, 2) for w, h in branch.units}) for branch in branches]
    table = [[8, 10.08, 12.7], [16, 20.16, 25.4], [32, 40.32, 50.8], [64, 80.63, 101.59], [128, 161.27, 203.19]]
    np.testing.assert_allclose(sides, table, atol=0.02)
    assert {round(h / w, 6) for branch in branches for w, h in branch.units} == {1.0, 2.0}
    assert [(branch.stride, branch.first_center) for branch in branches] == [
        (4, 2),
        (8, 4),
        (16, 8),
        (32, 16),
        (64, 32),
    ]


def test_one_context_module_serves_all_levels_of_r18() -> None:
    network = version_network("retinaface_r18")
    convolutions = [node for node in network.graph.nodes if "conv5X5_1" in node.name and node.op == "Convolution"]
    assert len(convolutions) == 5
    assert {network.graph.parameters_of(node)["weight"] for node in convolutions} == {"ssh_conv5X5_1_weight"}
    arrays = initial_arrays(network, batch_norm=True, seed=0, style="prior")
    assert sum(name.startswith("arg:ssh_") for name in arrays) == 10


@pytest.mark.parametrize("name", ["slim_320", "rfb_320", "retinaface_mnet025", "retinaface_r18"])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "ncnn", "torch"])
def test_every_engine_says_what_mxnet_says(name: str, engine: str) -> None:
    pytest.importorskip(engine)
    model = calm_model(name)
    side = model.network.fitting(128)
    images = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    expected = create_engine(model, Runtime("mxnet")).run(images)
    found = create_engine(model, Runtime(engine, threads=1)).run(images)
    for ours, theirs in zip(found, expected, strict=True):
        for role, values in theirs.items():
            assert np.abs(ours[role] - values).max() <= 1e-4
        assert np.ptp(theirs["score"]) > 0.001, "maps without contrast would prove nothing"


LAYOUT_SHAPES = {
    "retinaface_mnet025": (
        "retinaface",
        "data",
        {"face_rpn_cls_prob": (1, 16_800, 2), "face_rpn_bbox_pred": (1, 16_800, 4)}
        | {"face_rpn_landmark_pred": (1, 16_800, 10)},
    ),
    "slim_320": ("ultra-light", "input", {"boxes": (1, 4_420, 4), "scores": (1, 4_420, 2)}),
    "rfb_320": ("ultra-light", "input", {"boxes": (1, 4_420, 4), "scores": (1, 4_420, 2)}),
    "retinaface_r50_mxnet": (
        "retinaface-maps",
        "data",
        {
            f"{name}{stride}": (1, channels, 640 // stride, 640 // stride)
            for stride in (32, 16, 8)
            for name, channels in (
                ("face_rpn_cls_prob_reshape_stride", 4),
                ("face_rpn_bbox_stride", 8),
                ("face_rpn_landmark_pred_stride", 20),
            )
        },
    ),
}


@pytest.mark.parametrize("name", LAYOUT_SHAPES)
def test_exports_have_the_outputs_of_the_documents(name: str, tmp_path: Path) -> None:
    """Names, shapes and order; the export itself compares every number with MXNet's."""
    layout, source, shapes = LAYOUT_SHAPES[name]
    model, (width, height) = calm_model(name), FACTS[name].size
    content, parity = build(model, Options(model="", output=tmp_path / "x.onnx", layout=layout))
    assert parity.largest <= 1e-4
    run = session_run(model.graph, content, "nchw-float", False)
    found = run(np.zeros((1, height, width, 3), np.uint8))
    assert {key: values.shape for key, values in found.items()} == shapes
    assert list(found) == list(shapes)
    import onnx

    assert [entry.name for entry in onnx.load_from_string(content).graph.input] == [source]


def test_a_layout_refuses_a_network_without_what_it_says(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is for networks with box code center-size and five points"):
        build(calm_model("slim_320"), Options(model="", output=tmp_path / "x.onnx", layout="retinaface"))
    with pytest.raises(UsageError, match=r"unknown layout 'retinafce': did you mean retinaface"):
        Options(model="", output=tmp_path / "x.onnx", layout="retinafce")
    assert set(LAYOUTS) == {"retinaface", "retinaface-maps", "ultra-light"}


@pytest.mark.parametrize("name", ["rfb_320", "retinaface_r18"])
def test_a_directory_brings_it_back(name: str, tmp_path: Path) -> None:
    """Dilation, shared parameters, centres of anchors and the mean of each colour pass through the files."""
    model = calm_model(name)
    save_model(model, tmp_path / "m")
    read: Model = load_model(tmp_path / "m")
    assert read.network.branch_geometry == model.network.branch_geometry
    images = np.random.default_rng(1).integers(0, 256, (1, 128, 128, 3), np.uint8)
    pairs = [create_engine(each, Runtime("mxnet")).run(images) for each in (read, model)]
    assert all(np.array_equal(a[role], b[role]) for a, b in zip(*pairs, strict=True) for role in b)


def test_random_weights_of_a_shared_module_fit() -> None:
    arrays = initial_arrays(version_network("retinaface_r18"), batch_norm=False, seed=0, style="xavier")
    make_model(version_network("retinaface_r18"), {n.removeprefix("arg:"): v for n, v in arrays.items()})
