"""MXNet behind its fences: right numbers, whatever the environment asks for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lffd.engines.mxnet_engine import FUSION_VARIABLE, MXNetEngine, MXNetGraph, import_mxnet, parse_device
from lffd.errors import EngineError, GeometryError, UsageError
from lffd.graphs.model import Model
from symbol_farm.trained_models import resolve_model
from tests.factories import random_model


@pytest.fixture(scope="module")
def plate(shared: Path) -> Model:
    return resolve_model(f"plate={shared / 'checkpoints' / 'plate_64_512_16L_3scales_v1.params'}")


def _image(height: int, width: int) -> np.ndarray:
    """A fixed picture with edges, gradients and noise, `(1, height, width, 3)` uint8."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(3).integers(0, 60, (height, width, 3))
    waves = np.stack([x * 255 // width, y * 255 // height, ((x // 24 + y // 16) % 2) * 180], axis=-1)
    return np.clip(waves + noise - 30, 0, 255).astype(np.uint8)[None]


def _plate_op_by_op(params: dict[str, np.ndarray], images: np.ndarray) -> list[np.ndarray]:
    """The plate network written out with imperative operators: no symbol, no executor."""
    mx = import_mxnet()

    def conv(data: Any, name: str, kernel: int = 1, stride: int = 1, pad: int = 0) -> Any:
        weight, bias = (mx.nd.array(params[f"{name}_{part}"]) for part in ("weight", "bias"))
        square = {key: (value, value) for key, value in (("kernel", kernel), ("stride", stride), ("pad", pad))}
        return mx.nd.Convolution(data, weight, bias, num_filter=weight.shape[0], **square)

    x = (mx.nd.array(images.transpose(0, 3, 1, 2)) - 127.5) / 127.5
    for name in ("conv1", "conv2", "conv3"):
        x = mx.nd.relu(conv(x, name, 3, 2))
    outputs = []
    for down, pairs in ((4, [(5, 6), (7, 8), (9, 10)]), (11, [(12, 13)]), (14, [(15, 16)])):
        total = conv(x, f"conv{down}", 3, 2)
        for first, second in pairs:
            inner = mx.nd.relu(conv(mx.nd.relu(total), f"conv{first}", 3, 1, 1))
            total = conv(inner, f"conv{second}", 3, 1, 1) + total
        x = mx.nd.relu(total)
        head = f"conv{pairs[-1][1]}"
        shared_map = mx.nd.relu(conv(x, f"{head}_1"))
        score = conv(mx.nd.relu(conv(shared_map, f"{head}_2_score")), f"{head}_3_score")
        box = conv(mx.nd.relu(conv(shared_map, f"{head}_2_bbox")), f"{head}_3_bbox")
        outputs += [mx.nd.softmax(score, axis=1)[:, :1].asnumpy(), box.asnumpy()]
    return outputs


def _differences(plate: Model, images: np.ndarray) -> list[float]:
    engine = MXNetEngine(plate)
    ours = [maps[name] for maps in engine.run(images) for name in ("score", "box")]
    reference = _plate_op_by_op(dict(plate.params), images)
    return [float(np.abs(a - b).max()) for a, b in zip(ours, reference, strict=True)]


def test_published_weights_give_the_numbers_of_the_network_run_op_by_op(plate: Model) -> None:
    assert max(_differences(plate, _image(333, 421))) < 1e-4


def test_a_user_who_asks_for_the_faulty_fusion_still_gets_right_numbers(
    plate: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_mxnet()
    monkeypatch.setenv(FUSION_VARIABLE, "MKLDNN")
    with pytest.warns(RuntimeWarning, match="MXNET_SUBGRAPH_BACKEND=MKLDNN is ignored"):
        differences = _differences(plate, _image(320, 320))
    assert max(differences) < 1e-4


def test_an_executor_bound_with_the_fusion_on_is_wrong(plate: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault that the fence is for: should a later MXNet lose it, the fence can go."""
    mx = import_mxnet()
    images = _image(320, 320)
    reference = _plate_op_by_op(dict(plate.params), images)
    monkeypatch.setenv(FUSION_VARIABLE, "MKLDNN")
    arguments = {name: mx.nd.array(value) for name, value in plate.params.items()}
    arguments["data"] = mx.nd.array(images.transpose(0, 3, 1, 2))
    executor = mx.sym.load_json(plate.symbol_json).bind(mx.cpu(), arguments, grad_req="null")
    outputs = [output.asnumpy() for output in executor.forward(is_train=False)]
    assert max(np.abs(a - b).max() for a, b in zip(outputs, reference, strict=True)) > 1e-2


def test_batches_give_the_rows_of_single_images() -> None:
    model = random_model("plate_small")
    engine = MXNetEngine(model)
    images = np.concatenate([_image(200, 240), _image(200, 240)[:, ::-1]])
    together = engine.run(images)
    for row in range(2):
        for maps, single in zip(together, engine.run(images[row : row + 1]), strict=True):
            np.testing.assert_allclose(maps["score"][row], single["score"][0], atol=1e-5)
            np.testing.assert_allclose(maps["box"][row], single["box"][0], atol=1e-4)


def test_one_engine_serves_many_shapes_in_any_order() -> None:
    model = random_model("plate_small")
    engine = MXNetEngine(model)
    shapes = [(1, 192, 192), (1, 192, 260), (2, 300, 200), (1, 192, 192), (1, 401, 333), (1, 192, 260)]
    for count, height, width in shapes:
        images = np.repeat(_image(height, width), count, axis=0)
        fresh = MXNetEngine(model).run(images)
        for maps, expected in zip(engine.run(images), fresh, strict=True):
            np.testing.assert_array_equal(maps["score"], expected["score"])
            np.testing.assert_array_equal(maps["box"], expected["box"])


def test_results_of_one_call_outlive_the_next() -> None:
    model = random_model("plate_small")
    engine = MXNetEngine(model)
    first = engine.run(_image(192, 192))
    kept = [maps["score"].copy() for maps in first]
    engine.run(_image(192, 192)[:, ::-1])
    assert all(np.array_equal(maps["score"], before) for maps, before in zip(first, kept, strict=True))


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 200, 200, 3), np.float32),
        np.zeros((200, 200, 3), np.uint8),
        np.zeros((1, 3, 200, 200), np.uint8),
        np.zeros((0, 200, 200, 3), np.uint8),
    ],
)
def test_other_inputs_are_refused(images: np.ndarray) -> None:
    model = random_model("plate_small")
    with pytest.raises(UsageError, match="images must be uint8"):
        MXNetEngine(model).run(images)


def test_too_small_an_input_is_one_line_and_the_engine_lives_on() -> None:
    model = random_model("plate_small")
    engine = MXNetEngine(model)
    with pytest.raises(GeometryError, match=r"input 20x20 is too small for .* at least 127 px") as caught:
        engine.run(np.zeros((1, 20, 20, 3), np.uint8))
    assert "\n" not in str(caught.value)
    assert engine.run(_image(192, 192))[0]["score"].shape[0] == 1


def test_a_graph_that_mxnet_cannot_run_is_one_line() -> None:
    model = random_model("plate_small")
    graph = MXNetGraph(model.symbol_json, model.params)
    with pytest.raises(EngineError, match=r"MXNet cannot run an input of shape \(1, 3, 20, 20\)") as caught:
        graph.forward(np.zeros((1, 3, 20, 20), np.float32))
    assert "\n" not in str(caught.value)
    assert len(graph.forward(np.zeros((1, 3, 192, 192), np.float32))) == 6
    with pytest.raises(EngineError, match="MXNet refuses the graph: ") as caught:
        MXNetGraph(model.symbol_json.replace('"softmax"', '"no_such_operator"'), model.params)
    assert "\n" not in str(caught.value)


def test_devices_by_name() -> None:
    assert str(parse_device("cpu")) == "cpu(0)"
    with pytest.raises(EngineError, match="unknown device 'tpu'"):
        parse_device("tpu")
    with pytest.raises(EngineError, match="device gpu:7 cannot be used: this MXNet sees"):
        parse_device("gpu:7")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raise ImportError('No module named mxnet')", "Install it with: pip install -e '.[mxnet]'"),
        ("raise OSError('libgomp.so.1: cannot open shared object file')", "apt-get install libgomp1"),
    ],
)
def test_a_missing_or_broken_mxnet_says_what_to_do(tmp_path: Path, project: Path, fault: str, message: str) -> None:
    (tmp_path / "mxnet.py").write_text(fault)
    code = "from lffd.engines.mxnet_engine import import_mxnet\nimport_mxnet()"
    path = os.pathsep.join([str(tmp_path), str(project)])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert message in done.stderr.splitlines()[-1]
