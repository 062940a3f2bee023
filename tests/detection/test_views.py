"""Choosing scales and branches."""

from __future__ import annotations

from typing import Any

import pytest

from detection.views import View, ViewSettings, plan_views, used_branches
from lffd.errors import UsageError
from symbol_farm.versions import version_network

V1, V2 = version_network("v1"), version_network("v2")
ALL = (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("settings", "size", "expected"),
    [
        ({}, (480, 640), [View(480, 640, ALL)]),
        ({}, (128, 128), [View(128, 128, ALL)]),
        ({}, (64, 100), [View(128, 200, ALL)]),
        ({}, (1, 1), [View(128, 128, ALL)]),
        ({}, (3, 20_000), [View(3, 20_000, ALL)]),
        ({}, (4, 1024), [View(8, 2048, ALL)]),
        ({"minimum_side": 0}, (64, 100), [View(64, 100, ALL)]),
        ({"scale": 0.5}, (64, 100), [View(32, 50, ALL)]),
        ({"branches": (3, 1)}, (480, 640), [View(480, 640, (1, 3))]),
        # Faces of at least 300 px at a thirtieth: 10 px; the largest possible is 4000 / 30 = 133 px.
        ({"min_face": 300}, (3000, 4000), [View(100, 133, (0, 1, 2, 3))]),
        ({"min_face": 300, "max_face": 900}, (3000, 4000), [View(100, 133, (0, 1))]),
        ({"min_face": 5}, (200, 300), [View(400, 600, ALL)]),
        ({"min_face": 300}, (100, 100), [View(3, 3, (0,))]),
        ({"max_face": 30}, (480, 640), [View(480, 640, (0, 1))]),
        ({"max_face": 30}, (64, 100), [View(128, 200, (0, 1, 2))]),
        ({"pyramid": True}, (240, 320), [View(240, 320, ALL)]),
        ({"pyramid": True}, (1000, 1280), [View(1000, 1280, ALL), View(250, 320, (3, 4))]),
        ({"pyramid": True, "max_face": 600}, (1000, 1280), [View(1000, 1280, ALL), View(250, 320, (3,))]),
        ({"pyramid": True, "branches": (0,)}, (60, 75), [View(128, 160, (0,)), View(32, 40, (0,)), View(8, 10, (0,))]),
    ],
)
def test_plans(settings: dict[str, Any], size: tuple[int, int], expected: list[View]) -> None:
    assert list(plan_views(V2, ViewSettings(**settings), *size)) == expected


def test_the_published_example() -> None:
    """Faces of 300-900 px with v1: a factor of 10/300, and the five deepest branches are not needed."""
    settings = ViewSettings(min_face=300, max_face=900)
    assert used_branches(V1, settings) == (0, 1, 2)
    (view,) = plan_views(V1, settings, 2160, 3840)
    assert view == View(72, 128, (0, 1, 2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": 0}, "scale must be above 0"),
        ({"min_face": -1}, "min_face must be above 0"),
        ({"max_face": float("inf")}, "max_face must be above 0"),
        ({"tile_memory": 0}, "tile_memory must be above 0"),
        ({"minimum_side": -1}, "minimum_side must not be negative"),
        ({"scale": 0.5, "min_face": 20}, "give scale or min_face, not both"),
        ({"min_face": 50, "max_face": 40}, "min_face 50 is larger than max_face 40"),
        ({"branches": ()}, "at least one branch"),
        ({"branches": (5,)}, "has branches 0 to 4, not 5"),
        ({"max_face": 1000}, "more than the 320 px that .* finds at this scale: add the pyramid"),
        ({"min_face": 0.001}, "would be enlarged to"),
        ({"scale": 60}, "would be enlarged to 60 times"),
        ({"scale": 1e308}, "would be enlarged to"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan_views(V2, ViewSettings(**settings), 480, 640)


@pytest.mark.parametrize(
    ("fit", "height", "width", "view", "canvas"),
    [
        ("letterbox", 480, 1280, (240, 640), (640, 640)),
        ("letterbox", 100, 50, (640, 320), (640, 640)),
        ("stretch", 480, 1280, (640, 640), (640, 640)),
    ],
)
def test_a_prescribed_size(fit: Any, height: int, width: int, view: tuple[int, int], canvas: tuple[int, int]) -> None:
    (found,) = plan_views(version_network("v1"), ViewSettings(input_size="640x640", fit=fit), height, width)
    assert ((found.height, found.width), found.canvas) == (view, canvas)
    assert found.branches == tuple(range(8))


def test_a_network_of_one_size_sees_every_image_at_it() -> None:
    network = version_network("slim_320")
    (found,) = plan_views(network, ViewSettings(), 900, 700)
    assert (found.height, found.width, found.canvas) == (240, 320, (240, 320))
    for settings in (ViewSettings(scale=2), ViewSettings(input_size="640x480")):
        with pytest.raises(UsageError, match="slim_320 sees every image stretched to 320x240"):
            plan_views(network, settings, 900, 700)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"input_size": "640"}, "is not a size"),
        ({"fit": "stretch"}, "give that too"),
        ({"input_size": "640x640", "scale": 2.0}, "give input_size, or scale"),
    ],
)
def test_prescribed_sizes_that_cannot_be_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ViewSettings(**wrong)
