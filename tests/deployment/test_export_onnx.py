"""Exported ONNX files: what they give, to whom, and when they are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployment import export_onnx
from deployment.calibration import collect_ranges
from deployment.export_onnx import Options, box_codes, build, decode_maps, main
from deployment.quantized_graph import with_8_bit_graphs
from detection.detector import Detector
from detection.selection import Selection
from lffd.boxes import areas
from lffd.engines.factory import create_engine
from lffd.engines.runtime import Runtime
from lffd.errors import ModelError, UsageError
from lffd.graphs.model import Model, save_model
from lffd.graphs.onnx_graph import FILE_VERSION, OPERATOR_SET, maps_onnx
from tests.factories import random_model

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def model() -> Model:
    return random_model("plate_small")


@pytest.fixture
def directory(model: Model, tmp_path: Path) -> str:
    save_model(model, tmp_path / "model")
    return str(tmp_path / "model")


def _images(batch: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (batch, height, width, 3), dtype=np.uint8)


def _nchw(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32)


def _run(path: Path, data: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"data": data}), strict=True))


@pytest.mark.parametrize("shape", [(1, 127, 128), (3, 160, 301)])
def test_raw_maps(model: Model, directory: str, tmp_path: Path, shape: tuple[int, int, int]) -> None:
    main(Options(model=directory, output=tmp_path / "maps.onnx"))
    images = _images(*shape)
    found = _run(tmp_path / "maps.onnx", _nchw(images))
    assert list(found) == ["score_0", "box_0", "score_1", "box_1", "score_2", "box_2"]
    for index, maps in enumerate(create_engine(model, Runtime("mxnet")).run(images)):
        assert np.abs(found[f"score_{index}"] - maps["score"]).max() <= 1e-4
        assert np.abs(found[f"box_{index}"] - maps["box"]).max() <= 1e-4


@pytest.mark.parametrize(
    ("options", "prepare"),
    [
        ({}, _nchw),
        ({"normalization": "outside"}, lambda images: (_nchw(images) - 127.5) / np.float32(127.5)),
        ({"input": "nhwc-uint8"}, lambda images: images),
    ],
)
def test_decoded_boxes(model: Model, directory: str, tmp_path: Path, options: dict[str, Any], prepare: Any) -> None:
    main(Options(model=directory, output=tmp_path / "boxes.onnx", decoded=True, **options))
    images = _images(2, 150, 211)
    found = _run(tmp_path / "boxes.onnx", prepare(images))
    expected = decode_maps(model.network, create_engine(model, Runtime("mxnet")).run(images))
    cells = sum(rows * columns for rows, columns in model.network.map_sizes(150, 211))
    assert found["boxes"].shape == (2, cells, 4)
    assert found["scores"].shape == (2, cells)
    assert np.abs(found["scores"] - expected["scores"]).max() <= 1e-4
    codes, wanted = (box_codes(model.network, outputs, images) for outputs in (found, expected))
    assert np.abs(codes["boxes"] - wanted["boxes"]).max() <= 1e-4


def test_decoding_follows_the_branch_geometry(model: Model) -> None:
    """One cell, written out by hand: third row, second column of the second branch."""
    images = _images(1, 200, 240)
    maps = create_engine(model, Runtime("mxnet")).run(images)
    outputs = decode_maps(model.network, maps)
    row, column = 2, 1
    first, columns = maps[0]["score"][0].size, maps[1]["score"].shape[3]
    branch = model.network.branch_geometry[1]
    x, y = branch.first_center + column * branch.stride, branch.first_center + row * branch.stride
    code = maps[1]["box"][0, :, row, column] * branch.normalizer
    place = first + row * columns + column
    assert np.allclose(outputs["boxes"][0, place], [x - code[0], y - code[1], x - code[2], y - code[3]], atol=1e-4)
    assert outputs["scores"][0, place] == maps[1]["score"][0, 0, row, column]


def test_suppression_inside(model: Model, directory: str, tmp_path: Path) -> None:
    """Kept boxes come image by image, best first, inside it."""
    path = tmp_path / "detections.onnx"
    main(Options(model=directory, output=path, suppressed=True, score_threshold=0.3, suppression_threshold=0.3))
    found = _run(path, _nchw(_images(2, 260, 300)))
    assert list(found) == ["boxes", "scores", "images"]
    assert set(found["images"]) == {0, 1}
    for index in (0, 1):
        mine = found["images"] == index
        scores, boxes = found["scores"][mine], found["boxes"][mine]
        assert scores.size > 1
        assert np.all(np.diff(scores) <= 0)
        assert scores.min() > 0.3
        assert boxes.min() >= 0
        assert np.all(boxes <= (300, 260, 300, 260))


def _with_upright_boxes(model: Model) -> Model:
    """The same network with boxes of about three quarters of each branch's range, and scores around a half."""
    calm = {name: value * np.float32(0.1 if "_3_" in name else 1) for name, value in model.params.items()}
    corners = np.array([0.75, 0.75, -0.75, -0.75], np.float32)
    return replace(
        model, params={name: value + corners if "_3_bbox_bias" in name else value for name, value in calm.items()}
    )


@pytest.mark.parametrize("version", ["plate_small", "v3"])
def test_bare_onnxruntime_gives_the_boxes_of_the_detector(version: str, tmp_path: Path) -> None:
    model, path = _with_upright_boxes(random_model(version)), tmp_path / "detections.onnx"
    save_model(model, tmp_path / "model")
    options = Options(
        model=str(tmp_path / "model"), output=path, suppressed=True, input="nhwc-uint8", score_threshold=0.5
    )
    main(options)
    image = _images(1, 301, 405)[0]
    found = _run(path, image[None])
    selection = Selection(
        options.score_threshold, 100_000, options.suppression_threshold, max_detections=options.max_detections
    )
    expected = Detector(model, selection, runtime=Runtime("mxnet"))(image)
    assert len(expected) > 3
    assert expected.boxes.min() == 0
    solid = areas(found["boxes"]) > 0  # the detector leaves out what lies outside the image
    assert found["boxes"][solid] == pytest.approx(expected.boxes, abs=0.02)
    assert found["scores"][solid] == pytest.approx(expected.scores, abs=1e-4)


def test_openvino_reads_the_file(model: Model, directory: str, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    path = tmp_path / "boxes.onnx"
    main(Options(model=directory, output=path, decoded=True))
    data = _nchw(_images(1, 140, 190))
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found, expected = compiled(data), _run(path, data)
    assert np.abs(found[0] - expected["boxes"]).max() <= 1e-2
    assert np.abs(found[1] - expected["scores"]).max() <= 1e-4


def test_file_is_pinned_open_and_says_what_it_is(directory: str, tmp_path: Path) -> None:
    main(Options(model=directory, output=tmp_path / "maps.onnx"))
    loaded = onnx.load(tmp_path / "maps.onnx")
    assert loaded.ir_version == FILE_VERSION
    assert [(entry.domain, entry.version) for entry in loaded.opset_import] == [("", OPERATOR_SET)]
    dimensions = [d.dim_param or d.dim_value for d in loaded.graph.input[0].type.tensor_type.shape.dim]
    assert dimensions == ["batch", 3, "height", "width"]
    facts = {entry.key: entry.value for entry in loaded.metadata_props}
    assert facts["version"] == "64_512_16L_3scales_v1_small"
    assert "BGR" in facts["input"]


def test_a_wrong_graph_is_refused_and_an_old_file_stays(
    model: Model, directory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost ReLU is what a faulty converter gives; here the convolution's bias is off instead."""
    path = tmp_path / "maps.onnx"
    path.write_bytes(b"old lffd")
    wrong = {**model.params, "conv7_bias": model.params["conv7_bias"] + 0.01}
    real = maps_onnx
    monkeypatch.setattr(
        export_onnx, "maps_onnx", lambda model, *args, **more: real(replace(model, params=wrong), *args, **more)
    )
    with pytest.raises(ModelError, match=r"differs from MXNet by more than 0\.0001.*box_0 by"):
        main(Options(model=directory, output=path))
    assert path.read_bytes() == b"old lffd"
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["maps.onnx"]


@pytest.fixture(scope="module")
def int8_directory(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantised") / "int8"
    save_model(
        with_8_bit_graphs(model, collect_ranges(model, list(_images(1, 160, 160)), ["minmax"])["minmax"]), folder
    )
    return folder


@pytest.mark.parametrize(("engine", "name"), [("onnxruntime", "int8.onnx"), ("openvino", "int8_openvino.onnx")])
def test_an_8_bit_directory_gives_its_own_graph(int8_directory: Path, engine: Any, name: str, tmp_path: Path) -> None:
    path = tmp_path / "out.onnx"
    main(Options(model=str(int8_directory), output=path, precision="int8", int8_for=engine, input="nhwc-uint8"))
    assert path.read_bytes() == (int8_directory / name).read_bytes()


def test_an_8_bit_directory_gives_its_float_network_when_asked(int8_directory: Path, tmp_path: Path) -> None:
    main(Options(model=str(int8_directory), output=tmp_path / "out.onnx", precision="fp32"))
    stored = {tensor.data_type for tensor in onnx.load(tmp_path / "out.onnx").graph.initializer}
    assert onnx.TensorProto.INT8 not in stored


@pytest.mark.parametrize(("more", "message"), [
    ({}, "is quantised: say --precision int8 for its 8-bit graph"),
    ({"precision": "int8"}, "give --input nhwc-uint8"),
    ({"precision": "int8", "input": "nhwc-uint8", "decoded": True}, "without --decoded"),
])  # fmt: skip
def test_an_8_bit_directory_gives_nothing_unasked(
    int8_directory: Path, more: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        main(Options(model=str(int8_directory), output=tmp_path / "out.onnx", **more))
    assert list(tmp_path.iterdir()) == []


def test_a_float_directory_has_no_8_bit_graph(directory: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no int8\.onnx, but no 8-bit graph; make one with lffd quantize"):
        main(Options(model=directory, output=tmp_path / "o.onnx", precision="int8", input="nhwc-uint8"))


def test_an_8_bit_directory_is_never_exported_in_floats_unasked(model: Model, tmp_path: Path) -> None:
    card = {**model.card, "quantization": {"precision": "int8"}}
    reduced = replace(model, card=card, extra_files={"int8.onnx": b"graph"})
    save_model(reduced, tmp_path / "int8")
    with pytest.raises(UsageError, match="is quantised: say --precision int8"):
        main(Options(model=str(tmp_path / "int8"), output=tmp_path / "maps.onnx"))
    assert not (tmp_path / "maps.onnx").exists()
    main(Options(model=str(tmp_path / "int8"), output=tmp_path / "maps.onnx", precision="fp32"))
    images = _images(1, 150, 211)
    found = _run(tmp_path / "maps.onnx", _nchw(images))
    assert np.abs(found["score_0"] - create_engine(model, Runtime("mxnet")).run(images)[0]["score"]).max() <= 1e-4


def test_another_suppression_is_refused(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_onnx, "suppress", lambda boxes, scores, *rest, **more: np.argsort(-scores)[:3])
    with pytest.raises(ModelError, match="suppression inside the graph keeps"):
        build(model, Options(model="", output=tmp_path / "x.onnx", suppressed=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input": "nhwc-uint8", "normalization": "outside"}, "uint8 pixels cannot be normalised outside"),
        ({"output": Path("no/such/folder/x.onnx")}, "is not a folder"),
    ],
)
def test_bad_requests(directory: str, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        main(Options(**{"model": directory, "output": tmp_path / "x.onnx", **options}))


@pytest.mark.parametrize("options", [{}, {"decoded": True}, {"suppressed": True}, {"input": "nhwc-uint8"}])
def test_one_size(model: Model, directory: str, tmp_path: Path, options: dict[str, Any]) -> None:
    """The same results as from the open graph, every shape is written down, and none is computed."""
    images = _images(1, 150, 211)
    data = images if options.get("input") else _nchw(images)
    main(Options(model=directory, output=tmp_path / "open.onnx", **options))
    main(Options(model=directory, output=tmp_path / "fixed.onnx", fixed_shape="211x150", **options))
    found, expected = _run(tmp_path / "fixed.onnx", data), _run(tmp_path / "open.onnx", data)
    assert found.keys() == expected.keys()
    for name, values in found.items():
        assert np.array_equal(values, expected[name]), name
    graph = onnx.load(str(tmp_path / "fixed.onnx")).graph
    sizes = [*graph.input, *([] if options.get("suppressed") else graph.output)]
    assert all(size.dim_value for value in sizes for size in value.type.tensor_type.shape.dim)
    assert not {node.op_type for node in graph.node} & {"Shape", "Range"}


@pytest.mark.parametrize(
    ("size", "said"), [("100x300", "takes no 100x300: its sides are of at least"), ("300", "is not a size")]
)
def test_a_size_that_the_network_does_not_take(directory: str, tmp_path: Path, size: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        main(Options(model=directory, output=tmp_path / "fixed.onnx", fixed_shape=size))
    assert not (tmp_path / "fixed.onnx").exists()
