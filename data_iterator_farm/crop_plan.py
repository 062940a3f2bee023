"""Which window of an image becomes a crop: LFFD's sampling over sizes, as pure geometry without any pixel.

LFFD (arXiv 1904.10633, section 3.3): look at one face, decide how large it becomes, scale the image so, and cut the
network's input around it. The branch that will be responsible is what is drawn, so that all branches get examples.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from data_iterator_farm.policies import MAX_SCALE, SamplingPolicy
from data_iterator_farm.rendering import Window
from lffd.boxes import Boxes, longer_sides
from lffd.graphs.network import Network
from lffd.records import Record


class Look(NamedTuple):
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


def choose_look(
    record: Record, network: Network, policy: SamplingPolicy, rng: Generator, wanted: float | None = None
) -> Look:
    """Choose one of the record's faces, and its size in the crop.

    Args:
        record: has at least one box that is not ignored.
        network: whose ranges decide.
        policy: how to choose.
        rng: where chance comes from.
        wanted: for `log-uniform` sizes: the longer side in crop pixels, instead of drawing one.
    """
    faces = np.flatnonzero(~record.ignored)
    limit = MAX_SCALE if policy.max_upscale is None else min(policy.max_upscale, MAX_SCALE)
    if policy.target == "log-uniform" and policy.redraws:
        wanted = _log_uniform(policy, rng) if wanted is None else wanted
        reaching = faces[longer_sides(record.boxes[faces]) * limit >= wanted]
        faces = reaching if reaching.size else faces
    face = _choose_face(record.boxes, faces, network, policy, rng)
    x0, y0, x1, y1 = record.boxes[face].tolist()
    side = max(x1 - x0, y1 - y0)
    if policy.target == "branch":
        wanted, stride = _branch_side(side, network, policy, rng)
    else:
        wanted = _log_uniform(policy, rng) if wanted is None else wanted
        stride = network.branch_geometry[_branch_of(wanted, network)].stride
    return Look(face, min(wanted / side, limit), stride, wanted, reached=wanted <= limit * side)


def _log_uniform(policy: SamplingPolicy, rng: Generator) -> float:
    """Draw a longer side within `side_range`, evenly over the logarithm."""
    low, high = policy.side_range
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _choose_face(
    boxes: Boxes, faces: NDArray[np.intp], network: Network, policy: SamplingPolicy, rng: Generator
) -> int:
    """Return the index of one of the `faces` among `boxes`."""
    if policy.face_choice == "uniform":
        return int(faces[rng.integers(len(faces))])
    ends = [branch.object_range[1] for branch in network.branches[:-1]]
    branches = np.searchsorted(ends, longer_sides(boxes[faces]), side="left")
    branch = rng.choice(np.unique(branches))
    return int(rng.choice(faces[branches == branch]))


def _branch_of(side: float, network: Network) -> int:
    """Return the branch whose range holds a side, or the nearest one."""
    ends = [branch.object_range[1] for branch in network.branches[:-1]]
    return sum(side > end for end in ends)


def _branch_side(side: float, network: Network, policy: SamplingPolicy, rng: Generator) -> tuple[float, int]:
    """Choose a branch that a face of this side may reach, and a side within its range.

    Returns:
        The side in pixels, and the branch's stride.
    """
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


def place_on_face(record: Record, look: Look, size: tuple[int, int], policy: SamplingPolicy, rng: Generator) -> Window:
    """Return a window that shows the face of `look`; `size` is its width and height in crop pixels.

    The face lies in the middle up to a random move, or anywhere; a share of the windows looks elsewhere in the image.
    """
    scaled = (record.width * look.scale, record.height * look.scale)
    if rng.random() < policy.random_window:
        corner = [_anywhere(length, side, rng) for length, side in zip(scaled, size, strict=True)]
    elif policy.placement == "centre":
        reach = policy.centre_offset * look.stride
        middle = _centre(record.boxes, look)
        corner = [m - side / 2 + rng.uniform(-reach, reach) for m, side in zip(middle, size, strict=True)]
    else:
        box = record.boxes[look.face].astype(np.float64) * look.scale
        corner = [rng.uniform(*sorted((box[axis + 2] - size[axis], box[axis]))) for axis in (0, 1)]
        if policy.inside_image:
            corner = [_inside(start, length, side) for start, length, side in zip(corner, scaled, size, strict=True)]
    return Window(look.scale, corner[0], corner[1], *size, mirror=bool(rng.random() < policy.flip))


def place_on_background(record: Record, size: int, policy: SamplingPolicy, rng: Generator) -> Window:
    """Return a random square window of a randomly scaled image; an image that is too small lies in the middle."""
    scale = rng.uniform(*policy.background_scale)
    spare = (record.width * scale - size, record.height * scale - size)
    left, top = (rng.uniform(0, more) if more > 0 else more / 2 for more in spare)
    return Window(scale, left, top, size, size, mirror=bool(rng.random() < policy.flip))


def _centre(boxes: Boxes, look: Look) -> tuple[float, float]:
    """Return the middle of the looked-at face in the scaled image."""
    x0, y0, x1, y1 = boxes[look.face].astype(np.float64) * look.scale
    return (x0 + x1) / 2, (y0 + y1) / 2


def _anywhere(length: float, side: int, rng: Generator) -> float:
    """Return a random start of a window of `side` on an axis of `length`: one within the other."""
    return rng.uniform(min(0.0, length - side), max(0.0, length - side))


def _inside(start: float, length: float, side: int) -> float:
    """Move a window so that it, or else the image, lies wholly within the other."""
    return min(max(start, min(0.0, length - side)), max(0.0, length - side))
