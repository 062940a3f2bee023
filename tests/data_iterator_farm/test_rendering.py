"""Windows of images: pixels and boxes must agree to a fraction of a pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_iterator_farm.decoding import Scratch
from data_iterator_farm.rendering import CropWindow, draw_window
from lffd.boxes import as_boxes
from lffd.records import Record
from tests.data_iterator_farm.made_up import make_record

BOX = (72, 56, 136, 120)


def rectangle(kind: str, size: Any = (208, 176)) -> Record:
    """A white rectangle on dark grey, and its box."""
    image = np.full((size[1], size[0], 3), 40, np.uint8)
    image[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 240
    return make_record([BOX], size=size, image=image, kind=kind)


RECORDS = {kind: rectangle(kind) for kind in ("jpeg", "png")}


def edges(line: np.ndarray) -> tuple[float, float]:
    """Where a profile rises above, and falls below, halfway between dark and white; pixel i is centred at i + 0.5."""
    bright = np.flatnonzero(line > 140)
    first, last = int(bright[0]), int(bright[-1])

    def crossing(low: int, high: int) -> float:
        share = (140 - float(line[low])) / (float(line[high]) - float(line[low]))
        return low + 0.5 + share * (high - low)

    return crossing(first - 1, first), crossing(last + 1, last)


@given(
    kind=st.sampled_from(["jpeg", "png"]),
    scale=st.floats(0.13, 5),
    x=st.floats(0.1, 0.9),
    y=st.floats(0.1, 0.9),
    mirror=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_boxes_fit_the_pixels(kind: Any, scale: Any, x: Any, y: Any, mirror: Any) -> None:
    record = RECORDS[kind]
    side = 64 * scale
    width, height = int(side) + 40, int(side) + 32
    left, top = BOX[0] * scale - 4 - x * (width - side - 8), BOX[1] * scale - 4 - y * (height - side - 8)
    out = np.full((height, width, 3), 99, np.uint8)
    drawn = draw_window(record, CropWindow(scale, left, top, width, height, mirror), out)
    assert abs(drawn.left - left) <= 0.5 + 1e-9
    assert abs(drawn.top - top) <= 0.5 + 1e-9
    x0, y0, x1, y1 = drawn.boxes(record.boxes)[0].tolist()
    inner = out[..., 1].astype(float)
    tolerance = 0.2 + 0.06 * max(scale, 1 / scale)
    np.testing.assert_allclose(edges(inner[int((y0 + y1) / 2)]), (x0, x1), atol=tolerance)
    np.testing.assert_allclose(edges(inner[:, int((x0 + x1) / 2)]), (y0, y1), atol=tolerance)


@pytest.mark.parametrize("mirror", [False, True])
def test_outside_the_image_is_black(mirror: Any) -> None:
    record = make_record(size=(64, 48), image=np.full((48, 64, 3), 200, np.uint8), kind="png")
    out = np.full((100, 100, 3), 77, np.uint8)
    drawn = draw_window(record, CropWindow(1, -10, -20, 100, 100, mirror), out)
    assert (drawn.left, drawn.top) == (-10, -20)
    want = np.zeros((100, 100, 3), np.uint8)
    want[20:68, 10:74] = 200
    np.testing.assert_array_equal(out, want[:, ::-1] if mirror else want)


@pytest.mark.parametrize("corner", [(-100, 0), (64, 0), (0, -100), (0, 48), (500, 500)])
def test_a_window_wholly_outside_is_black(corner: Any) -> None:
    out = np.full((50, 50, 3), 77, np.uint8)
    draw_window(make_record(size=(64, 48)), CropWindow(1, corner[0], corner[1], 50, 50), out)
    assert not out.any()


def test_mirroring_mirrors_the_same_pixels_and_boxes() -> None:
    plain, mirrored = np.empty((2, 90, 70, 3), np.uint8)
    window = CropWindow(1.37, 20.4, 11.2, 70, 90)
    drawn = draw_window(RECORDS["png"], window, plain)
    turned = draw_window(RECORDS["png"], CropWindow(1.37, 20.4, 11.2, 70, 90, mirror=True), mirrored)
    np.testing.assert_array_equal(mirrored, plain[:, ::-1])
    x0, y0, x1, y1 = drawn.boxes(as_boxes([BOX]))[0]
    np.testing.assert_allclose(turned.boxes(as_boxes([BOX]))[0], [70 - x1, y0, 70 - x0, y1], atol=1e-4)


def test_drawing_into_a_tile_leaves_its_surroundings_alone() -> None:
    whole = np.full((80, 80, 3), 9, np.uint8)
    draw_window(RECORDS["jpeg"], CropWindow(0.8, 30, 30, 40, 30, mirror=True), whole[10:40, 20:60], Scratch())
    inside = np.zeros((80, 80), bool)
    inside[10:40, 20:60] = True
    assert (whole[~inside] == 9).all()
    assert not (whole[inside] == 9).all()


def test_boxes_of_nothing() -> None:
    assert CropWindow(2, 0, 0, 10, 10).boxes(as_boxes([])).shape == (0, 4)
