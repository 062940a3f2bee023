"""One pass over a pack: what is in a dataset, as numbers and arrays."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data_provider_farm.drawn_faces.pictures import NAME_PREFIX
from lffd.boxes import areas, iou, longer_sides
from lffd.graphs.branches import BranchGeometry
from lffd.points import known
from lffd.records import Record

SUSPICIONS: dict[str, str] = {
    "elongated": "more than four times as long as wide, or the other way round",
    "whole image": "covers more than 95 % of its image",
    "twin": "almost the same as another box of its image (IoU over 0.9)",
}
ELONGATED, WHOLE, TWIN = 4.0, 0.95, 0.9
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
DIGEST_BYTES = 16


class Suspicion(NamedTuple):
    """A box that may be a mistake: where it is, and the key of `SUSPICIONS` that says why."""

    record: int
    name: str
    box: tuple[float, ...]
    kind: str


@dataclass
class Survey:
    """What is in a pack.

    Attributes:
        widths, heights, boxes_per_image: one entry per image; ignored boxes are not counted.
        sides: longer sides in pixels of the boxes that are not ignored.
        ignored_sides: the same of the ignored ones.
        synthetic_images: number of drawn pictures.
        pointed: number of boxes, not ignored, with all five points.
        suspicions: boxes that may be mistakes.
        digests: hash of each image's bytes to the records that have them.
    """

    widths: array[int] = field(default_factory=lambda: array("I"))
    heights: array[int] = field(default_factory=lambda: array("I"))
    boxes_per_image: array[int] = field(default_factory=lambda: array("I"))
    sides: array[float] = field(default_factory=lambda: array("f"))
    ignored_sides: array[float] = field(default_factory=lambda: array("f"))
    backgrounds: int = 0
    synthetic_images: int = 0
    pointed: int = 0
    suspicions: list[Suspicion] = field(default_factory=list)
    digests: dict[bytes, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(self, record: Record) -> None:
        """Take one record into account."""
        index = len(self.widths)
        used = record.boxes[~record.ignored]
        self.widths.append(record.width)
        self.heights.append(record.height)
        self.boxes_per_image.append(len(used))
        self.sides.extend(longer_sides(used).tolist())
        self.ignored_sides.extend(longer_sides(record.boxes[record.ignored]).tolist())
        self.backgrounds += len(record.boxes) == 0
        self.synthetic_images += record.name.startswith(NAME_PREFIX)
        if record.landmarks is not None:
            self.pointed += int(known(record.landmarks[~record.ignored]).sum())
        self.suspicions += find_suspicions(record, index)
        self.digests[hashlib.blake2b(record.image, digest_size=DIGEST_BYTES).digest()].append(index)

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.widths)

    @property
    def duplicates(self) -> list[list[int]]:
        """Groups of records whose images are the same bytes."""
        return [records for records in self.digests.values() if len(records) > 1]


def survey(records: Iterable[Record], name: str | None = None) -> Survey:
    """Return what is in a pack, read once; with a `name` there is a progress bar. Raises DataError for damage."""
    found = Survey()
    for record in tqdm(records, desc=name, unit=" images", disable=None if name else True):
        found.add(record)
    return found


def find_suspicions(record: Record, index: int) -> list[Suspicion]:
    """Return the boxes of one record, ignored ones aside, that may be mistakes."""
    boxes = record.boxes[~record.ignored]
    sizes = boxes[:, 2:] - boxes[:, :2]
    tests = {
        "elongated": sizes.max(axis=1, initial=0) > ELONGATED * np.maximum(sizes.min(axis=1, initial=np.inf), 1e-6),
        "whole image": areas(boxes) > WHOLE * record.width * record.height,
        "twin": (np.triu(iou(boxes, boxes), 1) > TWIN).any(axis=0),
    }
    found = [(kind, box) for kind, test in tests.items() for box in boxes[test].tolist()]
    return [Suspicion(index, record.name, tuple(box), kind) for kind, box in found]


def shared_images(first: Survey, second: Survey) -> list[tuple[int, int]]:
    """Return pairs of records, one of each pack, whose images are the same bytes."""
    return [(mine[0], other) for digest, mine in first.digests.items() for other in second.digests.get(digest, ())]


def branch_of(sides: NDArray[np.float32], ranges: Sequence[tuple[float, float]]) -> NDArray[np.int64]:
    """Return the first branch whose range holds each longer side; -1 below all, -2 above all, -3 in a gap between."""
    outside = np.select([sides < ranges[0][0], sides > ranges[-1][1]], [-1, -2], -3)
    return np.select([(sides >= low) & (sides <= high) for low, high in ranges], list(range(len(ranges))), outside)


def coverage(sides: NDArray[np.float32], ranges: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Return the number of objects per branch (`branches`), and of those that none sees, by reason, and their share."""
    counts = Counter(branch_of(sides, ranges).tolist())
    unseen = {"below": counts[-1], "above": counts[-2], "between": counts[-3]}
    share = sum(unseen.values()) / max(1, len(sides))
    return {"branches": [counts[index] for index in range(len(ranges))], **unseen, "unseen_share": share}


def describe_coverage(ranges: Sequence[tuple[float, float]], counts: Sequence[int], unseen: Mapping[str, int]) -> str:
    """Return as text how many objects each branch sees, and how many none does; `unseen` as from `coverage`."""
    missed = unseen["below"] + unseen["above"] + unseen["between"]
    rows = [(f"{low:g}–{high:g} px", count) for (low, high), count in zip(ranges, counts, strict=True)]
    total = max(1, sum(counts) + missed)
    lines = [
        f"  {label:14s}{count:>9,}  {100 * count / total:5.1f} %" for label, count in [*rows, ("no branch", missed)]
    ]
    reasons = f"too small {unseen['below']:,}, too large {unseen['above']:,}, in a gap {unseen['between']:,}"
    return "\n".join(lines) + f"  ({reasons})"


def summarize(found: Survey, branches: Sequence[BranchGeometry], others: Mapping[str, Survey]) -> dict[str, Any]:
    """Return the survey of a pack as plain JSON values; `others` are those of packs that must not share its images."""
    sides = np.asarray(found.sides, np.float32)
    covered = coverage(sides, [branch.object_range for branch in branches])
    return {
        "images": found.images,
        "boxes": len(found.sides) + len(found.ignored_sides),
        "ignored_boxes": len(found.ignored_sides),
        "backgrounds": found.backgrounds,
        "synthetic_images": found.synthetic_images,
        "boxes_with_points": found.pointed,
        "width": _spread(found.widths),
        "height": _spread(found.heights),
        "objects_per_image": _spread(found.boxes_per_image),
        "longer_side": _spread(found.sides),
        "branches": [
            {"layer": branch.layer, "object_range": list(branch.object_range), "objects": objects}
            for branch, objects in zip(branches, covered["branches"], strict=True)
        ],
        "unseen": {key: covered[key] for key in ("below", "above", "between")} | {"share": covered["unseen_share"]},
        "suspicious": dict(Counter(suspicion.kind for suspicion in found.suspicions)),
        "duplicate_groups": found.duplicates,
        "shared_images": {path: shared_images(found, other) for path, other in others.items()},
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Return smallest, largest, mean and percentiles; nothing for no values."""
    if not len(values):
        return {}
    numbers = np.asarray(values, np.float64)
    named = {f"p{level}": round(float(np.percentile(numbers, level)), 2) for level in PERCENTILES}
    return {"min": float(numbers.min()), **named, "max": float(numbers.max()), "mean": round(float(numbers.mean()), 3)}
