"""Symbols read without MXNet."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lffd.errors import ModelError
from lffd.graphs.graph import parse_graph
from lffd.graphs.operators import Node
from symbol_farm.versions import VERSIONS, version_network

PLATE = version_network("plate").graph.to_json()


def test_parameters_in_the_order_of_the_graph() -> None:
    graph = parse_graph(PLATE)
    assert graph.parameter_names[:4] == ("conv1_weight", "conv1_bias", "conv2_weight", "conv2_bias")
    assert [graph.nodes[i].op for i in graph.outputs[:2]] == ["slice_axis", "Convolution"]


def test_attributes() -> None:
    node = Node("c", "Convolution", {"kernel": "(3, 3)", "one": "[2,]", "bad": "(a)", "scalar": "127.5"}, ())
    assert node.integers("kernel") == (3, 3)
    assert node.integer("one") == 2
    assert node.integer("missing", 1) == 1
    assert node.number("scalar") == 127.5
    assert node.pair("one_pair", 2) == (2, 2)
    with pytest.raises(ModelError, match="bad='\\(a\\)' is not a list of integers"):
        node.integers("bad")
    with pytest.raises(ModelError, match="has no attribute pad"):
        node.integers("pad")
    with pytest.raises(ModelError, match="kernel is missing or not a finite number"):
        node.number("kernel")


def _spoil(**changes: Any) -> str:
    content = json.loads(PLATE)
    return json.dumps({**content, **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not the JSON of an MXNet symbol"),
        ("[]", "not the JSON of an MXNet symbol"),
        ('{"nodes": [], "heads": []}', "outputs .* are not nodes"),
        (_spoil(heads=[[1e999]]).replace("Infinity", "1e999"), "TypeError: .inf. does not point at a node"),
        ("[" * 100_000, "RecursionError"),
        (_spoil(heads=[[100000, 0, 0]]), "outputs .* are not nodes"),
        (_spoil(nodes=[{"name": "a", "op": "null", "inputs": [[0, 0, 0]]}]), "reads a node that does not come before"),
        (_spoil(nodes=[{"name": "a", "op": "null", "inputs": []}] * 2, heads=[[0, 0, 0]]), "the same name"),
        (
            _spoil(nodes=[{"name": "", "op": "null", "inputs": []}], heads=[[0, 0, 0]]),
            "'' cannot be the name of a node",
        ),
        (_spoil(nodes=[{"name": "\ud800", "op": "null", "inputs": []}], heads=[[0, 0, 0]]), "cannot be the name"),
        (_spoil(nodes=[{"op": "null", "inputs": []}]), "not the JSON of an MXNet symbol"),
    ],
)
def test_damaged_symbols_are_named(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=f"made.json: .*{message}"):
        parse_graph(text, "made.json")


@pytest.mark.parametrize(
    ("op", "attrs", "inputs", "message"),
    [
        ("BatchNorm", {}, [], "node x .BatchNorm. reads 0 nodes, but takes 5"),
        ("elemwise_add", {}, [], "node x .elemwise_add. reads 0 nodes, but takes 2"),
        ("Convolution", {"num_filter": "4", "kernel": "(1, 1)", "num_group": "0"}, [0, 1], "into 0 groups"),
        ("Convolution", {"num_filter": "4", "kernel": "(1, 1)", "num_group": "-1"}, [0, 1], "into -1 groups"),
        ("Convolution", {"num_filter": "4", "kernel": "(1, 1)", "num_group": "2"}, [0, 1], "3 and 4 channels cannot"),
        ("Convolution", {"num_filter": "9" * 5000, "kernel": "(1, 1)"}, [0, 1], "is not a list of integers"),
        ("Convolution", {"kernel": "(1, 1)"}, [0, 1], "has no attribute num_filter"),
    ],
)
def test_operators_that_cannot_work_are_named(op: str, attrs: dict[str, str], inputs: list[int], message: str) -> None:
    variables: list[dict[str, Any]] = [{"name": name, "op": "null", "inputs": []} for name in ("data", "x_weight")]
    attrs = {"no_bias": "True", **attrs} if op == "Convolution" else attrs
    node = {"name": "x", "op": op, "attrs": attrs, "inputs": [[source, 0, 0] for source in inputs]}
    with pytest.raises(ModelError, match=f"made.json: .*{message}"):
        parse_graph(json.dumps({"nodes": [*variables, node], "heads": [[2, 0, 0]]}), "made.json")


@pytest.mark.parametrize("version", VERSIONS)
def test_outputs_have_the_declared_geometry(version: str) -> None:
    network = version_network(version)
    graph = parse_graph(network.graph.to_json())
    places = [graph.places[output] for output in graph.outputs]
    found = [(place.channels, place.stride, place.receptive_field, place.center) for place in places]
    branches = network.branch_geometry
    assert found == [(c, b.stride, b.receptive_field, b.first_center) for b in branches for c in (1, 4)]


def test_maps_of_different_strides_cannot_be_joined() -> None:
    content = json.loads(PLATE)
    join = next(node for node in content["nodes"] if node["op"] == "elemwise_add")
    join["inputs"][0] = [0, 0, 0]
    with pytest.raises(ModelError, match=r"joins maps of (strides \[1, 16\]|\[3, )"):
        parse_graph(json.dumps(content))


def test_unknown_operator() -> None:
    with pytest.raises(ModelError, match="operator Custom is not one of"):
        parse_graph(PLATE.replace('"softmax"', '"Custom"'))
