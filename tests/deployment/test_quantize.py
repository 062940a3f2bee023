"""Reduced precision: ranges, 8-bit graphs, what is measured, written and refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_provider_farm.pack_format.packed_file import PackWriter
from deployment import quantize
from deployment.calibration import BINS, _Histogram, collect_ranges, inner_maps
from deployment.quantize import Options, losing_engines, main
from deployment.quantized_graph import quantized_onnx, step_and_zero
from lffd.engines.factory import create_engine
from lffd.engines.runtime import Runtime
from lffd.errors import DataError, EngineError, ModelError, UsageError
from lffd.files import OutputFolder
from lffd.graphs.model import Model, load_model, save_model
from lffd.records import Record
from tests.factories import random_model

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def _picture(seed: int, height: int = 180, width: int = 240) -> np.ndarray:
    """Blurred noise with an edge: values spread as in photographs, not as in noise."""
    import cv2

    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    picture = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    picture[:, width // 2 :] = picture[:, width // 2 :] // 2
    return picture.astype(np.uint8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import cv2

    folder = tmp_path_factory.mktemp("photos")
    for seed in range(6):
        cv2.imwrite(str(folder / f"{seed}.png"), _picture(seed))
    return folder


@pytest.fixture(scope="module")
def model() -> Model:
    """Half of He's gain, so that scores do not saturate."""
    plain = random_model("plate_small")
    heads = {name: value * (0.3 if "_3_" in name else 1) for name, value in plain.params.items()}
    return replace(plain, params={k: v.astype(np.float32) for k, v in heads.items()}, card={"training": {"seed": 1}})


@pytest.fixture
def directory(model: Model, tmp_path: Path) -> str:
    save_model(model, tmp_path / "float")
    return str(tmp_path / "float")


def test_every_stored_map_has_a_range(model: Model) -> None:
    names = inner_maps(model)
    assert not any(name.startswith(("score_", "box_", "probability_")) or "_3_" in name for name in names)
    assert {"conv4", "relu_conv4", "_plus0", "relu_conv10_2_bbox", "relu_conv16"} <= set(names)
    ranges = collect_ranges(model, [_picture(0), _picture(1)])
    assert set(ranges) == {"minmax", "clip"}
    for name in names:
        (low, high), (tight_low, tight_high) = ranges["minmax"][name], ranges["clip"][name]
        assert low <= tight_low <= 0 <= tight_high <= high
        assert low == 0 or not name.startswith("relu_")
    assert any(ranges["clip"][name] != ranges["minmax"][name] for name in names)


@pytest.mark.parametrize(
    ("low", "high", "filled", "expected"),
    [
        (0.0, 1.5, 1.0, (0.0, 1.5)),  # even up to the end: nothing to clip
        (0.0, 1.5, 2 / 3, (0.0, 1.0)),  # one value at 1.5 among very many up to 1
        (-1.5, 0.0, 0.0, (-1.5, 0.0)),
    ],
)
def test_the_error_decides_how_much_is_clipped(
    low: float, high: float, filled: float, expected: tuple[float, float]
) -> None:
    counts = np.zeros(BINS, np.int64)
    counts[: round(filled * BINS)] = 1_000_000_000
    counts[0 if filled == 0 else -1] += 1
    assert _Histogram(low, high, counts).best_range() == pytest.approx(expected, abs=0.02)


def test_histograms_count_what_they_are_given() -> None:
    histogram = _Histogram()
    values = np.linspace(-1, 3, 5000, dtype=np.float32)
    histogram.extend(values)
    histogram.count(values)
    assert (histogram.low, histogram.high, histogram.counts.sum()) == (-1, 3, 5000)


@pytest.mark.parametrize(
    ("limits", "target", "step", "zero"),
    [
        ((0.0, 5.1), "onnxruntime", 5.1 / 255, np.uint8(0)),
        ((0.0, 5.1), "openvino", 5.1 / 255, np.uint8(0)),
        ((-1.0, 4.1), "onnxruntime", 5.1 / 255, np.uint8(50)),
        ((-1.27, 1.0), "openvino", 0.01, np.int8(0)),
        ((0.5, 1.02), "onnxruntime", 1.02 / 255, np.uint8(0)),
        ((-2.55, -1.0), "onnxruntime", 2.55 / 255, np.uint8(255)),
        ((0.0, 0.0), "onnxruntime", 1e-6 / 255, np.uint8(0)),
    ],
)
def test_steps(limits: tuple[float, float], target: Any, step: float, zero: np.generic) -> None:
    found = step_and_zero(limits, target)
    assert found[0] == pytest.approx(step, rel=1e-3)
    assert (found[1], type(found[1])) == (zero, type(zero))


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_8_bit_maps_follow_the_float_ones(model: Model, target: Any) -> None:
    pytest.importorskip(target)
    pictures = [_picture(seed) for seed in range(4)]
    ranges = collect_ranges(model, pictures[:3], ["clip"])["clip"]
    content = quantized_onnx(model, ranges, target).SerializeToString()
    name = {"onnxruntime": "int8.onnx", "openvino": "int8_openvino.onnx"}[target]
    reduced = replace(model, extra_files={name: content})
    found = create_engine(reduced, Runtime(target, precision="int8")).run(pictures[3][None])
    for maps, expected in zip(found, create_engine(model, Runtime("mxnet")).run(pictures[3][None]), strict=True):
        error = np.sqrt(np.mean((maps["box"] - expected["box"]) ** 2))
        assert 1e-4 < error < 0.12 * expected["box"].std()
        assert np.abs(maps["score"] - expected["score"]).max() < 0.15
    weights = [tensor for tensor in onnx.load_from_string(content).graph.initializer if tensor.name.endswith("_steps")]
    assert {tensor.data_type for tensor in weights} == {onnx.TensorProto.INT8, onnx.TensorProto.INT32}
    assert len(content) < 0.4 * 4 * model.parameter_count


def test_a_directory_goes_through_every_engine_with_its_card(
    model: Model, directory: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = Options(model=directory, calibration=photos, output_dir=tmp_path / "int8", images=4)
    main(options)
    assert "accuracy was not measured" in capsys.readouterr().out
    reduced = load_model(tmp_path / "int8")
    entry = reduced.card["quantization"]
    assert entry["precision"] == "int8"
    assert entry["calibration"] == {"source": photos.name, "images": 4, "seed": 0, "ranges": "clip"}
    assert {"onnxruntime", "openvino"} >= set(entry["engines"])
    for name, measured in entry["engines"].items():
        assert 0 < measured["parity"]["largest"] < 1
        assert len(create_engine(reduced, Runtime(name, precision="int8")).run(_picture(9)[None])) == 3
    for name, size in entry["bytes"].items():
        assert (tmp_path / "int8" / name).stat().st_size == size
    picture = _picture(9)[None]
    first = create_engine(model, Runtime("mxnet")).run(picture)
    for engine in ("mxnet", "onnxruntime", "ncnn"):
        again = create_engine(reduced, Runtime(engine)).run(picture)
        assert np.abs(again[0]["box"] - first[0]["box"]).max() <= 1e-4
    save_model(reduced, tmp_path / "copy")
    copied = load_model(tmp_path / "copy")
    assert json.dumps(copied.card) == json.dumps(reduced.card)
    assert copied.extra_files == reduced.extra_files
    assert copied.card["training"] == {"seed": 1}


@pytest.mark.parametrize(("precision", "share"), [("fp16", 0.5), ("bf16", 1.0)])
def test_half_precision(
    model: Model, directory: str, photos: Path, tmp_path: Path, precision: Any, share: float
) -> None:
    try:
        main(Options(model=directory, calibration=photos, output_dir=tmp_path / "half", precision=precision))
    except Exception as error:
        if precision == "bf16" and "bf16" in str(error):
            pytest.skip(str(error))
        raise
    full, half = ((tmp_path / name / "model.params").stat().st_size for name in ("float", "half"))
    assert half == pytest.approx(share * full, rel=0.02)
    entry = load_model(tmp_path / "half").card["quantization"]
    assert entry["precision"] == precision
    assert all(0 < measured["parity"]["largest"] < 0.3 for measured in entry["engines"].values())


def test_losses_are_weighed() -> None:
    assert losing_engines(0.8, {"openvino": 0.795, "onnxruntime": 0.81}, 0.01) == {}
    assert list(losing_engines(0.8, {"openvino": 0.795, "onnxruntime": 0.77}, 0.01)) == ["onnxruntime"]
    with pytest.raises(ModelError, match=r"by more than 0\.01: openvino 0\.0150 .* onnxruntime 0\.0200"):
        losing_engines(0.8, {"openvino": 0.785, "onnxruntime": 0.78}, 0.01)
    with pytest.raises(ModelError, match="nan"):
        losing_engines(0.8, {"openvino": float("nan")}, 0.01)


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """Three pictures with one object each."""
    import cv2

    path = tmp_path / "val.rec"
    with PackWriter(path) as writer:
        for seed in range(3):
            data = cv2.imencode(".jpg", _picture(seed))[1].tobytes()
            boxes = np.array([[20, 20, 120, 120]], np.float32)
            writer.add(Record(f"{seed}.jpg", data, 240, 180, boxes, np.zeros(1, np.bool_)))
    return path


def test_accuracy_is_measured_on_a_pack(directory: str, photos: Path, pack: Path, tmp_path: Path) -> None:
    options = Options(model=directory, calibration=pack, output_dir=tmp_path / "int8", val_data=pack, max_drop=1)
    main(options)
    entry = load_model(options.output_dir).card["quantization"]
    assert entry["calibration"]["source"] == "val.rec"
    for measured in entry["engines"].values():
        accuracy = measured["accuracy"]
        assert accuracy["pack"] == "val.rec"
        assert 0 <= accuracy["ap50"] <= 1
        assert 0 <= accuracy["ap50_fp32"] <= 1


def test_targets_and_packs_are_looked_at_first(directory: str, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("")
    options = Options(model="none of this name", calibration=photos, output_dir=tmp_path / "other")
    with pytest.raises(ModelError, match="is not empty and holds no model"):
        main(options)
    with pytest.raises(DataError, match="nothing"):
        main(replace(options, output_dir=tmp_path / "new", val_data=tmp_path / "nothing.rec"))


def test_too_much_loss_writes_nothing(
    directory: str, photos: Path, pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {"fp32": 0.8, "int8": 0.7}
    monkeypatch.setattr(quantize, "measure_ap", lambda model, pack, engine, precision: figures[precision])
    options = Options(model=directory, calibration=photos, output_dir=tmp_path / "int8", val_data=pack)
    with pytest.raises(ModelError, match="Nothing was written"):
        main(options)
    assert not options.output_dir.exists()
    main(replace(options, max_drop=0.2))
    entry = load_model(options.output_dir).card["quantization"]["engines"]
    assert all(
        measured["accuracy"] == {"pack": "val.rec", "ap50_fp32": 0.8, "ap50": 0.7} for measured in entry.values()
    )


def test_an_engine_that_loses_too_much_is_left_out_alone(
    directory: str,
    photos: Path,
    pack: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("openvino")

    def figures(model: Model, pack: Path, engine: str, precision: str) -> float:
        return 0.8 if precision == "fp32" else {"onnxruntime": 0.77, "openvino": 0.795}[engine]

    monkeypatch.setattr(quantize, "measure_ap", figures)
    main(Options(model=directory, calibration=photos, output_dir=tmp_path / "int8", val_data=pack))
    said = capsys.readouterr()
    assert "warning: onnxruntime loses 0.0300 (from 0.8000), more than --max-drop 0.01" in said.err
    assert "--precision int8 on openvino" in said.out
    reduced = load_model(tmp_path / "int8")
    assert list(reduced.card["quantization"]["engines"]) == ["openvino"]
    assert list(reduced.extra_files) == ["int8_openvino.onnx"]
    with pytest.raises(EngineError):
        create_engine(reduced, Runtime("onnxruntime", precision="int8"))


def test_fp16_says_how_it_runs(
    directory: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(Options(model=directory, calibration=photos, output_dir=tmp_path / "half", precision="fp16"))
    said = capsys.readouterr().out
    assert "stored in 16 bits" in said
    assert "--precision" not in said


def test_parameters_too_large_for_fp16(model: Model, photos: Path, tmp_path: Path) -> None:
    huge = {**model.params, "conv1_bias": model.params["conv1_bias"] + 1e5}
    save_model(replace(model, params=huge), tmp_path / "huge")
    with pytest.raises(ModelError, match="conv1_bias holds NaN or Inf"):
        main(Options(model=str(tmp_path / "huge"), calibration=photos, output_dir=tmp_path / "x", precision="fp16"))


def test_images_that_cannot_serve(directory: str, photos: Path, tmp_path: Path) -> None:
    import cv2

    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        main(Options(model=directory, calibration=tmp_path / "empty", output_dir=tmp_path / "x"))
    with pytest.raises(UsageError, match="at least 1"):
        Options(model=directory, calibration=photos, output_dir=tmp_path / "x", images=0)
    (tmp_path / "small").mkdir()
    cv2.imwrite(str(tmp_path / "small" / "a.png"), _picture(0, 60, 60))
    with pytest.raises(DataError, match="127 px"):
        main(Options(model=directory, calibration=tmp_path / "small", output_dir=tmp_path / "x"))


def test_two_runs_do_not_write_one_directory(directory: str, photos: Path, tmp_path: Path) -> None:
    options = Options(model=directory, calibration=photos, output_dir=tmp_path / "half", precision="fp16")
    with OutputFolder(options.output_dir, beside=True), pytest.raises(UsageError, match="another run is writing there"):
        main(options)
    assert not options.output_dir.exists()
    main(options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["float", "half"], "no lock is left"
