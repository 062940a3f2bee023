"""Cutting branches: what is kept says the same, what is gone costs nothing."""

from __future__ import annotations

import numpy as np
import pytest

from lffd.engines.mxnet_engine import MXNetEngine
from lffd.errors import UsageError
from lffd.graphs.cut import keep_branches
from lffd.graphs.network import cut_branches
from symbol_farm.versions import version_network
from tests.factories import random_model


@pytest.mark.parametrize(("version", "kept"), [("v2", [0, 1]), ("v1", [2, 3]), ("plate_small", [1]), ("plate", [2])])
def test_kept_branches_say_the_same(version: str, kept: list[int]) -> None:
    model = random_model(version)
    cut = keep_branches(model, kept)
    images = np.random.default_rng(0).integers(0, 256, (1, 170, 201, 3), np.uint8)
    whole = MXNetEngine(model).run(images)
    part = MXNetEngine(cut).run(images)
    assert len(part) == len(kept)
    for index, maps in zip(kept, part, strict=True):
        np.testing.assert_allclose(maps["score"], whole[index]["score"], atol=1e-6)
        np.testing.assert_allclose(maps["box"], whole[index]["box"], atol=1e-5)


@pytest.mark.parametrize(("version", "kept"), [("v2", [0, 1]), ("v1", [2, 3]), ("v1", [1, 7]), ("pedestrian", [0])])
def test_the_declaration_is_cut_along(version: str, kept: list[int]) -> None:
    model = random_model(version)
    cut = keep_branches(model, kept)
    assert cut.network.parameter_shapes == {name: value.shape for name, value in cut.params.items()}
    for index, geometry in zip(kept, cut.network.branch_geometry, strict=True):
        original = model.network.branch_geometry[index]
        assert (geometry.stride, geometry.first_center, geometry.receptive_field, geometry.object_range) == (
            original.stride,
            original.first_center,
            original.receptive_field,
            original.object_range,
        )


def test_cutting_deep_branches_saves_work_and_lets_smaller_images_in() -> None:
    network = version_network("v1")
    cut = cut_branches(network, [0, 1, 2])
    assert cut.minimum_input < network.minimum_input
    assert sum(cut.multiply_adds(480, 640).values()) < 0.9 * sum(network.multiply_adds(480, 640).values())


def test_all_branches_are_the_model_itself() -> None:
    model = random_model("plate_small")
    assert keep_branches(model, [2, 0, 1]) is model


@pytest.mark.parametrize("kept", [[], [3], [-1], [0, 0]])
def test_other_choices_are_refused_with_what_there_is(kept: list[int]) -> None:
    with pytest.raises(UsageError, match=r"name one or more of 0 to 2, each once .*0: 64–128 px, 1: 128–256 px"):
        keep_branches(random_model("plate_small"), kept)
