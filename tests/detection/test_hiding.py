"""What is hidden cannot be had back, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from detection.hiding import CELLS, MARGIN, Hiding, hide

HOW: list[Hiding] = ["blur", "pixelate"]


def _noise(height: int = 200, width: int = 240, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def _boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


@pytest.mark.parametrize("how", HOW)
def test_only_boxes_and_their_margin_change(how: Hiding) -> None:
    image = _noise()
    box = (60, 40, 160, 140)
    hidden = hide(image, _boxes(box), how)
    rows, columns = np.nonzero((hidden != image).any(axis=2))
    margin = round(100 * MARGIN)
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (
        60 - margin,
        40 - margin,
        159 + margin,
        139 + margin,
    )
    np.testing.assert_array_equal(hide(image, _boxes(), how), image)


@pytest.mark.parametrize("side", [10, 40, 130, 1000])
def test_a_region_keeps_no_more_than_a_few_colours(side: int) -> None:
    hidden = hide(_noise(1400, 1400), _boxes((200, 200, 200 + side, 200 + side)), "pixelate")
    colours = np.unique(hidden[200 : 200 + side, 200 : 200 + side].reshape(-1, 3), axis=0)
    assert len(colours) <= min(CELLS, side * (1 + 2 * MARGIN) / 8 + 1) ** 2


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("side", [60, 120, 480])
def test_nothing_but_the_means_of_the_cells_is_left(how: Hiding, side: int) -> None:
    """Pixels that change places inside their cells change nothing: what they were cannot be found out."""
    image, margin = _noise(800, 800), round(MARGIN * side)
    start, stop = 100 - margin, 100 + side + margin
    cells = np.split(image[start:stop, start:stop].reshape(stop - start, CELLS, -1, 3), CELLS)
    rng, shuffled = np.random.default_rng(1), image.copy()
    rows = []
    for row in cells:
        pixels = [
            rng.permutation(row[:, column].reshape(-1, 3)).reshape(row[:, column].shape) for column in range(CELLS)
        ]
        rows.append(np.concatenate(pixels, axis=1))
    shuffled[start:stop, start:stop] = np.concatenate(rows)
    box = _boxes((100, 100, 100 + side, 100 + side))
    assert (shuffled != image).any()
    assert np.abs(hide(image, box, how).astype(int) - hide(shuffled, box, how)).max() <= 1  # order of sums


@pytest.mark.parametrize("how", HOW)
def test_letters_of_a_face_are_gone(how: Hiding) -> None:
    """Stripes of a fourteenth of the face, the finest that people are told apart by, leave no contrast."""
    stripes = np.where((np.arange(240) // 5) % 2 == 0, 0, 255).astype(np.uint8)
    image = np.repeat(np.repeat(stripes[None, :, None], 200, 0), 3, 2)
    hidden = hide(image, _boxes((50, 50, 190, 190)), how)[60:180, 60:180].astype(float)
    assert image[60:180, 60:180].std() > 120
    assert hidden.std() < 40


@pytest.mark.parametrize("how", HOW)
def test_boxes_at_the_border_of_no_size_and_outside(how: Hiding) -> None:
    image = _noise(50, 60)
    hidden = hide(
        image, _boxes((-20, -20, 10, 10), (59.5, 49.5, 59.6, 49.6), (100, 100, 120, 120), (70, 3, 60, 1)), how
    )
    assert hidden.shape == image.shape
    assert (hidden[:10, :10] != image[:10, :10]).any()
