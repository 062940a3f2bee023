"""One training crop (data augmentation of place and size): LFFD's sampling over sizes, and mosaics.

LFFD (arXiv 1904.10633, section 3.3): look at one face, decide how large it becomes, scale the image so, and cut the
network's input around it. The branch that will be responsible is what is drawn, so that all branches get examples.
Which window of an image becomes a crop is decided here, as geometry; `rendering` turns it into pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from data_iterator_farm.decoding import BadRecordError, Image, Scratch
from data_iterator_farm.policies import MAX_SCALE, SamplingPolicy
from data_iterator_farm.rendering import CropWindow, Origin, draw_window
from lffd.boxes import Boxes, areas, as_boxes, clip, longer_sides, shift
from lffd.graphs.network import Network
from lffd.points import Points, forget_outside, join
from lffd.points import shift as shift_points
from lffd.records import Record


class Crop(NamedTuple):
    """A training crop before labels.

    Attributes:
        image: `(S, S, 3)` uint8, BGR.
        boxes: `(N, 4)` float32 xyxy in pixels of the crop. Those of a plain crop may reach beyond it; those of a
            mosaic are clipped to their tiles.
        ignored: `(N,)` bool.
        origins: of its pixels: one, or the four tiles of a mosaic.
        landmarks: `(N, 5, 3)`, see `lffd.points`; those of a mosaic that lie beyond their tile are not known. None
            where no box has points.
    """

    image: Image
    boxes: Boxes
    ignored: NDArray[np.bool_]
    origins: tuple[Origin, ...]
    landmarks: Points | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the records in it: one, or the four of a mosaic."""
        return tuple(origin.name for origin in self.origins)


class Focus(NamedTuple):
    """What a crop is about: one face of an image, and the size it gets.

    Attributes:
        face: index of the face among the record's boxes.
        scale: crop pixels per image pixel.
        stride: of the branch that the size was drawn for, in pixels.
        wanted: the longer side that was drawn, in crop pixels; the limits of enlargement may leave the face smaller.
        reached: whether it gets that large.
    """

    face: int
    scale: float
    stride: int
    wanted: float = 0.0
    reached: bool = True


def check_boxes(record: Record) -> None:
    """Refuse a record whose boxes nothing can be learnt from.

    Raises:
        BadRecordError: names the box: wrong shapes, a coordinate that is no number, or a face that is empty or wholly
            outside the image. Ignored boxes may be empty or outside.
    """
    boxes, ignored = record.boxes, record.ignored
    if boxes.ndim != 2 or boxes.shape[1] != 4 or ignored.shape != (len(boxes),):
        raise BadRecordError(record, f"boxes {boxes.shape} and ignore flags {ignored.shape} must be (N, 4) and (N,)")
    if record.width < 1 or record.height < 1:
        raise BadRecordError(record, f"an image of {record.width}x{record.height} pixels is empty")
    unusable = ~np.isfinite(boxes).all(axis=1)
    unusable |= ~ignored & (areas(clip(boxes, record.width, record.height)) <= 0)
    if unusable.any():
        number = int(np.flatnonzero(unusable)[0])
        fault = f"box {number} of {len(boxes)} is {boxes[number].tolist()}, not a box inside the image of "
        raise BadRecordError(record, f"{fault}{record.width}x{record.height} pixels; correct it, or mark it as ignored")


def sample_crop(
    record: Record,
    size: int,
    network: Network,
    policy: SamplingPolicy,
    rng: Generator,
    *,
    partner: Callable[[Generator], Record] | None = None,
    out: NDArray[np.uint8] | None = None,
    scratch: Scratch | None = None,
) -> Crop:
    """Cut one training crop.

    Args:
        record: the image, such as `check_boxes` accepts; one without a face to learn is treated as background.
        size: side S of the crop in pixels.
        network: whose branches and ranges the sampling follows.
        policy: what is drawn how often.
        rng: where chance comes from.
        partner: draws other records with a face to learn, for the rest of a mosaic and where no face of this one can
            become large enough; without it neither is done.
        out: `(S, S, 3)` uint8 to draw into, instead of new memory.
        scratch: memory to use again.

    Raises:
        BadRecordError: when an image cannot be decoded.
    """
    scratch = scratch or Scratch()
    image = np.empty((size, size, 3), np.uint8) if out is None else out
    if record.ignored.all():
        return _draw(record, place_on_background(record, size, policy, rng), image, policy, scratch)
    focus = choose_focus(record, network, policy, rng)
    for _ in range(policy.redraws if policy.target == "log-uniform" else 0):
        if focus.reached or partner is None:
            break
        record = partner(rng)
        focus = choose_focus(record, network, policy, rng, focus.wanted)
    fill = policy.mosaic_fill * size
    too_small = max(record.width, record.height) * focus.scale < fill
    if partner is None or not (rng.random() < policy.mosaic or too_small):
        return _draw(record, place_on_face(record, focus, (size, size), policy, rng), image, policy, scratch)
    tiles = [(record, focus)]
    for _ in range(3):
        other = partner(rng)
        chosen = choose_focus(other, network, policy, rng)
        # A partner is there to fill its tile, so it does not become smaller than that.
        filling = fill / 2 / max(other.width, other.height)
        tiles.append((other, chosen._replace(scale=max(chosen.scale, filling))))
    return _mosaic([tiles[k] for k in rng.permutation(4)], policy, rng, image, scratch)


def choose_focus(
    record: Record, network: Network, policy: SamplingPolicy, rng: Generator, wanted: float | None = None
) -> Focus:
    """Choose one of the record's faces that are not ignored, and its size in the crop.

    For `log-uniform` sizes, `wanted` is the longer side in crop pixels, instead of drawing one.
    """
    faces = np.flatnonzero(~record.ignored)
    limit = MAX_SCALE if policy.max_upscale is None else min(policy.max_upscale, MAX_SCALE)
    if policy.target == "log-uniform" and policy.redraws:
        wanted = _log_uniform(policy, rng) if wanted is None else wanted
        reaching = faces[longer_sides(record.boxes[faces]) * limit >= wanted]
        faces = reaching if reaching.size else faces
    inner_ends = [branch.object_range[1] for branch in network.branches[:-1]]
    if policy.face_choice == "uniform":
        face = int(faces[rng.integers(len(faces))])
    else:
        branches = np.searchsorted(inner_ends, longer_sides(record.boxes[faces]), side="left")
        branch = rng.choice(np.unique(branches))
        face = int(rng.choice(faces[branches == branch]))
    x0, y0, x1, y1 = record.boxes[face].tolist()
    side = max(x1 - x0, y1 - y0)
    if policy.target == "branch":
        wanted, stride = _branch_side(side, network, policy, rng)
    else:
        wanted = _log_uniform(policy, rng) if wanted is None else wanted
        stride = network.branch_geometry[sum(wanted > end for end in inner_ends)].stride
    return Focus(face, min(wanted / side, limit), stride, wanted, reached=wanted <= limit * side)


def _log_uniform(policy: SamplingPolicy, rng: Generator) -> float:
    """Draw a longer side within `side_range`, evenly over the logarithm."""
    low, high = policy.side_range
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _branch_side(side: float, network: Network, policy: SamplingPolicy, rng: Generator) -> tuple[float, int]:
    """Choose a branch that a face of this side may reach; return a side within its range, and the branch's stride."""
    branches = network.branch_geometry
    lows = [branch.object_range[0] for branch in branches[: policy.restricted_branches]]
    reach = next((k + 1 for k, low in enumerate(lows) if side <= low), len(branches))
    if reach == len(branches) and rng.random() < policy.beyond_last:
        reach += 1
    choice = int(rng.integers(reach))
    if choice == len(branches):
        high = branches[-1].object_range[1]
        return rng.uniform(high, high * policy.beyond_last_factor), branches[-1].stride
    return rng.uniform(*branches[choice].object_range), branches[choice].stride


def place_on_face(
    record: Record, focus: Focus, size: tuple[int, int], policy: SamplingPolicy, rng: Generator
) -> CropWindow:
    """Return a window that shows the face of `focus`; `size` is its width and height in crop pixels.

    The face lies in the middle up to a random move, or anywhere; a share of the windows looks elsewhere in the image.
    """
    # First and last start of a window on each axis: it lies within the image, or the image within it.
    spare = (record.width * focus.scale - size[0], record.height * focus.scale - size[1])
    limits = [(min(0.0, more), max(0.0, more)) for more in spare]
    box = record.boxes[focus.face].astype(np.float64) * focus.scale
    if rng.random() < policy.random_window:
        corner = [rng.uniform(low, high) for low, high in limits]
    elif policy.placement == "centre":
        reach = policy.centre_offset * focus.stride
        corner = [(box[k] + box[k + 2]) / 2 - size[k] / 2 + rng.uniform(-reach, reach) for k in (0, 1)]
    else:
        corner = [rng.uniform(*sorted((box[k + 2] - size[k], box[k]))) for k in (0, 1)]
        if policy.inside_image:
            corner = [min(max(start, low), high) for start, (low, high) in zip(corner, limits, strict=True)]
    return CropWindow(focus.scale, corner[0], corner[1], *size, *_flips(policy, rng))


def place_on_background(record: Record, size: int, policy: SamplingPolicy, rng: Generator) -> CropWindow:
    """Return a random square window of a randomly scaled image; an image that is too small lies in the middle."""
    scale = rng.uniform(*policy.background_scale)
    spare = (record.width * scale - size, record.height * scale - size)
    left, top = (rng.uniform(0, more) if more > 0 else more / 2 for more in spare)
    return CropWindow(scale, left, top, size, size, *_flips(policy, rng))


def _flips(policy: SamplingPolicy, rng: Generator) -> tuple[bool, bool]:
    """Draw whether a crop is mirrored, and whether it is turned upside down, where that happens at all."""
    return bool(rng.random() < policy.flip), policy.vertical_flip > 0 and bool(rng.random() < policy.vertical_flip)


def _draw(record: Record, window: CropWindow, image: Image, policy: SamplingPolicy, scratch: Scratch) -> Crop:
    """Draw a window; keep the boxes that show in it, and ignore those that hardly do."""
    window = draw_window(record, window, image, scratch)
    boxes, ignored = window.boxes(as_boxes(record.boxes)), record.ignored
    shown = ((boxes < (window.width, window.height, np.inf, np.inf)) & (boxes > (-np.inf, -np.inf, 0, 0))).all(axis=1)
    boxes, ignored = boxes[shown], ignored[shown]
    landmarks = None if record.landmarks is None else window.points(record.landmarks[shown])
    if policy.min_visible > 0:
        visible = areas(clip(boxes, window.width, window.height))
        ignored = ignored | (visible < policy.min_visible * areas(boxes))
    return Crop(image, boxes, ignored, (Origin(record.name, window),), landmarks)


def _mosaic(
    tiles: Sequence[tuple[Record, Focus]], policy: SamplingPolicy, rng: Generator, image: Image, scratch: Scratch
) -> Crop:
    """Fill a crop with 2×2 tiles, left to right and top to bottom, each looking at its own face."""
    size = image.shape[0]
    half = size // 2
    boxes, ignored, origins, landmarks = [], [], [], []
    for tile, (record, focus) in enumerate(tiles):
        x, y = (tile % 2) * half, (tile // 2) * half
        width, height = (size - half if x else half), (size - half if y else half)
        # A face larger than its tile would mostly be cut off.
        side, limit = float(longer_sides(record.boxes[focus.face][None])[0]), min(width, height)
        fitting = focus._replace(scale=min(focus.scale, limit / side))
        window = place_on_face(record, fitting, (width, height), policy, rng)
        crop = _draw(record, window, image[y : y + height, x : x + width], policy, scratch)
        boxes.append(shift(clip(crop.boxes, width, height), x, y))
        ignored.append(crop.ignored)
        origins.append(crop.origins[0]._replace(x=x, y=y))
        points = None if crop.landmarks is None else shift_points(forget_outside(crop.landmarks, width, height), x, y)
        landmarks.append((points, len(crop.boxes)))
    return Crop(image, np.concatenate(boxes), np.concatenate(ignored), tuple(origins), join(landmarks))
