"""Which record comes when: evenly, from any place, and without overlap between workers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_iterator_farm.record_order import RecordKinds, RecordOrder, sort_records
from lffd.errors import DataError
from tests.data_iterator_farm.made_up import make_record, make_source


def kinds(faces: Any, background: Any = 0, ignored_only: Any = 0) -> Any:
    numbers = np.arange(faces + background + ignored_only)
    return RecordKinds(numbers[:faces], numbers[faces + background :], numbers[faces : faces + background], {})


@given(
    faces=st.integers(1, 40),
    background=st.integers(0, 15),
    ignored_only=st.integers(0, 5),
    share=st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.9]),
    seed=st.integers(0, 2**40),
)
@settings(max_examples=60, deadline=None)
def test_every_record_comes_equally_often(
    faces: Any, background: Any, ignored_only: Any, share: Any, seed: Any
) -> None:
    order = RecordOrder(kinds(faces, background, ignored_only), share, use_ignored_only=True, seed=seed)
    count = 600
    counts = np.bincount([order.at(place) for place in range(count)], minlength=faces + background + ignored_only)
    used = np.concatenate((counts[:faces], counts[faces + background :]))
    assert used.max() - used.min() <= 1
    if background and share:
        assert counts[faces : faces + background].sum() == pytest.approx(share * count, abs=1)
        assert np.ptp(counts[faces : faces + background]) <= 1
    else:
        assert not counts[faces : faces + background].any()


def test_any_place_can_be_looked_up_in_any_order() -> None:
    order = RecordOrder(kinds(7, 3), 0.2, use_ignored_only=False, seed=4)
    forward = [order.at(place) for place in range(100)]
    other = RecordOrder(kinds(7, 3), 0.2, use_ignored_only=False, seed=4)
    assert [other.at(place) for place in reversed(range(100))] == forward[::-1]
    far = other.at(10**9)
    assert far == RecordOrder(kinds(7, 3), 0.2, use_ignored_only=False, seed=4).at(10**9)


def test_rounds_and_seeds_differ() -> None:
    order = RecordOrder(kinds(30), 0.0, use_ignored_only=False, seed=1)
    first, second = ([order.at(place) for place in range(start, start + 30)] for start in (0, 30))
    assert sorted(first) == sorted(second) == list(range(30))
    assert first != second
    other = RecordOrder(kinds(30), 0.0, use_ignored_only=False, seed=2)
    assert [other.at(place) for place in range(30)] != first


def test_records_with_only_ignored_boxes_can_be_left_out() -> None:
    order = RecordOrder(kinds(4, ignored_only=3), 0.1, use_ignored_only=False, seed=0)
    assert {order.at(place) for place in range(50)} == {0, 1, 2, 3}
    rng = np.random.default_rng(0)
    used = RecordOrder(kinds(4, ignored_only=3), 0.1, use_ignored_only=True, seed=0)
    assert {used.random_face(rng) for _ in range(80)} == {0, 1, 2, 3}


def test_a_source_without_a_face_is_refused() -> None:
    with pytest.raises(
        DataError, match="no record has a face to learn: 2 have only ignored boxes, 3 have none, 0 are bad"
    ):
        RecordOrder(kinds(0, 3, 2), 0.1, use_ignored_only=True, seed=0)


@pytest.mark.parametrize("threads", [1, 3])
def test_scanning_sorts_records(threads: Any) -> None:
    source = make_source(2100 // 100, background=2)
    source.insert(5, make_record([[1, 1, 20, 20]], [True], name="hidden"))
    found = sort_records(source, threads)
    assert found.background.tolist() == [22, 23]
    assert found.ignored_only.tolist() == [5]
    assert found.faces.tolist() == [k for k in range(22) if k != 5]
    assert found.bad == {}


def test_scanning_many_records_keeps_their_order() -> None:
    source = [make_record([[1, 1, 20, 20]])] * 2500 + [make_record()] * 10
    found = sort_records(source, 2)
    assert found.faces.tolist() == list(range(2500))
    assert found.background.tolist() == list(range(2500, 2510))


def test_scanning_names_bad_records_or_collects_them() -> None:
    source = make_source(6)
    source[3] = replace(source[3], boxes=source[3].boxes * np.float32("nan"))
    with pytest.raises(DataError, match="face 3"):
        sort_records(source)
    found = sort_records(source, skip_bad=True)
    assert list(found.bad) == [3]
    assert "face 3" in found.bad[3]
    assert 3 not in found.faces
