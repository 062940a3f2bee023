"""Outputs of inner nodes, with either library."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from lffd.engines import graph_outputs
from lffd.graphs.batch_norm import training_graph
from tests.factories import random_params
from tests.training_batches import NETWORK

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)


def test_a_strided_convolution_by_hand() -> None:
    params = random_params(NETWORK.parameter_shapes)
    graph = training_graph(NETWORK, batch_norm=False)
    first, last = graph_outputs.node_outputs(graph, ["conv1", "conv7_3_bbox"], params, IMAGES)
    patch = (IMAGES[1, 10:13, 4:7].astype(np.float64) - 127.5) / 127.5
    expected = np.einsum("rsc,ocrs->o", patch, params["conv1_weight"]) + params["conv1_bias"]
    np.testing.assert_allclose(first[1, :, 5, 2], expected, rtol=1e-4)
    assert last.shape == (2, 4, *NETWORK.map_sizes(64, 64)[1])


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="compares with PyTorch: pip install torch")
@pytest.mark.skipif(importlib.util.find_spec("mxnet") is None, reason="compares with MXNet, which is not installed")
def test_both_libraries_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    params = random_params(NETWORK.parameter_shapes)
    arguments = (training_graph(NETWORK, batch_norm=False), ["conv4", "conv7_3_score"], params, IMAGES)
    theirs = graph_outputs.node_outputs(*arguments)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "mxnet" else find(name, *more))
    for ours, expected in zip(graph_outputs.node_outputs(*arguments), theirs, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5)
