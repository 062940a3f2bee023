"""Parameters and operations of ONNX files, against counts by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detection.peers.size import peer_size
from lffd.errors import ModelError

onnx = pytest.importorskip("onnx")


def network(path: Path, size: str | int, group: int = 1) -> Path:
    """Two convolutions: 3×3 with stride 2 to 8 channels, then 3×3 to 8, in groups; for images of any size."""
    helper = onnx.helper
    weights = {"w1": np.ones((8, 3, 3, 3), np.float32), "b1": np.ones(8, np.float32)}
    weights |= {"w2": np.ones((8, 8 // group, 3, 3), np.float32), "shape": np.array([1, -1], np.int64)}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "w2"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=group),
        helper.make_node("Reshape", ["c", "shape"], ["y"]),
    ]
    entry = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, size, size])
    result = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", "m"])
    values = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [entry], [result], values)), str(path))
    return path


@pytest.mark.parametrize("group", [1, 8])
@pytest.mark.parametrize("size", ["s", 320])
def test_counts_are_those_by_hand(tmp_path: Path, size: str | int, group: int) -> None:
    parameters, gmac = peer_size("scrfd", network(tmp_path / "n.onnx", size, group), 100, 64)
    assert parameters == 8 * 27 + 8 + 72 * 8 // group
    cells = 160 * 160 if size == 320 else (128 // 2) * (64 // 2)  # its own size, or padded to a multiple of 32
    assert gmac == pytest.approx(cells * (8 * 27 + 72 * 8 // group) / 1e9, rel=1e-12)


def test_a_stretched_input_costs_the_same_for_every_image(tmp_path: Path) -> None:
    path = network(tmp_path / "n.onnx", "s")
    assert peer_size("slim-320", path, 100, 64) == peer_size("slim-320", path, 4000, 3000)


def test_a_convolution_without_weights_is_named(tmp_path: Path) -> None:
    model = onnx.load(str(network(tmp_path / "n.onnx", "s")))
    weight = next(item for item in model.graph.initializer if item.name == "w2")
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["w2"], value=weight))
    model.graph.initializer.remove(weight)
    onnx.save(model, str(tmp_path / "n.onnx"))
    with pytest.raises(ModelError, match=r"n\.onnx.*convolution c are not known"):
        peer_size("scrfd", tmp_path / "n.onnx", 64, 64)


@pytest.mark.parametrize("content", [b"", b"not a network", None])
def test_other_files_are_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "file.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"file\.onnx"):
        peer_size("scrfd", path, 64, 64)
