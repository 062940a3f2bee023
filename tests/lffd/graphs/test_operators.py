"""Places of cells and exact cells against networks that are run, one disturbed pixel at a time; and the refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lffd.errors import ModelError
from lffd.graphs.graph import Graph, parse_graph
from lffd.graphs.layers import Layers, Map

torch = pytest.importorskip("torch", reason="runs the graphs in double precision: pip install torch")

from lffd.engines.torch_module import GraphModule  # noqa: E402 - imports torch

LENGTH = 96


def _graph(draw: Callable[[Layers, Map], Map]) -> Graph:
    net = Layers()
    return net.graph([draw(net, net.image())])


def _unpadded(net: Layers, x: Map) -> Map:
    return net.conv(net.conv(x, 3, stride=2, pad=0), 3, stride=2, pad=0)


def _padded(net: Layers, x: Map) -> Map:
    return net.conv(net.conv(x, 3, 5, stride=2), 3)


def _pooled(net: Layers, x: Map) -> Map:
    return net.conv(net.max_pool(net.max_pool(x), kernel=2), 3)


def _enlarged(net: Layers, x: Map) -> Map:
    fine = net.conv(x, 3, stride=2)
    return net.conv(net.add(fine, net.enlarge(net.conv(net.conv(fine, 3, stride=2), 3))), 2)


def _enlarged_twice(net: Layers, x: Map) -> Map:
    first = net.conv(x, 2, stride=2)
    second = net.conv(first, 2, stride=2)
    third = net.conv(second, 2, stride=2)
    return net.concat(first, net.enlarge(net.add(second, net.enlarge(third))))


def _rejoined(net: Layers, x: Map) -> Map:
    x = net.conv(x, 4, stride=2, pad=0)
    return net.concat(net.depthwise(net.depthwise(x)), net.leaky_relu(x), net.max_pool(x, stride=1))


DRAWN = [_unpadded, _padded, _pooled, _enlarged, _enlarged_twice, _rejoined]


def _run(graph: Graph, line: np.ndarray) -> np.ndarray:
    """Channel sums of the only output along the columns for images whose pixels change along them: `(B, cells)`."""
    rng = np.random.default_rng(0)
    params = {
        name: torch.from_numpy(rng.uniform(0.1, 1, shape)) if len(shape) > 1 else torch.zeros(shape).double()
        for name, shape in graph.parameter_shapes.items()
    }
    data = torch.from_numpy(np.broadcast_to(line[:, None, None], (len(line), 3, LENGTH, line.shape[1])).copy())
    with torch.no_grad():
        return GraphModule(graph, params).double().eval()(data)[0].sum(dim=1)[:, 1].numpy()


def _felt(graph: Graph) -> np.ndarray:
    """Whether a cell changes with a pixel, `(pixels, cells)`: all weights are positive, so nothing cancels.

    Pixels rise, so that every one of them is a maximum for some window once it is raised over all others.
    """
    line = np.linspace(130, 140, LENGTH)
    moved = line + 1e4 * np.eye(LENGTH)
    outputs = _run(graph, np.concatenate([line[None], moved]))
    return np.abs(outputs[1:] - outputs[:1]) > 1e-9


@pytest.mark.parametrize("draw", DRAWN)
def test_stride_field_and_center_are_what_the_network_shows(draw: Callable[[Layers, Map], Map]) -> None:
    graph = _graph(draw)
    place, felt = graph.places[graph.outputs[0]], _felt(graph)
    assert felt.shape[1] == graph.axis_sizes(LENGTH)[graph.outputs[0]]
    group = place.stride * (1 if "enlarged" not in draw.__name__ else graph.input_step // place.stride)
    seen = np.zeros((2, felt.shape[1]), int)
    for cell in range(felt.shape[1]):
        pixels = np.flatnonzero(felt[:, cell])
        seen[:, cell] = pixels[0], pixels[-1]
        assert pixels[0] >= place.low + place.stride * cell or pixels[0] == 0
        assert pixels[-1] <= place.high + place.stride * cell
    inner = slice(felt.shape[1] // 3, 2 * felt.shape[1] // 3)
    numbers = np.arange(felt.shape[1])[inner]
    low, high = (ends[inner] - place.stride * numbers for ends in seen)
    # Cells behind an enlargement share what they see with their neighbours, so the ends are reached by some of them.
    assert (low.min(), high.max()) == (place.low, place.high)
    if group == place.stride:
        assert (set(low), set(high)) == ({place.low}, {place.high})
        assert place.center == (place.low + place.high) / 2


@pytest.mark.parametrize("draw", DRAWN)
@pytest.mark.parametrize(("start", "stop"), [(0, 64), (16, 80), (32, 96), (0, 96)])
def test_exact_cells_are_those_that_a_crop_gives_as_the_whole(
    draw: Callable[[Layers, Map], Map], start: int, stop: int
) -> None:
    graph = _graph(draw)
    output, line = graph.outputs[0], np.random.default_rng(1).uniform(130, 255, (1, LENGTH))
    whole, crop = _run(graph, line)[0], _run(graph, line[:, start:stop])[0]
    stride = graph.places[output].stride
    first, last = graph.exact_cells(stop - start, start > 0, stop < LENGTH)[output]
    assert 0 <= first < last <= crop.size
    origin = start // stride
    same = np.abs(crop - whole[origin : origin + crop.size]) < 1e-9 * np.abs(whole).max()
    assert same[first:last].all()
    assert same.size - same.sum() <= first + crop.size - last
    if start > 0 and first > 0 and draw not in (_pooled, _rejoined):  # a maximum may hide what an edge changes
        assert not same[first - 1] or "enlarged" in draw.__name__
    assert (first == 0) or start > 0
    assert (last == crop.size) or stop < LENGTH


def _node(op: str, inputs: list[int], **attrs: object) -> dict[str, Any]:
    return {
        "name": "x",
        "op": op,
        "attrs": {key: str(value) for key, value in attrs.items()},
        "inputs": [[source, 0, 0] for source in inputs],
    }


CONV = {"kernel": "(3, 3)", "num_filter": 4, "no_bias": True}
POOL = {"kernel": "(2, 2)", "stride": "(2, 2)", "pool_type": "max"}


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (_node("Deconvolution", [0, 1], **CONV), "operator Deconvolution is not one of"),
        (_node("Convolution", [0], **CONV), "reads 1 nodes, but takes 2"),
        (_node("Convolution", [0, 1, 1], **CONV), "reads 3 nodes, but takes 2"),
        (_node("Convolution", [0, 1], **{**CONV, "no_bias": False}), "reads 2 nodes, but takes 3"),
        (_node("Convolution", [0, 1], kernel="(3, 3)", num_filter=4), "reads 2 nodes, but takes 3"),
        (_node("Convolution", [0, 1], **{**CONV, "no_bias": "maybe"}), "'maybe' is neither True nor False"),
        (_node("Convolution", [0, 1], **CONV, layout="NHWC"), "attribute 'layout' is not known here"),
        (_node("softmax", [0], axis=1, temperature=2), "attribute 'temperature' is not known here"),
        (_node("Concat", [0, 0], dim=1, num_args=3), "reads 2 nodes, but takes 1 to 64"),
        (_node("Convolution", [1, 1], **CONV), "cannot read x_weight as its input 0"),
        (_node("Convolution", [0, 0], **CONV), "cannot read data as its input 1"),
        (_node("Activation", [1], act_type="relu"), "cannot read x_weight as its input 0"),
        (_node("Convolution", [0, 1], **{**CONV, "kernel": "(3, 1)"}), "only square windows"),
        (_node("Convolution", [0, 1], **CONV, dilate="(2, 1)"), "only square windows"),
        (_node("Convolution", [0, 1], **{**CONV, "kernel": "(3,)"}), "is not two integers"),
        (_node("Convolution", [0, 1], **CONV, stride="(0, 0)"), "stride 0 and padding 0 cannot be"),
        (_node("Convolution", [0, 1], **CONV, stride="(65, 65)"), "stride 65 and padding 0 cannot be"),
        (_node("Convolution", [0, 1], **CONV, pad="(3, 3)"), "padding 3 cannot be"),
        (_node("Convolution", [0, 1], **{**CONV, "num_filter": 0}), "3 and 0 channels cannot be cut"),
        (_node("Convolution", [0, 1], **{**CONV, "num_filter": 2_000_000}), "beyond all reason"),
        (
            _node("Convolution", [0, 1], **{**CONV, "kernel": "(900, 900)", "num_filter": 999_999}),
            "weights are beyond all reason",
        ),
        (_node("Pooling", [0], **{**POOL, "pool_type": "avg"}), "only maximum pooling of the valid convention"),
        (_node("Pooling", [0], **POOL, pooling_convention="full"), "only maximum pooling of the valid convention"),
        (_node("Pooling", [0], **POOL, global_pool="True"), "only maximum pooling of the valid convention"),
        (_node("UpSampling", [0], scale=2, sample_type="nearest"), "of maps of an even stride"),
        (_node("UpSampling", [0], scale=2, sample_type="bilinear"), "only nearest enlargement by 2"),
        (_node("elemwise_add", [0]), "reads 1 nodes, but takes 2"),
        (_node("Concat", []), "reads 0 nodes, but takes 1 to 64"),
        (_node("Concat", [0, 0], dim=2), "only channels can be concatenated"),
        (_node("slice_axis", [0], axis=1, begin=1, end=1), "channels 1 to 1 of 3 cannot be cut out"),
        (_node("slice_axis", [0], axis=1, begin=0, end=4), "channels 0 to 4 of 3 cannot be cut out"),
        (_node("slice_axis", [0], axis=2, begin=0, end=1), "cannot be cut out"),
        (_node("softmax", [0], axis=2), "softmax is known over channels only"),
        (_node("Activation", [0], act_type="tanh"), "activation tanh is not one of relu, sigmoid"),
        (_node("LeakyReLU", [0], act_type="elu"), "activation elu is not leaky"),
        (_node("LeakyReLU", [0], act_type="leaky", slope="nan"), "slope is missing or not a finite number"),
        (_node("_div_scalar", [0], scalar=0), "divides by 0"),
        (_node("_minus_scalar", [0]), "scalar is missing"),
        (_node("Activation", [2], act_type="relu"), "reads a node that does not come before it"),
        (_node("Activation", [-1], act_type="relu"), "reads a node that does not come before it"),
        ({**_node("Activation", [], act_type="relu"), "inputs": [[0, 1, 0]]}, "output 1 of node 0 is not there"),
        ({**_node("Activation", [], act_type="relu"), "inputs": [[True, 0, 0]]}, "does not point at a node"),
    ],
)
def test_what_cannot_work_is_refused_when_read(node: dict[str, Any], message: str) -> None:
    variables: list[dict[str, Any]] = [{"name": name, "op": "null", "inputs": []} for name in ("data", "x_weight")]
    with pytest.raises(ModelError, match=f"made.json: .*{message}"):
        parse_graph(json.dumps({"nodes": [*variables, node], "heads": [[2, 0, 0]]}), "made.json")


def test_outputs_that_are_not_there_and_too_many_nodes() -> None:
    data = {"name": "data", "op": "null", "inputs": []}
    with pytest.raises(ModelError, match="output 1 of node 0 is not there"):
        parse_graph(json.dumps({"nodes": [data], "heads": [[0, 1, 0]]}))
    with pytest.raises(ModelError, match="100001 nodes are more than 100000"):
        parse_graph(json.dumps({"nodes": [data] * 100_001, "heads": [[0, 0, 0]]}))


def test_joins_of_maps_that_do_not_lie_together() -> None:
    net = Layers()
    image = net.image()
    padded, plain = net.conv(image, 4, stride=2), net.conv(image, 4, stride=2, pad=0)
    with pytest.raises(ModelError, match="joins maps whose cells lie at different places"):
        net.add(padded, plain)
    with pytest.raises(ModelError, match=r"joins maps of \[4, 3\] channels"):
        net.add(padded, net.conv(image, 3, stride=2))
    with pytest.raises(ModelError, match=r"joins maps of strides \[2, 1\]"):
        net.concat(padded, image)


def test_sides_that_do_not_meet_again_name_the_step() -> None:
    graph = _graph(_enlarged)
    assert graph.input_step == 4
    with pytest.raises(ModelError, match="sides must be multiples of 4"):
        graph.axis_sizes(LENGTH + 1)
