from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detection.load import load_detector, model_facts, parse_peer
from detection.peers.detector import PeerDetector
from detection.selection import Selection
from detection.views import ViewSettings
from lffd.engines.runtime import Runtime
from lffd.errors import EngineError, ModelError, UsageError
from tests.accuracy_evaluation.made_up import write_onnx

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


SLIM = {"scores": (1, 4420, 2), "boxes": (1, 4420, 4)}
SCRFD = {f"{name}_{s}": (1, 9, width) for name, width in (("score", 1), ("bbox", 4), ("kps", 10)) for s in (8, 16, 32)}


def ultra_light(path: Path, boxes: list[list[float]], scores: list[float]) -> Path:
    """A slim-320 that always answers the same."""
    outputs = {"scores": np.zeros((1, 4420, 2)), "boxes": np.zeros((1, 4420, 4))}
    outputs["boxes"][0, : len(boxes)] = np.reshape(boxes, (-1, 4))
    outputs["scores"][0, : len(scores), 1] = scores
    return write_onnx(path, outputs, (1, 3, 240, 320))


def scrfd(path: Path, side: int | str, rows: int, columns: int, strides: tuple[int, ...] = (8, 16, 32)) -> Path:
    """An SCRFD that answers as for an image of `rows` × `columns` pixels: one face at stride 8, row 1, column 2."""
    outputs = {}
    for name, width in (("score", 1), ("bbox", 4), ("kps", 10)):
        for stride in strides:
            outputs[f"{name}_{stride}"] = np.zeros((1, 2 * (rows // stride) * (columns // stride), width))
    number = 2 * (columns // 8 + 2)
    outputs["score_8"][0, number] = 0.75
    outputs["bbox_8"][0, number] = (1, 1, 2, 3)
    outputs["kps_8"][0, number] = 1
    return write_onnx(path, outputs, (1, 3, side, side))


def image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_boxes_come_back_in_the_pixels_of_the_image(tmp_path: Path) -> None:
    path = ultra_light(
        tmp_path / "slim.onnx", [[0.25, 0.5, 0.5, 1], [0, 0, 1, 1], [0.25, 0.5, 0.5, 0.99]], [0.6, 0.9, 0.5]
    )
    found = PeerDetector("slim-320", path)(image(480, 1280))
    np.testing.assert_allclose(found.boxes, [[0, 0, 1280, 480], [320, 240, 640, 480]])
    np.testing.assert_allclose(found.scores, [0.9, 0.6])
    assert found.landmarks is None


def test_the_selection_is_obeyed(tmp_path: Path) -> None:
    path = ultra_light(tmp_path / "slim.onnx", [[0, 0, 1, 1], [0, 0, 1, 0.9], [0, 0, 0.1, 0.1]], [0.9, 0.8, 0.3])
    for selection, scores in [
        (Selection(), [0.9, 0.3]),
        (Selection(score_threshold=0.5), [0.9]),
        (Selection(suppression_threshold=0.95), [0.9, 0.8, 0.3]),
        (Selection(suppression_threshold=0.95, top_k=2), [0.9, 0.8]),
        (Selection(suppression_threshold=0.95, max_detections=1), [0.9]),
        (Selection(overlap="own-area"), [0.9]),
    ]:
        found = PeerDetector("slim-320", path, selection)(image(240, 320))
        np.testing.assert_allclose(found.scores, scores, rtol=1e-6)


def test_images_are_padded_to_what_the_network_divides(tmp_path: Path) -> None:
    detector = PeerDetector("scrfd", scrfd(tmp_path / "scrfd.onnx", "side", 64, 96))
    pixels = image(61, 70)
    tensor, scale = detector.prepare(pixels)
    assert tensor.shape == (1, 3, 64, 96)
    assert scale.tolist() == [1, 1]
    np.testing.assert_allclose(tensor[0, 0, :61, :70], (pixels[..., 2] - 127.5) / 128, rtol=1e-6)  # red first
    assert np.all(tensor[0, :, 61:] == np.float32(-127.5 / 128))
    found = detector(pixels)
    assert found.boxes.tolist() == [[8, 0, 32, 32]]
    assert found.landmarks is not None
    assert found.landmarks.tolist() == [[[24, 16]] * 5]


def test_a_fixed_input_is_filled_with_the_whole_image_in_proportion(tmp_path: Path) -> None:
    detector = PeerDetector("scrfd", scrfd(tmp_path / "scrfd.onnx", 64, 64, 64))
    tensor, scale = detector.prepare(image(32, 128))
    assert tensor.shape == (1, 3, 64, 64)
    assert scale.tolist() == [0.5, 0.5]
    found = detector(image(32, 128))
    assert found.boxes.tolist() == [[16, 0, 64, 64]]
    assert found.landmarks is not None
    assert found.landmarks.tolist() == [[[48, 32]] * 5]


def test_outputs_with_other_names_are_found_by_shape(tmp_path: Path) -> None:
    outputs = {"a": np.zeros((1, 4420, 4)), "b": np.zeros((1, 4420, 2))}
    outputs["a"][0, 0], outputs["b"][0, 0] = (0, 0, 1, 1), (0, 1)
    path = write_onnx(tmp_path / "slim.onnx", outputs, (1, 3, 240, 320), name="x")
    assert PeerDetector("rfb-320", path)(image(24, 32)).boxes.tolist() == [[0, 0, 32, 24]]


@pytest.mark.parametrize(
    ("kind", "shape", "outputs", "message"),
    [
        ("slim-320", (1, 3, 480, 640), SLIM, r"its input must be 320×240"),
        ("slim-320", (1, 240, 320, 3), SLIM, r"one float input of shape \(1, 3, H, W\), but has"),
        ("slim-320", (1, 3, 240, 320), {"scores": (1, 4420, 2), "boxes": (1, 17640, 4)}, r"boxes 1×17640×4"),
        ("scrfd", (1, 3, 100, 100), SCRFD, r"must be multiples of 32"),
        (
            "retinaface",
            (1, 3, "h", "w"),
            {"scores": (1, 4420, 2), "boxes": (1, 4420, 4)},
            r"\(any name\) \?×10; it has",
        ),
        (
            "yunet",
            (1, 3, "h", "w"),
            {"cls_8": (1, 100, 1)},
            r"is not of kind yunet: its outputs must end in cls_8 \?×1",
        ),
    ],
)
def test_a_file_of_another_kind_is_refused(
    tmp_path: Path, kind: str, shape: tuple, outputs: dict[str, tuple[int, ...]], message: str
) -> None:
    arrays = {name: np.zeros(size) for name, size in outputs.items()}
    with pytest.raises(ModelError, match=message):
        PeerDetector(kind, write_onnx(tmp_path / "file.onnx", arrays, shape))


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.onnx"
    with pytest.raises(ModelError, match=r"file\.onnx: no such file"):
        PeerDetector("scrfd", path)
    good = ultra_light(tmp_path / "good.onnx", [], []).read_bytes()
    for data in (b"", b"not a model", good[: len(good) // 2]):
        path.write_bytes(data)
        with pytest.raises(ModelError, match=r"file\.onnx"):
            PeerDetector("slim-320", path)


def test_images_of_other_types_are_refused(tmp_path: Path) -> None:
    detector = PeerDetector("slim-320", ultra_light(tmp_path / "slim.onnx", [], []))
    wrong: list[Any] = [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
    for pixels in wrong:
        with pytest.raises(UsageError, match="uint8"):
            detector(pixels)


def test_a_device_or_a_runtime_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ultra_light(tmp_path / "slim.onnx", [], [])
    with pytest.raises(UsageError, match="at least 1, not 0"):
        PeerDetector("slim-320", path, runtime=Runtime(threads=0))
    with pytest.raises(EngineError, match="unknown device 'tpu'"):
        PeerDetector("slim-320", path, runtime=Runtime(device="tpu"))
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(EngineError, match="install onnxruntime-gpu"):
        PeerDetector("slim-320", path, runtime=Runtime(device="gpu:0"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError, match=r"the package onnxruntime cannot be imported .*pip install -e \."):
        PeerDetector("slim-320", path)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("peer:slim", "is not peer:KIND=FILE"),
        ("peer:slim-320=", "is not peer:KIND=FILE"),
        ("peer:slim=a.onnx", "did you mean slim-320"),
        ("peer:RetinaFace=a.onnx", "did you mean retinaface"),
        ("peer:yolo5=a.onnx", "Choose one of slim-320, rfb-320"),
    ],
)
def test_specs_are_checked(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_peer(spec)


def test_a_peer_is_loaded_and_identified_by_its_spec(tmp_path: Path) -> None:
    path = ultra_light(tmp_path / "slim.onnx", [[0, 0, 1, 1]], [0.5])
    spec = f"peer:slim-320={path}"
    detector = load_detector(spec, Selection(score_threshold=0.4), Runtime(threads=1))
    assert detector.name == "slim-320:slim.onnx"
    assert len(detector(image(24, 32))) == 1
    facts = model_facts(spec)
    assert (facts.family, len(facts.sha256), facts.network) == ("peer:slim-320", 64, None)
    options: list[dict[str, Any]] = [
        {"runtime": Runtime("mxnet")},
        {"runtime": Runtime(precision="int8")},
        {"views": ViewSettings(min_face=300)},
    ]
    for wrong in options:
        with pytest.raises(UsageError, match=r"peers run on ONNX Runtime in fp32|--min-face: only for our own"):
            load_detector(spec, **wrong)
    with pytest.raises(ModelError, match=r"nowhere\.onnx: cannot be read: it does not exist"):
        model_facts("peer:scrfd=/nowhere.onnx")


@pytest.mark.parametrize(
    "wrong", [{"score_threshold": 1.1}, {"suppression_threshold": -0.1}, {"top_k": 0}, {"max_detections": 0}]
)
def test_selections_outside_their_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Selection(**wrong)  # type: ignore[arg-type]


def test_an_openvino_file_and_one_with_its_mean_inside_find_the_same(tmp_path: Path) -> None:
    """A file of the same numbers in either format; one that subtracts the mean itself gets the image as it is."""
    openvino, onnx = pytest.importorskip("openvino"), pytest.importorskip("onnx")
    outside = ultra_light(tmp_path / "slim.onnx", [[0.1, 0.2, 0.3, 0.4]], [0.5])
    openvino.save_model(openvino.convert_model(str(outside)), tmp_path / "slim.xml", compress_to_fp16=False)
    expected = PeerDetector("slim-320", outside)
    found = PeerDetector("slim-320", tmp_path / "slim.xml", runtime=Runtime(threads=1))
    pixels = image(48, 64)
    np.testing.assert_allclose(found(pixels).boxes, expected(pixels).boxes, atol=1e-4)
    np.testing.assert_array_equal(found.prepare(pixels)[0], expected.prepare(pixels)[0])
    model = onnx.load(outside)
    for node in model.graph.node:
        node.input[:] = ["less" if name == "input" else name for name in node.input]
    model.graph.node.insert(0, onnx.helper.make_node("Sub", ["input", "mean"], ["less"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(127), "mean"))
    onnx.save(model, tmp_path / "inside.onnx")
    openvino.save_model(openvino.convert_model(str(tmp_path / "inside.onnx")), tmp_path / "inside.xml")
    for name, rgb in (("inside.onnx", True), ("inside.xml", False)):
        tensor, _ = PeerDetector("slim-320", tmp_path / name).prepare(pixels)
        plain = expected.prepare(pixels)[0] * 128 + 127
        np.testing.assert_allclose(tensor, plain if rgb else plain[:, ::-1], atol=1e-3)
    assert (
        model_facts(f"peer:slim-320={tmp_path / 'slim.xml'}").sha256 != model_facts(f"peer:slim-320={outside}").sha256
    )
