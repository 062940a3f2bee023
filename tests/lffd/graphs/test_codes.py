"""Box codes: there and back, by hand, and around the initial guess."""

from __future__ import annotations

import numpy as np
import pytest

from lffd.graphs.codes import CODES, CenterSize


@pytest.mark.parametrize("name", CODES)
def test_corners_come_back(name: str) -> None:
    rng = np.random.default_rng(0)
    near = rng.uniform(-3, 3, (200, 2))
    corners = np.concatenate([near, near + rng.uniform(1e-3, 5, (200, 2))], axis=1)
    code = CODES[name].encode(corners)
    assert code.shape == (200, 4)
    np.testing.assert_allclose(np.stack(CODES[name].corners(list(code.T), np), axis=1), corners, atol=1e-9)
    assert CODES[name].encode(np.zeros((0, 4))).shape == (0, 4)


@pytest.mark.parametrize("name", CODES)
def test_the_initial_code_is_a_box_around_the_cell(name: str) -> None:
    x0, y0, x1, y1 = CODES[name].corners([np.float64(value) for value in CODES[name].initial], np)
    assert x0 == -x1 == y0 == -y1
    assert 0.5 <= x1 <= 1


def test_codes_by_hand() -> None:
    corners = np.array([[-0.5, -1.0, 1.5, 2.0]])
    np.testing.assert_allclose(CODES["corners"].encode(corners), [[0.5, 1.0, -1.5, -2.0]])
    expected = [0.5 / 0.1, 0.5 / 0.1, np.log(2) / 0.2, np.log(3) / 0.2]
    np.testing.assert_allclose(CODES["center-size"].encode(corners), [expected])
    np.testing.assert_allclose(CenterSize(1, 1).encode(corners), [[0.5, 0.5, np.log(2), np.log(3)]])


def test_a_box_without_extent_has_a_finite_code() -> None:
    assert np.isfinite(CODES["center-size"].encode(np.zeros((1, 4)))).all()
