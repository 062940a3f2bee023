"""Ids stay with the objects that move, cross, hide and come back."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from detection import tracking
from detection.tracking import Tracker


def _box(x: float, y: float, side: float = 40) -> list[float]:
    return [x - side / 2, y - side / 2, x + side / 2, y + side / 2]


def _boxes(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def test_ids_follow_objects_whatever_their_order() -> None:
    rng, tracker = np.random.default_rng(0), Tracker()
    starts, speeds = rng.uniform(100, 900, (12, 2)) * [2, 1], rng.uniform(-60, 60, (12, 2))
    owner: dict[int, int] = {}
    for frame in range(50):
        time = frame / 25
        order = rng.permutation(12)
        noise = rng.normal(0, 1, (12, 2))
        ids = tracker.update(_boxes(*(_box(*(starts[i] + time * speeds[i] + noise[i])) for i in order)), time)
        assert len(set(ids.tolist())) == 12
        for which, found in zip(order.tolist(), ids.tolist(), strict=True):
            owner.setdefault(found, which)
            assert owner[found] == which
    assert tracker.count == 12


def test_two_that_cross_keep_their_ids() -> None:
    """They meet in the middle, 12 px apart in height; overlap alone, without speeds, would exchange them."""
    tracker = Tracker()
    for frame in range(41):
        x = 100 + 10 * frame
        ids = tracker.update(_boxes(_box(x, 200), _box(600 - x, 212)), frame / 25)
        assert ids.tolist() == [1, 2]


@pytest.mark.parametrize(("hidden", "same"), [(20, True), (40, False)])
def test_who_is_hidden_for_less_than_a_second_comes_back(hidden: int, same: bool) -> None:
    tracker = Tracker()
    for frame in range(20):
        tracker.update(_boxes(_box(100 + 4 * frame, 100)), frame / 25)
    for frame in range(20, 20 + hidden):
        assert tracker.update(_boxes(), frame / 25).size == 0
    frame = 20 + hidden
    (found,) = tracker.update(_boxes(_box(100 + 4 * frame, 100)), frame / 25).tolist()
    assert (found == 1) is same


def test_frames_may_be_left_out() -> None:
    tracker = Tracker()
    for frame in range(0, 60, 3):
        ids = tracker.update(_boxes(_box(100 + 6 * frame, 100)), frame / 25)
    assert ids.tolist() == [1]


def test_another_object_elsewhere_has_a_new_id_and_numbers_never_return() -> None:
    tracker = Tracker()
    assert tracker.update(_boxes(_box(100, 100)), 0).tolist() == [1]
    assert tracker.update(_boxes(_box(500, 100), _box(100, 101)), 0.04).tolist() == [2, 1]
    assert tracker.update(_boxes(_box(500, 100)), 5).tolist() == [3]
    assert tracker.count == 3


def test_the_tracker_is_short() -> None:
    assert len(inspect.getsource(tracking).splitlines()) <= 120
