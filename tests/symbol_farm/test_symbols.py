"""Graphs as MXNet's JSON: every version against the paper's network composed with MXNet's own operators."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lffd.engines.mxnet_engine import import_mxnet
from lffd.graphs.batch_norm import training_graph
from lffd.graphs.graph import Graph, parameter_node, parse_graph
from lffd.graphs.layers import Layers
from lffd.graphs.network import Network
from lffd.graphs.operators import Node
from symbol_farm.symbols import net_symbol
from symbol_farm.versions import VERSIONS, version_network


def _composed(network: Network, deploy: bool, batch_norm: bool) -> Any:
    """The network of the paper, section 3.2, in MXNet's operators; sizes come from the parameters, as they are many."""
    mx, shapes = import_mxnet(), network.parameter_shapes

    def conv(data: Any, name: str, stride: int = 1) -> Any:
        channels, _, kernel, _ = shapes[f"{name}_weight"]
        pad = 1 if kernel == 3 and stride == 1 else 0
        square = {key: (value, value) for key, value in (("kernel", kernel), ("stride", stride), ("pad", pad))}
        made = mx.sym.Convolution(data, num_filter=channels, name=name, **square)
        if not batch_norm or "_3_" in name:
            return made
        return mx.sym.BatchNorm(made, name=f"{name}_bn", eps=1e-5, momentum=0.95, fix_gamma=False)

    def relu(data: Any, name: str) -> Any:
        return mx.sym.Activation(data, act_type="relu", name=f"relu_{name}")

    active = total = (mx.sym.Variable("data") - 127.5) / 127.5
    features = {}
    strided = {layer.name for layer in network.backbone if layer.stride == 2}
    names = [layer.name for layer in network.backbone]
    while names:
        name = names.pop(0)
        if name in strided:
            total = conv(active, name, 2)
        else:
            inner, name = relu(conv(active, name), name), names.pop(0)
            total = conv(inner, name) + total
        active = features[name] = relu(total, name)
    outputs = []
    for index, parent in enumerate(branch.layer for branch in network.branches):
        shared = relu(conv(features[parent], f"{parent}_1"), f"{parent}_1")
        score, box = (
            conv(relu(conv(shared, f"{parent}_2_{task}"), f"{parent}_2_{task}"), f"{parent}_3_{task}")
            for task in ("score", "bbox")
        )
        if deploy:
            soft = mx.sym.softmax(score, axis=1, name=f"probability_{index}")
            score = mx.sym.slice_axis(soft, axis=1, begin=0, end=1, name=f"score_{index}")
        outputs += [score, box]
    return mx.sym.Group(outputs)


@pytest.mark.parametrize("version", sorted(set(VERSIONS) - {"nano"}))
@pytest.mark.parametrize(("deploy", "batch_norm"), [(True, False), (False, False), (False, True)])
def test_every_version_of_the_paper_is_written_as_mxnet_writes_it(version: str, deploy: bool, batch_norm: bool) -> None:
    mx = import_mxnet()
    network = version_network(version)
    ours = network.graph if deploy else training_graph(network, batch_norm)
    with mx.name.NameManager():  # numbers unnamed nodes from 0
        theirs = _composed(network, deploy, batch_norm).tojson()
    assert json.loads(ours.to_json()) == json.loads(theirs)
    assert json.loads(net_symbol(network, deploy, batch_norm).tojson()) == json.loads(theirs)
    assert json.loads(parse_graph(ours.to_json()).to_json()) == json.loads(theirs)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_mxnet_reads_every_version_and_writes_the_same(version: str, batch_norm: bool) -> None:
    network = version_network(version)
    for graph in (network.graph, training_graph(network, batch_norm)):
        again = json.loads(import_mxnet().sym.load_json(graph.to_json()).tojson())
        assert json.loads(graph.to_json()) == again


def test_a_deployed_graph_has_no_normalisation() -> None:
    network = version_network("plate_small")
    assert net_symbol(network, deploy_flag=True, batch_norm=True).tojson() == net_symbol(network, True).tojson()


def test_shared_values_are_written_once() -> None:
    """A value read twice, one output that another one needs, the same output twice, and a last node unread."""
    mx = import_mxnet()
    with mx.name.NameManager():
        data = mx.sym.Variable("data")
        mx.sym.Activation(data, act_type="relu", name="unread")
        left = mx.sym.Convolution(data, num_filter=4, kernel=(1, 1), name="left")
        both = (left + left) / 2.5 - 0.5
        theirs = mx.sym.Group([both, left, both + left, left]).tojson()
    attrs = {"kernel": "(1, 1)", "num_filter": "4"}
    nodes = (
        Node("data", "null", {}, ()),
        Node("unread", "Activation", {"act_type": "relu"}, (0,)),
        *(parameter_node("left", role, attrs) for role in ("weight", "bias")),
        Node("left", "Convolution", attrs, (0, 2, 3)),
        Node("_plus0", "elemwise_add", {}, (4, 4)),
        Node("_divscalar0", "_div_scalar", {"scalar": "2.5"}, (5,)),
        Node("_minusscalar0", "_minus_scalar", {"scalar": "0.5"}, (6,)),
        Node("_plus1", "elemwise_add", {}, (7, 4)),
    )
    assert json.loads(Graph(nodes, (7, 4, 8, 4)).to_json()) == json.loads(theirs)


def test_every_layer_function_is_written_as_mxnet_writes_it() -> None:
    mx = import_mxnet()
    net = Layers()
    x = net.image(center=0, scale=2.0)
    x = net.leaky_relu(net.conv(x, 4, stride=2, relu=False, name="a"), slope=0.2)
    deep = net.relu(net.max_pool(net.depthwise(x, name="b")))
    joined = net.concat(net.add(x, net.enlarge(deep)), net.max_pool(x, kernel=3, stride=1))
    ours = net.graph([net.probability(net.conv(joined, 3, 1, relu=False, name="c"), 0, 3), joined])
    with mx.name.NameManager():
        x = mx.sym.Variable("data") / 2.0
        square = {"kernel": (3, 3), "pad": (1, 1)}
        x = mx.sym.Convolution(x, num_filter=4, stride=(2, 2), name="a", **square)
        x = mx.sym.LeakyReLU(x, act_type="leaky", slope=0.2, name="leaky0")
        deep = mx.sym.Convolution(x, num_filter=4, num_group=4, stride=(1, 1), name="b", **square)
        deep = mx.sym.Pooling(deep, stride=(2, 2), pool_type="max", name="pool0", **square)
        deep = mx.sym.Activation(deep, act_type="relu", name="relu0")
        large = mx.sym.UpSampling(deep, scale=2, sample_type="nearest", num_args=1, name="upsampling0")
        pooled = mx.sym.Pooling(x, stride=(1, 1), pool_type="max", name="pool1", **square)
        joined = mx.sym.Concat(x + large, pooled, dim=1, name="concat0")
        score = mx.sym.Convolution(joined, num_filter=3, kernel=(1, 1), stride=(1, 1), pad=(0, 0), name="c")
        score = mx.sym.Activation(score, act_type="sigmoid", name="score_0")
        theirs = mx.sym.Group([score, joined]).tojson()
    assert json.loads(ours.to_json()) == json.loads(theirs)
    shapes, outputs, _ = mx.sym.load_json(ours.to_json()).infer_shape(data=(2, 3, 32, 64))
    found = dict(zip(mx.sym.load_json(ours.to_json()).list_arguments(), shapes, strict=True))
    assert {name: shape for name, shape in found.items() if name != "data"} == ours.parameter_shapes
    sizes = zip(ours.axis_sizes(32), ours.axis_sizes(64), strict=True)
    cells = [(place.channels, *size) for place, size in zip(ours.places, sizes, strict=True)]
    assert [shape[1:] for shape in outputs] == [cells[output] for output in ours.outputs]


def test_mxnet_loads_the_text_and_infers_the_shapes() -> None:
    mx = import_mxnet()
    network = version_network("plate_small")
    symbol = mx.sym.load_json(network.graph.to_json())
    shapes, _, _ = symbol.infer_shape(data=(1, 3, 320, 320))
    found = dict(zip(symbol.list_arguments(), shapes, strict=True))
    assert {name: shape for name, shape in found.items() if name != "data"} == network.parameter_shapes
