"""Folding: the deployed graph computes what the training graph computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lffd.engines.mxnet_engine import import_mxnet
from lffd.errors import ModelError
from lffd.graphs.batch_norm import fold
from symbol_farm.versions import VERSIONS, version_module


@pytest.mark.parametrize("version", VERSIONS)
def test_outputs_before_and_after_folding_are_equal(version: str) -> None:
    mx = import_mxnet()
    rng = np.random.default_rng(7)
    module = version_module(version)
    training, plain = module.get_net_symbol(batch_norm=True), module.get_net_symbol()
    side = module.NETWORK.minimum_input + 32
    shapes, _, state_shapes = training.infer_shape(data=(2, 3, side, side))
    params = {}
    for name, shape in zip(training.list_arguments(), shapes, strict=True):
        if name.endswith("gamma"):
            params[name] = rng.uniform(0.5, 1.5, shape)
        elif name.endswith("weight"):
            params[name] = rng.normal(0, np.sqrt(1 / np.prod(shape[1:])), shape)
        elif name != "data":
            params[name] = rng.normal(0, 0.3, shape)
    states = {
        name: rng.uniform(0.3, 2, shape) if name.endswith("var") else rng.normal(0, 0.5, shape)
        for name, shape in zip(training.list_auxiliary_states(), state_shapes, strict=True)
    }
    image = rng.integers(0, 256, (2, 3, side, side)).astype(np.float32)

    def outputs(symbol: Any, arguments: dict[str, np.ndarray], aux: dict[str, np.ndarray]) -> list[np.ndarray]:
        arrays = {name: mx.nd.array(value) for name, value in {**arguments, "data": image}.items()}
        executor = symbol.bind(
            mx.cpu(), arrays, grad_req="null", aux_states={k: mx.nd.array(v) for k, v in aux.items()}
        )
        return [output.asnumpy() for output in executor.forward(is_train=False)]

    before, after = outputs(training, params, states), outputs(plain, fold(params, states), {})
    assert max(float(np.abs(value).max()) for value in before) > 0.1
    for old, new in zip(before, after, strict=True):
        np.testing.assert_allclose(new, old, atol=1e-4)


def test_parameters_without_normalisation_pass() -> None:
    assert fold({}) == {}
    folded = fold({"conv1_weight": np.ones((1, 1, 1, 1)), "conv1_bias": np.zeros(1)})
    assert folded.keys() == {"conv1_weight", "conv1_bias"}


def test_fold_by_hand() -> None:
    parts = {"gamma": [2.0], "beta": [1.0], "moving_mean": [3.0], "moving_var": [4.0 - 1e-5]}
    params = {"c_weight": np.full((1, 1, 1, 1), 5.0), "c_bias": np.array([7.0])}
    folded = fold({**params, **{f"c_bn_{part}": np.array(value) for part, value in parts.items()}})
    assert folded["c_weight"].item() == pytest.approx(5.0)
    assert folded["c_bias"].item() == pytest.approx((7 - 3) * 1 + 1)


def test_a_missing_part_is_named() -> None:
    with pytest.raises(ModelError, match="of c cannot be folded: missing c_bias, c_bn_beta"):
        fold(
            {
                "c_weight": np.ones((1, 1, 1, 1)),
                **{f"c_bn_{p}": np.ones(1) for p in ("gamma", "moving_mean", "moving_var")},
            }
        )
