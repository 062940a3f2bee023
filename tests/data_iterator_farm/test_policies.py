"""The policies: what the presets say, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import tyro

from data_iterator_farm.policies import (
    JitterPolicy,
    LabelPolicy,
    SamplingPolicy,
    ours,
    preset,
    published,
)
from lffd.errors import UsageError
from symbol_farm.versions import VERSIONS, version_network


@pytest.mark.parametrize(
    ("version", "branches"),
    [("v1", 3), ("v2", 2), ("head", 2), ("pedestrian", 3), ("plate", 2), ("plate_small", 2)],
)
def test_v1_and_pedestrians_restrict_three_branches(version: Any, branches: Any) -> None:
    assert published(version_network(version)).sampling.restricted_branches == branches


@pytest.mark.parametrize(
    ("version", "beyond", "upside_down"),
    [("v1", 0.1, 0), ("v2", 0.1, 0), ("head", 0.1, 0), ("pedestrian", 0.2, 0), ("plate", 0.1, 0.5),
     ("plate_small", 0.1, 0.5)],
)  # fmt: skip
def test_published_versions_differ_in_their_sampling(version: str, beyond: float, upside_down: float) -> None:
    sampling = published(version_network(version)).sampling
    assert (sampling.beyond_last, sampling.vertical_flip) == (beyond, upside_down)


def test_the_published_labels_are_section_3() -> None:
    labels = published(version_network("v2")).labels
    assert labels == LabelPolicy(1.0, False, "ignore", "background", False, 0.0, 1.0, False, True)


def test_our_sizes_follow_the_network() -> None:
    sampling, _, labels = ours(version_network("v2"))
    assert sampling.side_range == (9, 420)
    assert labels.smallest == 9
    assert labels.last_range_factor * 320 == 480
    assert (sampling.max_upscale, sampling.random_window, sampling.mosaic, sampling.mosaic_fill) == (
        3,
        0.08,
        0.35,
        0.65,
    )
    assert (labels.positive_region, sampling.min_visible) == (0.65, 0.4)
    assert ours(version_network("v3")).sampling.side_range == (9, 420), "no smaller than the crop of 320 px asks for"
    assert ours(version_network("v1")).sampling.side_range == (9, 735)
    assert ours(version_network("pedestrian")).labels.smallest == 27


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["ours", "published"])
def test_policies_are_plain_values(version: Any, name: Any) -> None:
    for policy in preset(name, version_network(version)):
        stored = json.loads(json.dumps(dataclasses.asdict(policy), allow_nan=False))
        pairs: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()
        }
        kind: Any = type(policy)
        assert kind(**pairs) == policy


@pytest.mark.parametrize("policy", [SamplingPolicy, JitterPolicy, LabelPolicy])
def test_policies_are_command_line_fields(policy: Any) -> None:
    assert tyro.cli(policy, args=[]) == policy()


def test_a_field_can_be_set_from_the_command_line() -> None:
    found = tyro.cli(
        SamplingPolicy, args=["--side-range", "12", "300", "--max-upscale", "None", "--placement", "centre"]
    )
    assert found == SamplingPolicy(side_range=(12, 300), max_upscale=None, placement="centre")


@pytest.mark.parametrize(
    ("policy", "values", "what"),
    [
        (SamplingPolicy, {"flip": 1.5}, "flip must lie in 0–1"),
        (SamplingPolicy, {"background_share": float("nan")}, "background_share"),
        (SamplingPolicy, {"side_range": (20, 10)}, "side_range"),
        (SamplingPolicy, {"side_range": (0, 10)}, "side_range"),
        (SamplingPolicy, {"background_scale": (1, float("inf"))}, "background_scale"),
        (SamplingPolicy, {"target": "any"}, "target must be one of branch, log-uniform"),
        (SamplingPolicy, {"placement": "left"}, "placement"),
        (SamplingPolicy, {"face_choice": "first"}, "face_choice"),
        (SamplingPolicy, {"max_upscale": 0}, "max_upscale"),
        (SamplingPolicy, {"restricted_branches": -1}, "restricted_branches"),
        (SamplingPolicy, {"beyond_last_factor": 0.9}, "beyond_last_factor"),
        (JitterPolicy, {"brightness": (-1, 1)}, "brightness"),
        (JitterPolicy, {"jpeg": 2}, "jpeg"),
        (JitterPolicy, {"jpeg_quality": (50, 101)}, "jpeg_quality"),
        (JitterPolicy, {"cutout_side": (0.5, 1.5)}, "cutout_side"),
        (LabelPolicy, {"positive_region": 0}, "positive_region"),
        (LabelPolicy, {"overlap": "both"}, "overlap"),
        (LabelPolicy, {"ignored_boxes": "no"}, "ignored_boxes"),
        (LabelPolicy, {"smallest": -1}, "smallest"),
        (LabelPolicy, {"last_range_factor": 0.5}, "last_range_factor"),
    ],
)
def test_impossible_values_are_refused(policy: Any, values: Any, what: Any) -> None:
    with pytest.raises(UsageError, match=f"{policy.__name__}.*{what}"):
        policy(**values)


def test_unknown_presets_are_refused() -> None:
    with pytest.raises(UsageError, match="published, ours"):
        preset("best", version_network("v2"))
