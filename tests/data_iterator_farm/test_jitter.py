"""Pixel jitter: each change against plain arithmetic, and how often it happens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from data_iterator_farm.jitter import GREY_WEIGHTS, change_colours, jitter
from data_iterator_farm.policies import JitterPolicy
from tests.data_iterator_farm.made_up import textured

NOTHING = JitterPolicy(probability=0.0)
EXTRAS = ("grey", "blur", "jpeg", "cutout")


def image() -> Any:
    return textured(96, 64, seed=2)


def changed(*changes: Any) -> Any:
    pixels = image()
    change_colours(pixels, changes)
    return pixels.astype(float)


def exactly(changes: Any) -> Any:
    """The same in floating point, with the mean over all pixels."""
    pixels = image().astype(float)
    for name, factor in changes:
        if name == "brightness":
            pixels = pixels * factor
        elif name == "saturation":
            grey = (pixels @ GREY_WEIGHTS)[..., None]
            pixels = grey + factor * (pixels - grey)
        else:
            mean = (pixels @ GREY_WEIGHTS).mean()
            pixels = mean + factor * (pixels - mean)
    return np.clip(pixels, 0, 255)


@pytest.mark.parametrize(
    "names", [("brightness",), ("saturation",), ("contrast",), ("contrast", "brightness", "saturation")]
)
@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 1.5])
def test_colours_change_as_arithmetic_says(names: Any, factor: Any) -> None:
    changes = [(name, factor) for name in names]
    tolerance = 1.0 if "saturation" in names else 0.51  # OpenCV's fixed-point matrix is off by up to 0.75
    tolerance += 2.5 if "contrast" in names else 0  # the mean comes from a sixteenth of the pixels
    assert np.abs(changed(*changes) - exactly(changes)).max() <= tolerance


def test_the_order_matters() -> None:
    first = changed(("brightness", 0.6), ("contrast", 1.4))
    second = changed(("contrast", 1.4), ("brightness", 0.6))
    assert np.abs(first - second).max() <= 1.01  # both are linear, and contrast follows the mean
    first = changed(("saturation", 0.2), ("contrast", 1.4))
    assert np.abs(first - changed(("contrast", 1.4), ("saturation", 0.2))).max() <= 3


def test_a_factor_of_one_changes_nothing() -> None:
    for name in ("brightness", "saturation", "contrast"):
        assert np.abs(changed((name, 1.0)) - image()).max() <= 1e-9


def test_nothing_happens_when_nothing_is_asked() -> None:
    pixels = image()
    for seed in range(20):
        assert jitter(pixels, NOTHING, np.random.default_rng(seed)) is pixels
    np.testing.assert_array_equal(pixels, image())


@pytest.mark.parametrize(("probability", "each", "want"), [(0.5, 0.5, 0.5 * (1 - 0.5**3)), (1, 1, 1), (0.5, 1, 0.5)])
def test_how_often_colours_change(probability: Any, each: Any, want: Any) -> None:
    policy = replace(NOTHING, probability=probability, each=each)
    count = sum((jitter(image(), policy, np.random.default_rng(s)) != image()).any() for s in range(400))
    assert abs(count / 400 - want) < 0.08


def test_grey_images_have_three_equal_channels() -> None:
    pixels = jitter(image(), replace(NOTHING, grey=1.0), np.random.default_rng(0))
    assert np.ptp(pixels.astype(int), axis=2).max() <= 1
    assert np.abs(pixels[..., 0] - image() @ GREY_WEIGHTS).max() <= 1


def test_blur_keeps_the_mean_and_loses_detail() -> None:
    policy = replace(NOTHING, blur=1.0, blur_sigma=(2.0, 2.0))
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    blurred = jitter(pixels.copy(), policy, np.random.default_rng(0))
    assert abs(float(blurred.mean()) - float(pixels.mean())) < 2
    assert blurred.std() < 0.4 * pixels.std()


def test_jpeg_artefacts_grow_as_quality_falls() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    errors = []
    for quality in (95, 50, 10):
        policy = replace(NOTHING, jpeg=1.0, jpeg_quality=(quality, quality))
        compressed = jitter(pixels.copy(), policy, np.random.default_rng(0))
        errors.append(np.abs(compressed.astype(int) - pixels).mean())
    assert 0 < errors[0] < errors[1] < errors[2]


def test_cut_out_is_one_plain_rectangle_of_the_asked_size() -> None:
    for seed in range(20):
        policy = replace(NOTHING, cutout=1.0, cutout_side=(0.25, 0.5))
        pixels = jitter(image(), policy, np.random.default_rng(seed))
        rows, columns = np.nonzero((pixels != image()).any(axis=2))
        rectangle = pixels[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert 15 <= rectangle.shape[0] <= 32
        assert 23 <= rectangle.shape[1] <= 48
        assert (rectangle == rectangle[0, 0]).all()


@pytest.mark.parametrize("name", EXTRAS)
def test_extras_are_off_by_default_and_happen_as_often_as_asked(name: Any) -> None:
    assert getattr(JitterPolicy(), name) == 0
    values: dict[str, Any] = {name: 0.3}
    policy = replace(NOTHING, **values)
    noise = np.random.default_rng(9).integers(0, 256, (32, 32, 3), np.uint8)
    count = sum((jitter(noise.copy(), policy, np.random.default_rng(s)) != noise).any() for s in range(300))
    assert 0.2 < count / 300 < 0.4
