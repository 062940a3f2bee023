"""Any graph as a PyTorch module: MXNet's numbers, in training and in inference, and clear refusals."""

from __future__ import annotations

import json
from importlib.util import find_spec

import numpy as np
import pytest

from lffd.engines.mxnet_engine import import_mxnet
from lffd.errors import ModelError
from lffd.graphs.batch_norm import training_graph
from lffd.graphs.graph import Graph, parse_graph
from lffd.graphs.network import Network
from lffd.training.initialization import initial_arrays
from symbol_farm.versions import VERSIONS, version_network
from tests.training_batches import NETWORK

torch = pytest.importorskip("torch", reason="the torch engine's tests need PyTorch: pip install torch")
if find_spec("mxnet") is None:
    pytest.skip("compares with MXNet, which is not installed", allow_module_level=True)

from lffd.engines.torch_module import GraphModule  # noqa: E402 - imports torch


def _arrays(network: Network, batch_norm: bool, seed: int = 0) -> dict[str, np.ndarray]:
    """Parameters and running statistics by plain name, none of them at a special value."""
    rng = np.random.default_rng(seed)
    arrays = initial_arrays(network, batch_norm, seed, "xavier")
    moved = {name.split(":")[1]: value + rng.uniform(0, 0.1, value.shape) for name, value in arrays.items()}
    return {name: value.astype(np.float32) for name, value in moved.items()}


def _module(graph: Graph, arrays: dict[str, np.ndarray]) -> GraphModule:
    return GraphModule(graph, {name: torch.tensor(value) for name, value in arrays.items()})


def _mxnet(graph: Graph, arrays: dict[str, np.ndarray], data: np.ndarray, training: bool) -> tuple[list, dict]:
    """Outputs and, in training, the batch statistics that MXNet's running averages took in."""
    mx = import_mxnet()
    symbol = mx.sym.load_json(graph.to_json())
    given = {name: mx.nd.array(arrays[name]) for name in symbol.list_arguments() if name != "data"}
    states = {name: mx.nd.array(arrays[name]) for name in symbol.list_auxiliary_states()}
    executor = symbol.bind(
        mx.cpu(),
        {**given, "data": mx.nd.array(data)},
        args_grad={name: mx.nd.zeros_like(value) for name, value in given.items()},
        aux_states=states,
        grad_req={**dict.fromkeys(given, "write"), "data": "null"},
    )
    outputs = executor.forward(is_train=training)
    found = [output.asnumpy() for output in outputs]
    if training:
        executor.backward([mx.nd.ones_like(output) for output in outputs])
        mx.nd.waitall()  # the states are written behind the back of MXNet's dependency tracking
    taken = {name: (value.asnumpy() - 0.95 * arrays[name]) / 0.05 for name, value in states.items()}
    return found, taken


@pytest.mark.parametrize("version", VERSIONS)
def test_deploy_graphs_equal_mxnet(version: str) -> None:
    network = version_network(version)
    graph, arrays = network.graph, _arrays(network, batch_norm=False)
    side = network.minimum_input
    data = np.random.default_rng(1).uniform(0, 255, (2, 3, network.fitting(side + 40), side)).astype(np.float32)
    expected, _ = _mxnet(graph, arrays, data, training=False)
    with torch.no_grad():
        outputs = _module(graph, arrays).eval()(torch.from_numpy(data))
    for ours, theirs in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-5 * max(1, np.abs(theirs).max()))


@pytest.mark.parametrize("training", [False, True])
def test_batch_normalisation_equals_mxnet(training: bool) -> None:
    graph, arrays = training_graph(NETWORK, batch_norm=True), _arrays(NETWORK, batch_norm=True)
    data = np.random.default_rng(1).uniform(0, 255, (3, 3, 64, 64)).astype(np.float32)
    expected, taken = _mxnet(graph, arrays, data, training)
    module = _module(graph, arrays).train(training)
    before = {name: value.clone() for name, value in module.named_buffers()}
    outputs, statistics = module.run(torch.from_numpy(data))
    for ours, theirs in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), theirs, atol=2e-5 * np.abs(theirs).max())
    assert all(torch.equal(before[name], value) for name, value in module.named_buffers())
    if training:
        names, values = module.graph.state_names, [value for pair in statistics for value in pair]
        assert set(names) == set(taken)
        for name, value in zip(names, values, strict=True):
            np.testing.assert_allclose(value.numpy(), taken[name], atol=2e-4, err_msg=name)
    else:
        assert statistics == ()


def test_parameters_keep_their_names_and_states_are_buffers() -> None:
    arrays = _arrays(NETWORK, batch_norm=True)
    module = _module(training_graph(NETWORK, batch_norm=True), arrays)
    states = {name for name in arrays if "_moving_" in name}
    assert {name for name, _ in module.named_buffers()} == states
    assert {name for name, _ in module.named_parameters()} == set(arrays) - states


def _spoil(node: str, **attrs: str) -> str:
    content = json.loads(training_graph(NETWORK, batch_norm=True).to_json())
    entry = next(entry for entry in content["nodes"] if entry["name"] == node)
    entry["op"] = attrs.pop("op", entry["op"])
    entry["attrs"] |= attrs
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_spoil("relu_conv1", op="Custom"), "relu_conv1: operator Custom is not one of"),
        (_spoil("relu_conv1", act_type="tanh"), "relu_conv1: activation tanh is not one of relu, sigmoid"),
        (_spoil("conv1_bn", fix_gamma="True"), "conv1_bn: BatchNorm with fix_gamma is not supported"),
    ],
)
def test_what_it_does_not_know_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        _module(parse_graph(text), _arrays(NETWORK, batch_norm=True))


def test_missing_parameters_are_listed() -> None:
    arrays = _arrays(NETWORK, batch_norm=False)
    del arrays["conv2_bias"]
    with pytest.raises(ModelError, match="missing conv2_bias"):
        _module(NETWORK.graph, arrays)


@pytest.mark.parametrize("channels", [64, 128])
@pytest.mark.parametrize("batch", [1, 4, 16])
@pytest.mark.parametrize("size", [(5, 3), (7, 3), (11, 3), (3, 4), (3, 3), (3, 11), (9, 5)])
def test_strided_bf16_convolutions_are_right_also_with_one_output_column(
    size: tuple[int, int], batch: int, channels: int
) -> None:
    """PyTorch 2.13's own are not: they return values up to 1e32 there."""
    square = {"kernel": "(3, 3)", "stride": "(2, 2)", "num_filter": str(channels)}
    names = ("data", "conv_weight", "conv_bias")
    nodes = [{"op": "null", "name": name, "inputs": []} for name in names]
    conv = {"op": "Convolution", "name": "conv", "attrs": square, "inputs": [[0, 0, 0], [1, 0, 0], [2, 0, 0]]}
    graph = parse_graph(json.dumps({"nodes": [*nodes, conv], "heads": [[3, 0, 0]]}))
    generator = torch.Generator().manual_seed(batch)
    shapes = ((channels, channels, 3, 3), (channels,), (batch, channels, *size))
    weight, bias, data = (torch.randn(shape, generator=generator).bfloat16() for shape in shapes)
    weight, data = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (weight, data))
    with torch.no_grad():
        found = GraphModule(graph, {"conv_weight": weight, "conv_bias": bias})(data)[0]
    expected = torch.nn.functional.conv2d(data.double(), weight.double(), bias.double(), 2)
    assert found.shape == expected.shape
    assert float((found.double() - expected).abs().max() / expected.abs().max()) < 0.01
