"""At which sizes a detector looks at an image, and which branches it asks there."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from lffd.cli import parse_size
from lffd.errors import UsageError
from lffd.graphs.network import Network

MAX_ENLARGED_SIDE = 2048
"""Small images are not enlarged beyond this longer side: a 20,000×3 strip holds no face that is worth 850,000 px."""

MAX_RESIZED_PIXELS = 1 << 28

PYRAMID_STEP = 4
"""Each level of the pyramid is so many times smaller than the one before."""


@dataclass(frozen=True)
class ViewSettings:
    """How an image is shown to the network. Face means whatever the model detects.

    Raises:
        UsageError: for a value outside its range, or two that exclude each other.
    """

    min_face: float | None = None
    """Faces have at least this longer side in pixels: the image is resized so that such a face gets the smallest size
    that the network finds. 300 makes large images fast, 5 finds tinier faces than the network is made for."""
    max_face: float | None = None
    """Faces have at most this longer side in pixels: deeper branches than needed are cut off."""
    scale: float | None = None
    """Resize every image by this factor first."""
    branches: tuple[int, ...] | None = None
    """Use these branches only, 0 the shallowest; the others are cut off."""
    minimum_side: int = 128
    """Without scale and min-face, enlarge images whose shorter side is under this."""
    pyramid: bool = False
    """Look at ever smaller copies too, for faces beyond the network's range."""
    tile_memory: float = 1024
    """MB of working memory for the network; larger images are run in exact tiles."""
    input_size: str | None = None
    """Give the network every image at this size, WIDTHxHEIGHT in pixels."""
    fit: Literal["letterbox", "stretch"] = "letterbox"
    """With input-size: letterbox keeps proportions and puts black beside; stretch fills it."""

    def __post_init__(self) -> None:
        for name in ("scale", "min_face", "max_face", "tile_memory"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{name} must be above 0, not {value}")
        if self.minimum_side < 0:
            raise UsageError(f"minimum_side must not be negative, but is {self.minimum_side}")
        if self.scale is not None and self.min_face is not None:
            raise UsageError("give scale or min_face, not both: min_face chooses the scale")
        if (self.min_face or 0) > (self.max_face or math.inf):
            raise UsageError(f"min_face {self.min_face:g} is larger than max_face {self.max_face:g}")
        others = ("scale", "min_face", "max_face", "pyramid")
        if self.input_size is None and self.fit != "letterbox":
            raise UsageError("fit says how an image gets to its input_size: give that too")
        if self.input_size is not None and any(getattr(self, name) for name in others):
            raise UsageError(f"give input_size, or {', '.join(others)}, not both")
        _ = self.size
        if self.branches is not None and not self.branches:
            raise UsageError("branches must name at least one branch, 0 the shallowest")

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of `input_size`; None where there is none."""
        return None if self.input_size is None else parse_size(self.input_size)


@dataclass(frozen=True)
class View:
    """One look at an image: resized to `height` × `width`; `branches` are the indices of those that are asked.

    `canvas` is what the image is padded to, as `(height, width)`, where a size is prescribed.
    """

    height: int
    width: int
    branches: tuple[int, ...]
    canvas: tuple[int, int] | None = None


def used_branches(network: Network, settings: ViewSettings) -> tuple[int, ...]:
    """Return the branches that images of usual size need; the others may be cut off the network.

    An image that is enlarged to the minimum side may need deeper ones: `plan_views` says so.

    Raises:
        UsageError: for an unknown branch, or a `max_face` that no branch reaches without a pyramid.
    """
    every = range(len(network.branches))
    chosen = tuple(every) if settings.branches is None else tuple(sorted(set(settings.branches)))
    if unknown := [index for index in chosen if index not in every]:
        raise UsageError(f"{network.name} has branches 0 to {len(every) - 1}, not {', '.join(map(str, unknown))}")
    if settings.max_face is None or settings.pyramid:
        return chosen
    factor = _base_scale(network, settings, 1.0)
    reach = network.branches[chosen[-1]].object_range[1] / factor
    if settings.max_face > reach:
        what = f"is more than the {reach:g} px that {network.name} finds at this scale"
        raise UsageError(f"max_face {settings.max_face:g} {what}: add the pyramid, or choose a larger min_face")
    return _matching(network, chosen, settings.min_face or 0, settings.max_face, factor)


def plan_views(network: Network, settings: ViewSettings, height: int, width: int) -> tuple[View, ...]:
    """Return how to look at an image of `height` × `width` pixels, largest view first.

    Raises:
        UsageError: when an enlargement would be unreasonably large.
    """
    used_branches(network, settings)  # refuses what cannot be
    if (size := settings.size or network.fixed_input) is not None:
        _check_size(network, settings)
        factors = size[0] / width, size[1] / height
        x, y = factors if settings.fit == "stretch" or network.fixed_input else (min(factors),) * 2
        sides = max(1, round(height * y)), max(1, round(width * x))
        return (View(*sides, used_branches(network, settings), (size[1], size[0])),)
    branches = used_branches(network, replace(settings, max_face=None))
    longest = settings.max_face or float(max(height, width))
    enlargement = max(1.0, settings.minimum_side / min(height, width))
    factor = _base_scale(network, settings, min(enlargement, max(1.0, MAX_ENLARGED_SIDE / max(height, width))))
    if settings.min_face is not None or (settings.max_face is not None and not settings.pyramid):
        branches = _matching(network, branches, settings.min_face or 0, longest, factor)
    views = [_view(height, width, factor, branches)]
    covered = network.branches[branches[-1]].object_range[1] / factor
    while settings.pyramid and covered < longest:
        factor /= PYRAMID_STEP
        views.append(_view(height, width, factor, _matching(network, branches, covered * 1.001, longest, factor)))
        covered = network.branches[branches[-1]].object_range[1] / factor
    return tuple(views)


def _check_size(network: Network, settings: ViewSettings) -> None:
    """Refuse another size for a network that takes one only."""
    if network.fixed_input is None:
        return
    width, height = network.fixed_input
    others = ("scale", "min_face", "max_face", "pyramid")
    if any(getattr(settings, name) for name in others) or settings.size not in (None, network.fixed_input):
        wrong = f"leave out {', '.join(others)} and other sizes"
        raise UsageError(f"{network.name} sees every image stretched to {width}x{height}: {wrong}")


def _base_scale(network: Network, settings: ViewSettings, enlargement: float) -> float:
    """Return the factor of the largest view."""
    if settings.min_face is not None:
        return network.object_range[0] / settings.min_face
    return enlargement if settings.scale is None else settings.scale


def _matching(
    network: Network, branches: tuple[int, ...], smallest: float, largest: float, factor: float
) -> tuple[int, ...]:
    """Return those branches that find faces of `smallest` to `largest` px at this scale, or else the nearest one."""
    ranges = {index: [side / factor for side in network.branches[index].object_range] for index in branches}
    matching = tuple(index for index, (low, high) in ranges.items() if high >= smallest and low <= largest)
    return matching or ((branches[0],) if ranges[branches[0]][0] > largest else (branches[-1],))


def _view(height: int, width: int, factor: float, branches: tuple[int, ...]) -> View:
    if height * width * factor * factor > MAX_RESIZED_PIXELS and factor > 1:
        what = f"a {width}x{height} image would be enlarged to {factor:g} times that size"
        limit = f"more than {MAX_RESIZED_PIXELS:,} pixels"
        raise UsageError(f"{what}, {limit}; choose a smaller scale or a larger min_face")
    return View(max(1, round(height * factor)), max(1, round(width * factor)), branches)
