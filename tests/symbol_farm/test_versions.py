"""The versions against the published figures, and their symbols against their declarations."""

from __future__ import annotations

import importlib

import pytest

from lffd.errors import UsageError
from lffd.graphs.graph import parse_graph
from symbol_farm.versions import VERSIONS, version_module, version_network

# layers, branches after, parameters, GMAC at 640x480 to three decimals (facts of the published system)
PUBLISHED: dict[str, tuple[int, list[int], int, str]] = {
    "v1": (25, [8, 10, 13, 15, 18, 21, 23, 25], 2_290_608, "10.024"),
    "v2": (20, [8, 11, 14, 17, 20], 1_520_606, "6.824"),
    "v3": (22, [6, 11, 16, 19, 22], 805_302, "1.356"),  # ours: at least five times fewer operations than v2
    "head": (17, [8, 11, 14, 17], 1_027_544, "6.797"),
    "pedestrian": (20, [11, 14, 17, 20], 1_818_648, "3.201"),
    "plate": (16, [10, 13, 16], 948_498, "1.403"),
    "plate_small": (16, [10, 13, 16], 486_866, "0.479"),
}


@pytest.mark.parametrize("version", PUBLISHED)
def test_published_sizes(version: str) -> None:
    layers, branches, parameters, gmac = PUBLISHED[version]
    network = version_network(version)
    assert len(network.backbone) == layers
    assert [branch.layer for branch in network.branches] == [f"conv{number}" for number in branches]
    assert sum(layer.parameters for layer in network.layers) == parameters
    assert f"{sum(network.multiply_adds(480, 640).values()) / 1e9:.3f}" == gmac


@pytest.mark.parametrize("version", PUBLISHED)
def test_symbol_matches_its_declaration(version: str) -> None:
    """MXNet's own shape inference, our graph reader and the declaration agree on every name and shape."""
    network = version_network(version)
    symbol = version_module(version).get_net_symbol(deploy_flag=True)
    height, width = network.train_input, network.train_input + 33
    arguments, outputs, states = symbol.infer_shape(data=(2, 3, height, width))
    shapes = {name: shape for name, shape in zip(symbol.list_arguments(), arguments, strict=True) if name != "data"}
    assert shapes == network.parameter_shapes == parse_graph(symbol.tojson()).parameter_shapes
    expected = [(2, channels, *size) for size in network.map_sizes(height, width) for channels in (1, 4)]
    assert [tuple(shape) for shape in outputs] == expected
    assert states == []


@pytest.mark.parametrize("version", PUBLISHED)
def test_training_symbol_has_raw_scores(version: str) -> None:
    network = version_network(version)
    symbol = version_module(version).get_net_symbol()
    side = network.train_input
    _, outputs, _ = symbol.infer_shape(data=(1, 3, side, side))
    expected = [(1, channels, *size) for size in network.map_sizes(side, side) for channels in (2, 4)]
    assert [tuple(shape) for shape in outputs] == expected


def test_names_of_one_head() -> None:
    names = [name for name in version_network("plate").parameter_shapes if name.startswith("conv10_")][2:]
    layers = ("conv10_1", "conv10_2_score", "conv10_3_score", "conv10_2_bbox", "conv10_3_bbox")
    assert names == [f"{layer}_{part}" for layer in layers for part in ("weight", "bias")]


def test_half_width_pairs_of_the_small_plate() -> None:
    shapes = version_network("plate_small").parameter_shapes
    assert shapes["conv5_weight"] == (32, 64, 3, 3)
    assert shapes["conv6_weight"] == (64, 32, 3, 3)
    assert shapes["conv14_weight"] == (128, 64, 3, 3)


def test_the_second_convolution_joins_the_sum_before_the_activation() -> None:
    graph = parse_graph(version_network("v2").graph.to_json())
    nodes = {node.name: node for node in graph.nodes}
    relu = nodes["relu_conv4"]
    total = graph.nodes[relu.inputs[0]]
    assert total.op == "elemwise_add"
    assert {graph.nodes[i].name for i in total.inputs} == {"conv4", "conv2"}
    following = graph.nodes[nodes["relu_conv6"].inputs[0]]
    assert {graph.nodes[i].name for i in following.inputs} == {"conv6", total.name}


@pytest.mark.parametrize("short", VERSIONS)
def test_both_names_and_the_module_path_mean_the_same(short: str) -> None:
    full = VERSIONS[short]
    assert version_network(short) is version_network(full)
    module = importlib.import_module(f"symbol_farm.symbol_{full}")
    assert module.NETWORK.name == full


@pytest.mark.parametrize(
    ("wrong", "near"), [("v22", "v2"), ("plate-small", "plate_small"), ("10_320_20L", "10_320_20L_5scales_v2")]
)
def test_unknown_version_suggests_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"unknown version '{wrong}': did you mean {near}"):
        version_network(wrong)
