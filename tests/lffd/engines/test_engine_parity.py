"""Every engine against MXNet: every version, odd shapes, batches."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from lffd.engines import BranchMaps, Engine
from lffd.engines.factory import create_engine
from lffd.engines.runtime import Runtime
from lffd.errors import EngineError, GeometryError, UsageError
from lffd.graphs.model import Model
from symbol_farm.versions import VERSIONS
from tests.factories import random_model

ENGINES = ["onnxruntime", "openvino", "ncnn", "torch"]


@lru_cache(maxsize=2)
def _model(version: str) -> Model:
    """Random weights; the second convolution of each pair adds half as much, so that maps stay of the size of 1–10."""
    model = random_model(version)
    calm = {f"{name}_weight" for name, gain in model.network.gains.items() if gain != 1}
    params = {name: value * np.float32(0.5 if name in calm else 1) for name, value in model.params.items()}
    return replace(model, params=params)


@lru_cache(maxsize=4)
def _engine(version: str, engine: str, precision: str = "fp32") -> Engine:
    try:
        return create_engine(
            _model(version), Runtime(engine, threads=None if engine == "mxnet" else 1, precision=precision)
        )
    except EngineError as error:
        pytest.skip(f"{engine} {precision}: {error}")


@lru_cache(maxsize=16)
def _case(version: str, extra_height: int, extra_width: int, batch: int) -> tuple[np.ndarray, list[BranchMaps]]:
    """Random images a little over the smallest size, and what MXNet says of them."""
    network = _model(version).network
    height, width = (network.fitting(network.minimum_input + extra) for extra in (extra_height, extra_width))
    shape = (batch, height, width, 3)
    images = np.random.default_rng(batch).integers(0, 256, shape, dtype=np.uint8)
    return images, _engine(version, "mxnet").run(images)


def _difference(found: list[BranchMaps], expected: list[BranchMaps]) -> float:
    """Largest difference of any score or box code."""
    pairs = [(left[name], right[name]) for left, right in zip(found, expected, strict=True) for name in right]
    return max(float(np.abs(a - b).max()) for a, b in pairs)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("extra_height", "extra_width"), [(0, 0), (38, 1), (5, 90)])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("version", VERSIONS)
def test_fp32_equals_mxnet(version: str, engine: str, extra_height: int, extra_width: int, batch: int) -> None:
    images, expected = _case(version, extra_height, extra_width, batch)
    found = _engine(version, engine).run(images)
    assert [(m["score"].shape, m["box"].shape) for m in found] == [(m["score"].shape, m["box"].shape) for m in expected]
    assert {array.dtype for maps in found for array in maps.values()} == {np.dtype(np.float32)}
    assert _difference(found, expected) <= 1e-4
    assert np.ptp(expected[0]["score"]) > 0.1, "maps without contrast would prove nothing"


@pytest.mark.parametrize(("extra_height", "extra_width"), [(0, 0), (64, 0), (0, 64), (130, 70)])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("engine", ["openvino", "ncnn", "torch"])
def test_bf16_stays_near_also_where_the_deepest_map_is_one_column(
    engine: str, batch: int, extra_height: int, extra_width: int
) -> None:
    """OpenVINO 2026.4 gives boxes that are off by 10 there unless images run one by one."""
    images, expected = _case("v1", extra_height, extra_width, batch)
    assert 1e-4 < _difference(_engine("v1", engine, "bf16").run(images), expected) < 1.0


@pytest.mark.parametrize("engine", ["mxnet", *ENGINES])
def test_results_of_one_call_survive_the_next(engine: str) -> None:
    images, expected = _case("plate_small", 5, 90, 1)
    runner = _engine("plate_small", engine)
    first = runner.run(images)
    runner.run(np.bitwise_not(images))
    assert _difference(first, expected) <= 1e-4


@pytest.mark.parametrize("engine", ENGINES)
def test_bad_images_are_refused(engine: str) -> None:
    runner = _engine("plate_small", engine)
    with pytest.raises(GeometryError, match="at least 127 px"):
        runner.run(np.zeros((1, 126, 300, 3), np.uint8))
    with pytest.raises(UsageError, match="uint8"):
        runner.run(np.zeros((1, 200, 300, 3), np.float32))


@pytest.mark.parametrize("engine", ENGINES)
def test_images_may_be_views(engine: str) -> None:
    images, _ = _case("plate_small", 5, 90, 1)
    runner = _engine("plate_small", engine)
    flipped = images[:, :, ::-1]
    assert _difference(runner.run(flipped), runner.run(flipped.copy())) == 0
