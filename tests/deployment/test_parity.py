"""Measuring how far two ways to run a network are apart."""

from __future__ import annotations

import numpy as np
import pytest

from deployment.parity import measure_parity, probe_images
from lffd.errors import ModelError
from symbol_farm.versions import VERSIONS, version_network


def _batches(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    return [np.zeros(shape, np.uint8) for shape in shapes]


def test_the_largest_difference_is_kept_with_its_place() -> None:
    parity = measure_parity(
        ("mine", lambda x: {"a": np.full(3, x.shape[1] / 100, np.float32), "b": np.zeros(2, np.float32)}),
        ("right", lambda x: {"a": np.zeros(3, np.float32), "b": np.zeros(2, np.float32)}),
        _batches((1, 20, 5, 3), (1, 50, 5, 3), (1, 30, 5, 3)),
    )
    worst = {difference.output: difference for difference in parity.differences}
    assert worst["a"].largest == pytest.approx(0.5)
    assert worst["a"].images == (1, 50, 5, 3)
    assert worst["b"].largest == 0
    assert parity.largest == pytest.approx(0.5)
    parity.check(0.6)
    with pytest.raises(ModelError, match=r"mine differs from right by more than 0\.4.*a by 0\.5 on images \(1, 50"):
        parity.check(0.4)
    assert parity.to_dict()["outputs"][0]["largest"] == pytest.approx(0.5)
    assert "mine" in parity.to_text()


def test_nan_is_never_parity() -> None:
    parity = measure_parity(
        ("mine", lambda x: {"a": np.array([np.nan if x.shape[1] == 1 else 0.1], np.float32)}),
        ("right", lambda x: {"a": np.zeros(1, np.float32)}),
        _batches((1, 1, 1, 3), (1, 2, 1, 3)),
    )
    with pytest.raises(ModelError, match="a by inf"):
        parity.check(1e9)


@pytest.mark.parametrize("other", [{"b": np.zeros(3)}, {"a": np.zeros(4)}])
def test_other_outputs_are_an_error(other: dict[str, np.ndarray]) -> None:
    with pytest.raises(ModelError, match=r"gives outputs a \(3,\)"):
        measure_parity(
            ("mine", lambda x: {"a": np.zeros(3, np.float32)}), ("right", lambda x: other), _batches((1, 1, 1, 3))
        )


@pytest.mark.parametrize("version", VERSIONS)
def test_probes_fit_every_version(version: str) -> None:
    network = version_network(version)
    batches = list(probe_images(network))
    assert {len(images) for images in batches} >= {1, 2, 3}
    for images in batches:
        assert images.dtype == np.uint8
        network.map_sizes(*images.shape[1:3])
        assert images.std() > 20
