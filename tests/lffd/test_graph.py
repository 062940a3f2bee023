"""Symbols read without MXNet."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lffd.errors import ModelError
from lffd.graph import Node, parse_graph
from symbol_farm.model_spec import deploy_json


def test_parameters_in_the_order_of_the_graph() -> None:
    graph = parse_graph(deploy_json("plate"))
    assert graph.parameter_names[:4] == ("conv1_weight", "conv1_bias", "conv2_weight", "conv2_bias")
    assert [graph.nodes[i].op for i in graph.outputs[:2]] == ["slice_axis", "Convolution"]


def test_attributes() -> None:
    node = Node("c", "Convolution", {"kernel": "(3, 3)", "one": "[2,]", "bad": "(a)", "scalar": "127.5"}, ())
    assert node.integers("kernel") == (3, 3)
    assert node.integer("one") == 2
    assert node.integer("missing", 1) == 1
    assert node.number("scalar") == 127.5
    assert not node.flag("no_bias")
    with pytest.raises(ModelError, match="bad='\\(a\\)' is not a list of integers"):
        node.integers("bad")
    with pytest.raises(ModelError, match="has no attribute pad"):
        node.integers("pad")
    with pytest.raises(ModelError, match="kernel is missing or not a number"):
        node.number("kernel")


def _spoil(**changes: Any) -> str:
    content = json.loads(deploy_json("plate"))
    return json.dumps({**content, **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not the JSON of an MXNet symbol"),
        ("[]", "not the JSON of an MXNet symbol"),
        ('{"nodes": [], "heads": []}', "outputs .* are not nodes"),
        (_spoil(heads=[[100000, 0, 0]]), "outputs .* are not nodes"),
        (_spoil(nodes=[{"name": "a", "op": "null", "inputs": [[0, 0, 0]]}]), "reads a node that does not come before"),
        (_spoil(nodes=[{"name": "a", "op": "null", "inputs": []}] * 2, heads=[[0, 0, 0]]), "the same name"),
        (_spoil(nodes=[{"op": "null", "inputs": []}]), "not the JSON of an MXNet symbol"),
    ],
)
def test_damaged_symbols_are_named(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=f"made.json: .*{message}"):
        parse_graph(text, "made.json")


def test_unknown_operator() -> None:
    graph = parse_graph(deploy_json("plate").replace('"softmax"', '"Custom"'))
    with pytest.raises(ModelError, match="operator Custom is not one of"):
        _ = graph.parameter_shapes
