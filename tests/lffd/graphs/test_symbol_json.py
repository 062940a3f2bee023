"""Symbol JSON without MXNet, against MXNet's own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lffd.engines.mxnet_engine import import_mxnet
from lffd.graphs.symbol_json import Operators
from symbol_farm.network import build_json, build_symbol
from symbol_farm.versions import VERSIONS, version_network


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("deploy", "batch_norm"), [(True, False), (False, False), (False, True), (True, True)])
def test_every_version_is_written_as_mxnet_writes_it(version: str, deploy: bool, batch_norm: bool) -> None:
    mx = import_mxnet()
    network = version_network(version)
    with mx.name.NameManager():  # numbers unnamed nodes from 0
        theirs = build_symbol(network, deploy, batch_norm).tojson()
    assert json.loads(build_json(network, deploy, batch_norm)) == json.loads(theirs)


def _diamond(operators: Any) -> Any:
    """A value read twice, one output that another one needs, the same output twice, and a last node unread."""
    data = operators.Variable("data")
    operators.Activation(data, act_type="relu", name="unread")
    left = operators.Convolution(data, num_filter=4, kernel=(1, 1), name="left")
    both = (left + left) / 2.5 - 0.5
    return operators.Group([both, left, both + left, left])


def test_shared_values_are_written_once() -> None:
    mx = import_mxnet()
    with mx.name.NameManager():
        theirs = _diamond(mx.sym).tojson()
    assert json.loads(_diamond(Operators()).tojson()) == json.loads(theirs)


def test_mxnet_loads_the_text_and_infers_the_shapes() -> None:
    mx = import_mxnet()
    network = version_network("plate_small")
    symbol = mx.sym.load_json(build_json(network, deploy=True))
    shapes, _, _ = symbol.infer_shape(data=(1, 3, 320, 320))
    found = dict(zip(symbol.list_arguments(), shapes, strict=True))
    assert {name: shape for name, shape in found.items() if name != "data"} == network.parameter_shapes
