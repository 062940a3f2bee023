"""Folders of backgrounds, and empty windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_provider_farm.backgrounds import MARGIN, find_empty_windows, read_backgrounds
from lffd.boxes import areas, intersections, longer_sides
from lffd.errors import DataError
from tests.data_provider_farm.samples import NO_BOXES, jpeg


def test_folders_are_read_in_order(tmp_path: Path) -> None:
    for name in ("trees/b.jpg", "trees/deep/a.jpg", "walls/c.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(jpeg())
    listing = read_backgrounds([tmp_path / "walls", tmp_path / "trees"])
    found = list(listing.images)
    assert [image.name for image in found] == ["walls/c.jpg", "trees/b.jpg", "trees/deep/a.jpg"]
    assert listing.count == 3
    assert all(image.boxes.shape == (0, 4) for image in found)
    assert list(read_backgrounds([]).images) == []
    with pytest.raises(DataError, match="no such folder"):
        read_backgrounds([tmp_path / "sky"])


@settings(deadline=None, max_examples=60)
@given(
    st.integers(20, 700),
    st.integers(20, 700),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 0.5)), max_size=6),
    st.integers(0, 4),
    st.integers(0, 99),
)
def test_windows_touch_nothing(
    width: int, height: int, fractions: list[tuple[float, float, float, float]], count: int, seed: int
) -> None:
    boxes = np.array(
        [(x * width, y * height, min(1, x + w) * width, min(1, y + h) * height) for x, y, w, h in fractions], np.float32
    ).reshape(-1, 4)
    windows = find_empty_windows(np.random.default_rng(seed), (width, height), boxes, count, 50)
    assert len(windows) <= count
    found = windows.astype(np.float32)
    assert (found[:, :2] >= 0).all()
    assert (found[:, 2:] <= (width, height)).all()
    assert ((found[:, 2:] - found[:, :2]) >= 50).all()
    assert (np.diff(areas(found)) <= 0).all()
    margin = MARGIN * longer_sides(boxes)[:, None] * np.array([-1, -1, 1, 1], np.float32)
    assert not intersections(found, boxes + margin).any()
    assert not np.triu(intersections(found, found), 1).any()


def test_an_empty_image_is_mostly_used() -> None:
    windows = find_empty_windows(np.random.default_rng(0), (640, 480), NO_BOXES, 1, 100)
    assert areas(windows.astype(np.float32))[0] > 0.5 * 640 * 480
