"""Data augmentation of pixels, at random: colours as published (arXiv 1904.10633, section 3.3), and more as options."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from data_iterator_farm.policies import JitterPolicy

Image = NDArray[np.uint8]

GREY_WEIGHTS = np.array([0.114, 0.587, 0.299])
"""What blue, green and red add to grey (ITU-R BT.601)."""


def jitter(image: Image, policy: JitterPolicy, rng: Generator) -> Image:
    """Change the pixels of an image `(H, W, 3)` uint8, BGR, contiguous at random, in place; return the same array."""
    import cv2

    if rng.random() < policy.probability:
        changes = [("brightness", policy.brightness), ("saturation", policy.saturation), ("contrast", policy.contrast)]
        drawn = [(name, rng.uniform(*ends)) for name, ends in changes if rng.random() < policy.each]
        change_colours(image, [drawn[k] for k in rng.permutation(len(drawn))])
    if rng.random() < policy.grey:
        change_colours(image, [("saturation", 0.0)])
    if rng.random() < policy.blur:
        cv2.GaussianBlur(image, (0, 0), rng.uniform(*policy.blur_sigma), image)
    if rng.random() < policy.cutout:
        _cut_out(image, policy, rng)
    if rng.random() < policy.jpeg:
        _compress(image, int(rng.integers(policy.jpeg_quality[0], policy.jpeg_quality[1] + 1)))
    return image


def change_colours(image: Image, changes: Sequence[tuple[str, float]]) -> None:
    """Apply changes of colour one after the other, in place; values are rounded and clipped to 0–255 once, at the end.

    Args:
        image: `(H, W, 3)` uint8, BGR, contiguous.
        changes: names and factors: `brightness` multiplies every value, `saturation` every pixel's distance from its
            own grey, `contrast` every value's distance from the mean grey of the image as it then is.
    """
    import cv2

    # Each change is linear, so all of them together are one 3×4 matrix, and one pass over the pixels.
    matrix = np.eye(3, 4)
    for name, factor in changes:
        if name == "brightness":
            matrix *= factor
        elif name == "saturation":
            matrix = factor * matrix + (1 - factor) * (GREY_WEIGHTS @ matrix)
        else:
            # A sixteenth of the pixels gives the mean eight times as fast as all.
            few = cv2.resize(image, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_NEAREST)
            mean_grey = GREY_WEIGHTS @ matrix @ (*cv2.mean(few)[:3], 1.0)
            matrix *= factor
            matrix[:, 3] += (1 - factor) * mean_grey
    if any(name == "saturation" for name, _ in changes):
        cv2.transform(image, matrix, image)
    elif changes:
        flat, factor, offset = image.reshape(image.shape[0], -1), matrix[0, 0], matrix[0, 3]
        if offset >= 0:
            cv2.convertScaleAbs(flat, flat, factor, offset)
        else:
            cv2.addWeighted(flat, factor, flat, 0, offset, flat)


def _cut_out(image: Image, policy: JitterPolicy, rng: Generator) -> None:
    """Paint one rectangle in a random colour."""
    height, width = image.shape[:2]
    rows = max(round(height * rng.uniform(*policy.cutout_side)), 1)
    columns = max(round(width * rng.uniform(*policy.cutout_side)), 1)
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    image[top : top + rows, left : left + columns] = rng.integers(0, 256, 3)


def _compress(image: Image, quality: int) -> None:
    """Write the image as JPEG with 4:2:0 colour and read it back."""
    import simplejpeg

    data = simplejpeg.encode_jpeg(image, quality, "BGR", "420")
    image[:] = simplejpeg.decode_jpeg(data, "BGR")
