"""What a survey counts, suspects and compares."""

from __future__ import annotations

import json

import numpy as np
import pytest

from data_provider_farm.survey import branch_of, coverage, shared_images, summarize, survey
from lffd.records import Record
from symbol_farm.versions import version_network
from tests.data_provider_farm.samples import NO_BOXES, NO_FLAGS, record

RANGES = [(10.0, 20.0), (20.0, 40.0), (50.0, 80.0)]


@pytest.mark.parametrize(
    ("side", "branch"), [(9.9, -1), (10, 0), (20, 0), (20.1, 1), (40, 1), (45, -3), (50, 2), (80, 2), (80.1, -2)]
)
def test_the_first_branch_that_holds_a_side_gets_it(side: float, branch: int) -> None:
    assert branch_of(np.array([side], np.float32), RANGES).tolist() == [branch]


def test_coverage_counts_everything_once() -> None:
    sides = np.array([5, 9.9, 10, 20, 30, 45, 60, 100], np.float32)
    found = coverage(sides, RANGES)
    assert found == {"branches": [2, 1, 1], "below": 2, "above": 1, "between": 1, "unseen_share": 0.5}
    assert coverage(np.zeros(0, np.float32), RANGES)["unseen_share"] == 0


def test_counts_of_a_small_pack() -> None:
    found = survey(
        [
            record(name="empty.jpg", seed=1),
            record([(0, 0, 12, 8), (0, 0, 5, 30), (1, 1, 3, 3)], [False, False, True], seed=2),
            record([(5, 5, 9, 9)], [True], name="synthetic/0.jpg", seed=3),
        ]
    )
    summary = summarize(found, version_network("v2").branch_geometry, {})
    assert {key: summary[key] for key in ("images", "boxes", "ignored_boxes", "backgrounds", "synthetic_images")} == {
        "images": 3,
        "boxes": 4,
        "ignored_boxes": 2,
        "backgrounds": 1,
        "synthetic_images": 1,
    }
    assert list(found.sides) == [12, 30]
    assert list(found.ignored_sides) == [2, 4]
    assert list(found.boxes_per_image) == [0, 2, 0]
    assert [branch["objects"] for branch in summary["branches"]] == [1, 1, 0, 0, 0]
    assert summary["unseen"] == {"below": 0, "above": 0, "between": 0, "share": 0.0}
    assert summary["longer_side"]["min"] == 12
    assert summary["longer_side"]["p50"] == 21
    json.dumps(summary)


def test_an_empty_pack_has_a_summary_too() -> None:
    summary = summarize(survey([]), version_network("v2").branch_geometry, {})
    assert (summary["images"], summary["boxes"], summary["longer_side"]) == (0, 0, {})
    json.dumps(summary)


@pytest.mark.parametrize(
    ("boxes", "kinds"),
    [
        ([(0, 0, 40, 10)], []),
        ([(0, 0, 41, 10)], ["elongated"]),
        ([(0, 0, 5, 21)], ["elongated"]),
        ([(3, 3, 3, 9)], ["elongated"]),
        ([(0, 0, 64, 48)], ["whole image"]),
        ([(10, 10, 20, 20), (40, 10, 50, 20)], []),
        ([(10, 10, 40, 40), (10, 10, 40, 39)], ["twin"]),
        ([(10, 10, 40, 40)] * 3, ["twin", "twin"]),
    ],
)
def test_suspicious_boxes(boxes: list[tuple[float, ...]], kinds: list[str]) -> None:
    found = survey([record(seed=7), record(boxes, name="b.jpg")])
    assert [suspicion.kind for suspicion in found.suspicions] == kinds
    assert all((suspicion.record, suspicion.name) == (1, "b.jpg") for suspicion in found.suspicions)
    ignored = survey([record(boxes, [True] * len(boxes))])
    assert ignored.suspicions == []


def test_same_bytes_are_found_within_and_between_packs() -> None:
    def raw(image: bytes) -> Record:
        return Record("n", image, 4, 4, NO_BOXES, NO_FLAGS)

    train = survey([raw(b"a"), raw(b"b"), raw(b"a"), raw(b"c")])
    val = survey([raw(b"x"), raw(b"c"), raw(b"a")])
    assert train.duplicates == [[0, 2]]
    assert val.duplicates == []
    assert sorted(shared_images(train, val)) == [(0, 2), (3, 1)]
    assert shared_images(train, survey([])) == []
