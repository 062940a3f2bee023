"""What surrounds drawn faces: textured backgrounds, and distractors that share a face's colours or outline."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

CLOUD_CELLS = {3: 0.6, 9: 0.5, 32: 0.35, 128: 0.25}
"""Cells a side of each layer of noise, and its largest share."""


def draw_background(rng: np.random.Generator, size: int) -> Pixels:
    """Return a textured background, `(size, size, 3)` uint8 BGR."""
    picture = _clouds(rng, size)
    (_stripes, _tiles, _leaves)[rng.integers(3)](rng, picture)
    for _ in range(rng.integers(3, 12)):
        _blob(rng, picture, rng.uniform(0.03, 0.3) * size)
    return picture


def draw_distractors(rng: np.random.Generator, picture: Pixels, count: int) -> None:
    """Draw `count` things that are no faces onto `picture`, in place."""
    for _ in range(count):
        side = float(np.exp(rng.uniform(np.log(8), np.log(len(picture) / 3))))
        DISTRACTORS[rng.integers(len(DISTRACTORS))](rng, picture, side)


def _clouds(rng: np.random.Generator, size: int) -> Pixels:
    """Return smooth colour noise over several scales."""
    finest = max(CLOUD_CELLS)
    small = np.empty((finest, finest, 3), np.uint8)
    small[:] = rng.integers(30, 226, 3)
    for cells, most in CLOUD_CELLS.items():
        noise = rng.integers(0, 256, (cells, cells, 3), np.uint8)
        layer = cv2.resize(noise, (finest, finest), interpolation=cv2.INTER_CUBIC)
        share = rng.uniform(0.03, most)
        cv2.addWeighted(small, 1 - share, layer, share, 0, dst=small)
    return np.asarray(cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR), np.uint8)


def _stripes(rng: np.random.Generator, picture: Pixels) -> None:
    """Draw parallel bars: fences, blinds, shelves."""
    size = len(picture)
    angle, period, color = rng.uniform(0, np.pi), rng.uniform(6, 80), _any_color(rng)
    width = max(1, int(rng.uniform(0.2, 0.6) * period))
    across, along = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    for place in np.arange(-0.75 * size, 0.75 * size, period):
        start, end = (0.5 * size + place * across + size * np.array([[-1], [1]]) * along).astype(int).tolist()
        cv2.line(picture, start, end, color, width)


def _tiles(rng: np.random.Generator, picture: Pixels) -> None:
    """Draw a grid of rectangles: windows, bricks, books."""
    size = len(picture)
    width, height, gap = (int(value) for value in rng.integers((12, 12, 2), (90, 90, 14)))
    colors = rng.integers(0, 256, (6, 3)).tolist()
    for y in range(-int(rng.integers(height)), size, height + gap):
        for x in range(-int(rng.integers(width)), size, width + gap):
            cv2.rectangle(picture, (x, y), (x + width, y + height), colors[rng.integers(6)], cv2.FILLED)


def _leaves(rng: np.random.Generator, picture: Pixels) -> None:
    """Scatter many small ellipses of related colours: foliage, gravel, confetti."""
    base, count = rng.uniform(20, 200, 3), int(rng.integers(80, 250))
    middles, axes = rng.integers(0, len(picture), (count, 2)).tolist(), rng.integers(2, 16, (count, 2)).tolist()
    colors = np.clip(base + rng.normal(0, 45, (count, 3)), 0, 255).tolist()
    for middle, half, color, angle in zip(middles, axes, colors, rng.uniform(0, 360, count), strict=True):
        cv2.ellipse(picture, middle, half, angle, 0, 360, color, cv2.FILLED, cv2.LINE_AA)


def _place(rng: np.random.Generator, picture: Pixels) -> list[int]:
    return [int(value) for value in rng.integers(0, len(picture), 2)]


def _any_color(rng: np.random.Generator) -> list[int]:
    return [int(value) for value in rng.integers(0, 256, 3)]


def _skin_color(rng: np.random.Generator) -> list[float]:
    """Return a colour that skin might have."""
    color = np.array([0.6, 0.75, 1.0]) * rng.uniform(80, 240) + rng.normal(0, 10, 3)
    return [float(value) for value in color.clip(0, 255)]


def _blob(rng: np.random.Generator, picture: Pixels, side: float) -> None:
    """Draw an irregular polygon."""
    corners = int(rng.integers(3, 9))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    reach = side * rng.uniform(0.3, 1, (corners, 1))
    points = _place(rng, picture) + reach * np.stack((np.cos(angles), np.sin(angles)), 1)
    cv2.fillPoly(picture, [points.astype(np.int32)], _any_color(rng), cv2.LINE_AA)


def _empty_oval(rng: np.random.Generator, picture: Pixels, side: float) -> None:
    """Draw a skin-coloured oval without features: a hand, a ball, the back of a head."""
    half = int(0.37 * side) + 1, int(0.5 * side) + 1
    place, angle = _place(rng, picture), rng.uniform(0, 180)
    cv2.ellipse(picture, place, half, angle, 0, 360, _skin_color(rng), cv2.FILLED, cv2.LINE_AA)
    if rng.random() < 0.5:
        cv2.ellipse(picture, place, half, angle, 180, 360, _any_color(rng), cv2.FILLED, cv2.LINE_AA)


def _dotted_oval(rng: np.random.Generator, picture: Pixels, side: float) -> None:
    """Draw an oval with dots anywhere but where eyes and mouth would be: a button, a flower, a cookie."""
    place, color = np.array(_place(rng, picture)), _any_color(rng)
    cv2.circle(picture, place.tolist(), int(0.5 * side) + 1, _skin_color(rng), cv2.FILLED, cv2.LINE_AA)
    for angle in np.linspace(0, 2 * np.pi, int(rng.integers(4, 9)), endpoint=False) + rng.uniform(0, 1):
        dot = (place + 0.3 * side * np.array([np.cos(angle), np.sin(angle)])).astype(int).tolist()
        cv2.circle(picture, dot, int(0.12 * side) + 1, color, cv2.FILLED, cv2.LINE_AA)


def _letters(rng: np.random.Generator, picture: Pixels, side: float) -> None:
    """Write a word."""
    text = "".join(chr(code) for code in rng.integers(48, 91, int(rng.integers(1, 7))))
    scale, thickness, font = max(0.3, side / 40), max(1, int(side / 20)), int(rng.integers(0, 8))
    cv2.putText(picture, text, _place(rng, picture), font, scale, _any_color(rng), thickness, cv2.LINE_AA)


DISTRACTORS: tuple[Callable[..., None], ...] = (_blob, _empty_oval, _dotted_oval, _letters)
