"""What is drawn how often, and which cells are positive: plain values, so that they fit a command line and a card.

Two presets exist by name. `published` is the behaviour of the published LFFD system (arXiv 1904.10633, section 3.3);
`ours` is a recipe that learns faster: mosaics, sizes drawn evenly over the logarithm, positives near the middle only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from lffd.errors import UsageError
from lffd.graphs.network import Network

PresetName = Literal["ours", "published"]

MAX_SCALE = 64.0
"""No crop enlarges its image more than this: a face of a fraction of a pixel is a fault in the annotation."""


@dataclass(frozen=True)
class SamplingPolicy:
    """How crops are cut from images. Lengths are in pixels, shares and probabilities within 0–1.

    Attributes:
        background_share: share of the crops that come from images without any box, as far as the data has such.
        background_scale: ends of the uniform scale for images without a face to learn.
        flip: probability of mirroring left to right.
        vertical_flip: probability of turning upside down (mirroring top to bottom).
        face_choice: which face of an image is looked at: `uniform`, or `size-balanced` (first one of the branches
            that the image's faces would fall into unscaled, then one of its faces).
        target: how large that face becomes: `branch` (first a branch, then a size within its range) or
            `log-uniform` (within `side_range`).
        restricted_branches: for `branch`: a face whose longer side is at most the lower end of branch k may only
            reach branches 0–k; this many branches, from the first, have that rule.
        beyond_last: for `branch`: probability that a size beyond the last branch joins the choice of branches.
        beyond_last_factor: that size is at most this times the last upper end.
        side_range: for `log-uniform`: smallest and largest longer side.
        redraws: for `log-uniform`: how many other images are tried at random when no face of this one can become as
            large as was drawn, the last of them being taken as it is; else large faces are rare wherever most faces
            are small. 0 always takes the image whose turn it is.
        max_upscale: largest enlargement of an image; `None` leaves only the limit of 64 that always holds.
        placement: where the face lies: `centre` of the crop, or `anywhere` in it.
        centre_offset: for `centre`: largest random move in x and in y, in strides of the chosen branch.
        inside_image: for `anywhere`: move the window so that no more of it than necessary lies outside the image.
        random_window: share of crops of images with faces whose window is placed regardless of the face.
        mosaic: share of crops of images with faces that are made of 2×2 tiles from four images.
        mosaic_fill: make a mosaic as well when the scaled image would fill less than this share of the crop both
            ways; the other three images fill at least this share of their tiles one way. 0 for neither.
        min_visible: a face of which less than this share of its area is visible becomes ignored.
    """

    background_share: float = 0.1
    background_scale: tuple[float, float] = (0.5, 3.5)
    flip: float = 0.5
    vertical_flip: float = 0.0
    face_choice: Literal["uniform", "size-balanced"] = "uniform"
    target: Literal["branch", "log-uniform"] = "log-uniform"
    restricted_branches: int = 0
    beyond_last: float = 0.0
    beyond_last_factor: float = 1.5
    side_range: tuple[float, float] = (9.0, 420.0)
    redraws: int = 8
    max_upscale: float | None = 3.0
    placement: Literal["centre", "anywhere"] = "anywhere"
    centre_offset: float = 0.5
    inside_image: bool = True
    random_window: float = 0.08
    mosaic: float = 0.35
    mosaic_fill: float = 0.65
    min_visible: float = 0.4

    def __post_init__(self) -> None:
        shares = ("background_share", "flip", "vertical_flip", "beyond_last")
        more = ("random_window", "mosaic", "mosaic_fill", "min_visible")
        least = {"restricted_branches": 0, "centre_offset": 0, "redraws": 0, "beyond_last_factor": 1}
        _check(self, shares=(*shares, *more), ranges=("background_scale", "side_range"), least=least)
        if self.max_upscale is not None and not self.max_upscale > 0:
            raise UsageError(f"SamplingPolicy.max_upscale must be above 0 or None, not {self.max_upscale}")


@dataclass(frozen=True)
class JitterPolicy:
    """How pixels are changed. Factors are drawn uniformly; 1 leaves the image as it is.

    Attributes:
        probability: of changing the colours at all.
        each: probability of each of brightness, saturation and contrast when colours change; their order is random.
        brightness: ends of the factor on every pixel.
        saturation: ends of the factor on the distance from grey.
        contrast: ends of the factor on the distance from the image's mean grey.
        grey: probability of a grey image.
        blur: probability of a Gaussian blur.
        blur_sigma: ends of its standard deviation in pixels.
        jpeg: probability of JPEG artefacts.
        jpeg_quality: ends of the JPEG quality, 1–100.
        cutout: probability of one plain rectangle in a random colour; labels stay as they are.
        cutout_side: ends of its width and height as a share of the image's.
    """

    probability: float = 0.5
    each: float = 0.5
    brightness: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    contrast: tuple[float, float] = (0.5, 1.5)
    grey: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.3, 2.0)
    jpeg: float = 0.0
    jpeg_quality: tuple[int, int] = (30, 90)
    cutout: float = 0.0
    cutout_side: tuple[float, float] = (0.1, 0.4)

    def __post_init__(self) -> None:
        ranges = ("brightness", "saturation", "contrast", "blur_sigma", "jpeg_quality", "cutout_side")
        _check(self, shares=("probability", "each", "grey", "blur", "jpeg", "cutout"), ranges=ranges)
        if self.jpeg_quality[1] > 100 or self.cutout_side[1] > 1:
            raise UsageError("JitterPolicy: jpeg_quality ends at 100 and cutout_side at 1")


@dataclass(frozen=True)
class LabelPolicy:
    """Which cells of a branch's map are positive, ignored or background.

    Attributes:
        positive_region: cells are positive whose centre lies in the middle part of a box of the branch's range,
            this share of its width and height; the rest of the box is ignored. 1 for the whole box.
        nearest_cell: a box whose part holds no centre takes the nearest cell; otherwise this branch leaves it out.
        overlap: a cell that several boxes claim: `ignore` it, or give it to the `nearest` box centre.
        ignored_boxes: cells in ignored boxes are `ignore`d at every branch, or taken as `background`.
        positive_over_ignored: a cell that is positive for one box and ignored for another is positive.
        ignored_keep_box: without that rule, such a cell is taught the box, and takes no part in the score's loss alone.
        smallest: faces with a shorter longer side in pixels count as ignored boxes.
        last_range_factor: the last branch is positive up to this times its upper end; the box code stays the same.
        ignore_larger: faces above the last branch's range are ignored there instead of being background.
    """

    positive_region: float = 0.65
    nearest_cell: bool = True
    overlap: Literal["ignore", "nearest"] = "nearest"
    ignored_boxes: Literal["ignore", "background"] = "ignore"
    positive_over_ignored: bool = True
    smallest: float = 9.0
    last_range_factor: float = 1.5
    ignore_larger: bool = True
    ignored_keep_box: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.positive_region <= 1:
            raise UsageError(f"LabelPolicy.positive_region must lie in 0–1, 0 excluded, not {self.positive_region}")
        _check(self, least={"smallest": 0, "last_range_factor": 1})


class Policies(NamedTuple):
    """The three policies that together say how batches are made."""

    sampling: SamplingPolicy
    jitter: JitterPolicy
    labels: LabelPolicy


PUBLISHED_SAMPLING: dict[str, dict[str, Any]] = {
    "30_320_20L_4scales_v1": {"restricted_branches": 3, "beyond_last": 0.2},
    "64_512_16L_3scales_v1": {"vertical_flip": 0.5},
    "64_512_16L_3scales_v1_small": {"vertical_flip": 0.5},
}
"""Where the published sampling of a version is not that of the faces' versions."""


def published(network: Network) -> Policies:
    """Return the published behaviour for `network` (arXiv 1904.10633, section 3.3, and its later releases).

    The published versions differ in their sampling: v1 restricts the branches of small faces by the lower ends of its
    first three branches, v2 by those of its first two, which are the lower ends up to twice the smallest size; what
    else its other versions do differently is in `PUBLISHED_SAMPLING`.

    A cell in exactly one box of the branch's range and in a gray box too is ignored by the score alone: its box is
    taught, with the gradient (prediction − target) / (4 h w) of any other. On packed WIDER FACE these are 0.4 % of the
    cells with a box in v1 and 0.2 % in v2 (60 batches of 16 crops).
    """
    lows = [branch.object_range[0] for branch in network.branches]
    sampling = SamplingPolicy(
        target="branch",
        restricted_branches=sum(low <= 2 * lows[0] for low in lows),
        beyond_last=0.1,
        redraws=0,
        max_upscale=None,
        placement="centre",
        random_window=0.0,
        mosaic=0.0,
        mosaic_fill=0.0,
        min_visible=0.0,
    )
    labels = LabelPolicy(
        positive_region=1.0,
        nearest_cell=False,
        overlap="ignore",
        ignored_boxes="background",
        positive_over_ignored=False,
        smallest=0.0,
        last_range_factor=1.0,
        ignore_larger=False,
        ignored_keep_box=True,
    )
    return Policies(replace(sampling, **PUBLISHED_SAMPLING.get(network.name, {})), JitterPolicy(), labels)


def ours(network: Network) -> Policies:
    """Return this project's own recipe for `network`.

    Sizes go from just under its range to 1.3 times its upper end or its training size, whichever is smaller: a face
    that is cut by the crop's border still teaches the deepest branch, as long as `min_visible` of it shows.
    """
    low, high = network.object_range
    smallest = float(math.floor(round(0.9 * low, 6)))
    sampling = SamplingPolicy(side_range=(smallest, 1.3125 * min(high, network.train_input)))
    return Policies(sampling, JitterPolicy(), LabelPolicy(smallest=smallest))


PRESETS = {"published": published, "ours": ours}


def preset(name: str, network: Network) -> Policies:
    """Return a preset by its name; raises `UsageError` for an unknown one."""
    if name not in PRESETS:
        raise UsageError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name](network)


def _check(
    policy: object, shares: Sequence[str] = (), ranges: Sequence[str] = (), least: Mapping[str, int] | None = None
) -> None:
    """Refuse values that cannot be, and words that the field's type does not list: policies also come from files."""

    def require(holds: bool, name: str, rule: str) -> None:
        if not holds:
            raise UsageError(f"{type(policy).__name__}.{name} must {rule}, not {values[name]!r}")

    values = vars(policy)
    for name in shares:
        require(0 <= values[name] <= 1, name, "lie in 0–1")
    for name in ranges:
        require(0 < values[name][0] <= values[name][1] < math.inf, name, "be two growing numbers above 0")
    for name, low in (least or {}).items():
        require(low <= values[name] < math.inf, name, f"be at least {low}")
    for name, kind in get_type_hints(type(policy)).items():
        if get_origin(kind) is Literal:
            require(values[name] in get_args(kind), name, f"be one of {', '.join(get_args(kind))}")
