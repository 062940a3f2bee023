"""Other projects' files in our networks: the real ones of the shared folder, and made-up ones of every format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deployment.layouts import LAYOUTS
from lffd.engines.factory import create_engine
from lffd.engines.runtime import Runtime
from lffd.errors import ModelError
from lffd.params import pack_params
from symbol_farm.ssh import PARTS
from symbol_farm.trained_models import params_file, resolve_model
from symbol_farm.versions import version_network

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

REAL = {
    "slim_320": ("slim_320.onnx", "ultra-light"),
    "rfb_320": ("rfb_320.onnx", "ultra-light"),
    "retinaface_mnet025": ("retinaface_mbnet0.25.onnx", "retinaface"),
}
THEIR_NAMES = {"face_rpn_cls_prob": "conf", "face_rpn_bbox_pred": "loc", "face_rpn_landmark_pred": "iou"}
ULTRA_LIGHT, RETINAFACE = (np.full(3, 127.0), 128.0), (np.array([104.0, 117.0, 123.0]), 1.0)


def _blocks(height: int, width: int) -> np.ndarray:
    """An image of coarse random blocks, which no layer averages away."""
    small = np.random.default_rng(0).integers(0, 256, (1, height // 8, width // 8, 3), np.uint8)
    return small.repeat(8, axis=1).repeat(8, axis=2)


def _their_outputs(path: Path, images: np.ndarray, ultra_light: bool) -> dict[str, np.ndarray]:
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    session = runtime.InferenceSession(str(path), options)
    mean, scale = ULTRA_LIGHT if ultra_light else RETINAFACE
    pixels = (images[..., ::-1] if ultra_light else images).astype(np.float32)
    data = ((pixels - mean) / scale).astype(np.float32).transpose(0, 3, 1, 2)
    names = [entry.name for entry in session.get_outputs()]
    return dict(zip(names, session.run(names, {"input": np.ascontiguousarray(data)}), strict=True))


@pytest.mark.parametrize("name", REAL)
def test_a_real_file_says_the_same_in_our_network(name: str, shared: Path) -> None:
    file, layout = REAL[name]
    path = shared / "peers" / file
    model = resolve_model(f"{name}={path}")
    assert params_file(f"{name}={path}") == path
    height, width = (240, 320) if layout == "ultra-light" else (320, 416)
    images = _blocks(height, width)
    maps = create_engine(model, Runtime("mxnet")).run(images)
    ours = LAYOUTS[layout].compute(model.network, maps, height, width)
    theirs = _their_outputs(path, images, layout == "ultra-light")
    for output, values in ours.items():
        expected = theirs[THEIR_NAMES.get(output, output)]
        assert values.shape == expected.shape
        assert np.abs(values - expected).max() <= 1e-4, output
    assert theirs["conf" if "conf" in theirs else "scores"][..., 1].max() > 0.05


def _torch_arrays(name: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays as PyTorch implementations name them, every normalised layer with its four statistics."""
    network, rng = version_network(name), np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    for key, shape in network.parameter_shapes.items():
        layer, _, role = key.rpartition("_")
        if layer not in network.gains or role == "weight":
            arrays[f"{_dotted(layer)}.{role}"] = rng.normal(0, 0.2, shape)
    for layer in network.gains:
        norm, count = _norm_of(_dotted(layer)), network.parameter_shapes[f"{layer}_bias"]
        arrays |= {f"{norm}.{part}": rng.uniform(0.5, 1.5, count) for part in ("weight", "bias", "running_mean")}
        arrays |= {f"{norm}.running_var": rng.uniform(0.5, 2, count), f"{norm}.num_batches_tracked": np.array(7)}
    return {key: np.asarray(value, np.float32) for key, value in arrays.items()}


def _dotted(layer: str) -> str:
    """`body_layer1_0_conv1` as it is called there; `base_net`, `conv5X5_1` and the like keep their underscores."""
    for kept in ("base_net", "classification_headers", "regression_headers", *PARTS[1:]):
        layer = layer.replace(kept, kept.replace("_", "~"))
    return layer.replace("_", ".").replace("~", "_")


def _norm_of(layer: str) -> str:
    head, _, last = layer.rpartition(".")
    return f"{head}.{last.replace('conv', 'bn') if 'conv' in last else int(last) + 1}".lstrip(".")


@pytest.mark.parametrize("name", ["slim_320", "rfb_320", "retinaface_mnet025", "retinaface_r50"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_state_dict_is_folded_and_reordered(name: str, wrapped: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    arrays = _torch_arrays(name)
    state = {("module." if wrapped else "") + key: torch.tensor(value) for key, value in arrays.items()}
    torch.save({"state_dict": state} if wrapped else state, tmp_path / "x.pth")
    model = resolve_model(f"{name}={tmp_path / 'x.pth'}")
    network, first = model.network, next(layer.name for layer in model.network.layers)
    weight, norm = arrays[f"{_dotted(first)}.weight"], _norm_of(_dotted(first))
    gain = arrays[f"{norm}.weight"] / np.sqrt(arrays[f"{norm}.running_var"] + 1e-5)
    rgb = name in ("slim_320", "rfb_320")
    expected = (weight[:, ::-1] if rgb else weight) * gain[:, None, None, None]
    np.testing.assert_allclose(model.params[f"{first}_weight"], expected, rtol=1e-5)
    shift = arrays[f"{norm}.bias"] - arrays[f"{norm}.running_mean"] * gain
    np.testing.assert_allclose(model.params[f"{first}_bias"], shift, rtol=1e-4, atol=1e-6)
    head = "classification_headers_0_2" if rgb else "ClassHead_0_conv1x1"
    count = network.predictions[0]
    order = [*range(1, 2 * count, 2), *range(0, 2 * count, 2)]  # faces first, then backgrounds
    np.testing.assert_array_equal(model.params[f"{head}_bias"], arrays[f"{_dotted(head)}.bias"][order])


def _mxnet_arrays() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Parameters and states by InsightFace's names."""
    network, rng = version_network("retinaface_r50_mxnet"), np.random.default_rng(0)
    params: dict[str, np.ndarray] = {}
    states: dict[str, np.ndarray] = {}

    def normalise(norm: str, count: int) -> None:
        params[f"{norm}_gamma"], params[f"{norm}_beta"] = rng.uniform(0.5, 1.5, count), rng.normal(0, 0.1, count)
        states[f"{norm}_moving_mean"], states[f"{norm}_moving_var"] = (
            rng.normal(0, 1, count),
            rng.uniform(0.5, 2, count),
        )

    for layer in (layer for layer in network.layers if layer.parameters):
        count = layer.out_channels
        if layer.name in ("bn_data", "bn1") or layer.name.endswith("_bn1"):
            normalise(layer.name, count)
            continue
        shape = network.parameter_shapes[f"{layer.name}_weight"]
        params[f"{layer.name}_weight"] = rng.normal(0, 0.05, shape)
        if layer.name.startswith(("face_", "ssh_")):
            params[f"{layer.name}_bias"] = rng.normal(0, 0.05, count)
        if layer.name == "conv0":
            normalise("bn0", count)
        elif layer.name.startswith("ssh_"):
            normalise(f"{layer.name}_bn", count)
        elif layer.name.endswith(("_conv1", "_conv2")):
            unit, _, number = layer.name.rpartition("_conv")
            normalise(f"{unit}_bn{int(number) + 1}", count)
    return params, states


def test_parameters_with_the_names_of_insightface_are_read(tmp_path: Path) -> None:
    params, states = _mxnet_arrays()
    path = tmp_path / "R50-0000.params"
    path.write_bytes(pack_params(*({k: v.astype(np.float32) for k, v in part.items()} for part in (params, states))))
    model = resolve_model(f"retinaface_r50_mxnet={path}")
    gain = 1 / np.sqrt(states["bn_data_moving_var"] + 2e-5)  # its gain is fixed, whatever is stored
    np.testing.assert_allclose(model.params["bn_data_weight"][:, :, 0, 0], np.diag(gain)[:, ::-1], rtol=1e-5)
    gain = params["stage1_unit1_bn1_gamma"] / np.sqrt(states["stage1_unit1_bn1_moving_var"] + 2e-5)
    np.testing.assert_allclose(model.params["stage1_unit1_bn1_weight"].ravel(), gain, rtol=1e-5)
    gain = params["stage1_unit1_bn2_gamma"] / np.sqrt(states["stage1_unit1_bn2_moving_var"] + 2e-5)
    expected = params["stage1_unit1_conv1_weight"] * gain[:, None, None, None]
    np.testing.assert_allclose(model.params["stage1_unit1_conv1_weight"], expected, rtol=1e-4, atol=1e-7)
    head = "face_rpn_cls_score_stride16_bias"
    np.testing.assert_array_equal(model.params[head], params[head].astype(np.float32)[[2, 3, 0, 1]])


def _with_input_step(shared: Path, tmp_path: Path, mean: float, scale: float) -> Path:
    """A real file that shifts and scales its image itself."""
    model = onnx.load(shared / "peers/slim_320.onnx")
    helper = onnx.helper
    stored = {"m": mean, "s": scale}
    for name, value in stored.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(value), name))
    first = next(node for node in model.graph.node if "input" in node.input)
    first.input[0] = "ready"
    nodes = [helper.make_node("Sub", ["input", "m"], ["less"]), helper.make_node("Div", ["less", "s"], ["ready"])]
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    onnx.save(model, tmp_path / "inside.onnx")
    return tmp_path / "inside.onnx"


def test_a_mean_inside_the_file_is_not_applied_twice(shared: Path, tmp_path: Path) -> None:
    plain = resolve_model(f"slim_320={shared / 'peers/slim_320.onnx'}")
    inside = resolve_model(f"slim_320={_with_input_step(shared, tmp_path, 127.0, 128.0)}")
    assert all(np.array_equal(plain.params[name], inside.params[name]) for name in plain.params)
    other = _with_input_step(shared, tmp_path, 100.0, 128.0)
    with pytest.raises(ModelError, match=r"itself subtracts 100, 100, 100 .* and divides by 128, 128, 128, which"):
        resolve_model(f"slim_320={other}")


def test_files_that_do_not_fit_are_refused_in_one_line(shared: Path, tmp_path: Path) -> None:
    slim = shared / "peers/slim_320.onnx"
    with pytest.raises(ModelError, match="say which network's weights these are, as VERSION="):
        resolve_model(str(slim))
    with pytest.raises(ModelError, match=r"not of the structure of rfb_320: it has no further convolution of weight"):
        resolve_model(f"rfb_320={slim}")
    with pytest.raises(ModelError, match="not of the structure of slim_320"):
        resolve_model(f"slim_320={shared / 'peers/yunet_n_dynamic.onnx'}")
    with pytest.raises(ModelError, match=r"are read into slim_320, .*, not into 10_320_20L"):
        resolve_model(f"v2={slim}")
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match="not a readable ONNX file"):
        resolve_model(f"slim_320={tmp_path / 'x.onnx'}")
    with pytest.raises(ModelError, match="no such file"):
        resolve_model(f"slim_320={tmp_path / 'none.onnx'}")


def test_a_rewired_file_is_refused(shared: Path, tmp_path: Path) -> None:
    """All sizes fit, but one head reads the other one's map."""
    model = onnx.load(shared / "peers/retinaface_mbnet0.25.onnx")
    heads = [node for node in model.graph.node if node.op_type == "Conv" and "BboxHead" in node.input[1]]
    heads[0].input[0] = heads[1].input[0]
    onnx.save(model, tmp_path / "x.onnx")
    with pytest.raises(ModelError, match="BboxHead_0_conv1x1 reads other layers there"):
        resolve_model(f"retinaface_mnet025={tmp_path / 'x.onnx'}")


def test_state_dicts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    arrays = {key: torch.tensor(value) for key, value in _torch_arrays("slim_320").items()}
    del arrays["base_net.0.0.weight"]
    torch.save({**arrays, "other.weight": torch.zeros(3)}, tmp_path / "x.pth")
    with pytest.raises(ModelError, match=r"1 missing, such as base_net_0_0; \d+ unknown, such as "):
        resolve_model(f"slim_320={tmp_path / 'x.pth'}")
    torch.save([1, 2, 3], tmp_path / "y.pth")
    with pytest.raises(ModelError, match="not a PyTorch state dict"):
        resolve_model(f"slim_320={tmp_path / 'y.pth'}")
    torch.save({"x": Path}, tmp_path / "z.pth")  # a class, which must not be unpickled
    with pytest.raises(ModelError, match="not a PyTorch state dict"):
        resolve_model(f"slim_320={tmp_path / 'z.pth'}")
