"""The image's normalisation inside convolutions: the same maps, and only where that is exact."""

from __future__ import annotations

import numpy as np
import pytest

from lffd.engines.factory import create_engine
from lffd.engines.runtime import Runtime
from lffd.graphs.branches import Branch
from lffd.graphs.layers import Layers
from lffd.graphs.model import Model
from lffd.graphs.network import Network, declare
from lffd.graphs.onnx_graph import Translator, foldable, maps_onnx
from tests.factories import random_model

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def _network(center: float, pad: int, two_readers: bool = False) -> Network:
    net = Layers()
    image = net.image(center=center, scale=57.5)
    x = net.conv(image, 8, stride=2, pad=pad)
    if two_readers:
        x = net.add(x, net.conv(image, 8, 5, stride=2, pad=pad + 1))
    x = net.conv(x, 8, stride=2)
    said = {role: net.conv(x, count, 1, relu=False, name=role) for role, count in (("score", 1), ("box", 4))}
    return declare("folding", net, [(Branch("conv1", (2, 6)), said)], 64)


def _run(content: bytes, images: np.ndarray) -> list[np.ndarray]:
    data = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(None, {"data": data})
    return outputs


@pytest.mark.parametrize("two_readers", [False, True])
@pytest.mark.parametrize(
    ("center", "pad", "folds"), [(127.5, 0, True), (127.5, 1, False), (0.0, 1, True), (0.0, 0, True)]
)
def test_folded_and_unfolded_graphs_say_the_same(
    center: float, pad: int, folds: bool, two_readers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if two_readers and pad == 0:
        folds = center == 0  # the second convolution is padded
    network = _network(center, pad, two_readers)
    model = random_model(network)
    assert bool(foldable(network.graph)) is folds
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 80, 3), np.uint8)
    proto = maps_onnx(model)
    assert any(node.op_type in ("Sub", "Div") for node in proto.graph.node) is not folds
    found = _run(proto.SerializeToString(), images)
    real = Translator.__init__

    def unfolded(self: Translator, builder: object, model: Model) -> None:
        real(self, builder, model)  # type: ignore[arg-type]
        self._left_out = set()

    monkeypatch.setattr(Translator, "__init__", unfolded)
    plain = maps_onnx(model)
    assert any(node.op_type == "Div" for node in plain.graph.node)
    (expected,) = create_engine(model, Runtime("mxnet")).run(images)
    for ours, unfused, name in zip(found, _run(plain.SerializeToString(), images), ("score", "box"), strict=True):
        np.testing.assert_allclose(ours, unfused, rtol=0, atol=2e-5)
        np.testing.assert_allclose(ours, expected[name], rtol=0, atol=2e-5)
    assert np.ptp(expected["score"]) > 0.05, "maps without contrast would prove nothing"
