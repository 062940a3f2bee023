"""What an evaluation on WIDER FACE says: average precision, the table per event, recall by face size and by branch."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accuracy_evaluation.plots import plot_curves
from accuracy_evaluation.widerface.ground_truth import SUBSETS, ImageTruth
from accuracy_evaluation.widerface.protocol import Curve, Matches, curve, match

SIZES = tuple(
    itertools.pairwise((0.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 192.0, 256.0, 512.0, np.inf))
)
"""The classes of face sizes: longer side in pixels, from the first number up to the second."""

WORKING_PRECISION = 0.9
"""Recall is also given at the lowest score that keeps this precision, so that detectors with different score scales can
be compared."""

HARD = SUBSETS.index("hard")


@dataclass(frozen=True)
class RecallRow:
    """Recall of the hard subset's faces with a longer side of `low` up to `high` pixels; nan where there is none.

    `recall` is the share that all detections find, `working_recall` that at the score that keeps `WORKING_PRECISION`.
    """

    low: float
    high: float
    faces: int
    recall: float
    working_recall: float


@dataclass(frozen=True)
class Report:
    """All figures of one evaluation.

    Attributes:
        images, images_total: how many images were evaluated, and how many the official set has.
        matches: the matching below everything.
        curves: one per subset.
        events: per event, in official order, its number of images and one curve per subset.
        working_score: lowest score at which precision on the hard subset is `WORKING_PRECISION`; nan where none is.
        sizes: recall by face size.
    """

    images: int
    images_total: int
    matches: Matches
    curves: tuple[Curve, ...]
    events: dict[str, tuple[int, tuple[Curve, ...]]]
    working_score: float
    sizes: tuple[RecallRow, ...]

    @property
    def scope(self) -> str:
        """One sentence on which images the figures are about."""
        if self.images == self.images_total:
            return f"WIDER FACE val, all {self.images_total:,} images"
        part = f"only the {self.images:,} images present of {self.images_total:,}"
        return f"WIDER FACE val, {part}: not comparable with figures on the whole set"


def build_report(images: Sequence[ImageTruth], results: Sequence[NDArray[np.float64]], images_total: int) -> Report:
    """Evaluate rows `(N, 5)` float64 `x, y, width, height, score`, best first, of each image, event by event.

    `images_total`, the number of images of the whole set, says whether this is all of it.
    """
    matches = match(images, results)
    events, start = {}, 0
    for event, group in itertools.groupby(image.event for image in images):
        count = len(list(group))
        part = matches.of_images(start, start + count)
        events[event] = (count, tuple(curve(part, subset) for subset in range(len(SUBSETS))))
        start += count
    score, curves = working_score(matches), tuple(curve(matches, subset) for subset in range(len(SUBSETS)))
    sizes = tuple(recall_by_size(matches, SIZES, score))
    return Report(len(images), images_total, matches, curves, events, score, sizes)


def working_score(matches: Matches) -> float:
    """Return the lowest score that keeps `WORKING_PRECISION` on the hard subset, as given by the detector; or nan."""
    counted = matches.counted(HARD)
    order = np.argsort(-matches.raw_scores[counted], kind="stable")
    scores, hits = matches.raw_scores[counted][order], matches.hits(HARD)[counted][order]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    whole_tie = np.append(scores[1:] != scores[:-1], True)[: len(scores)]  # a threshold takes all equal scores
    good = np.flatnonzero((precision >= WORKING_PRECISION) & whole_tie)
    return float(scores[good[-1]]) if good.size else float("nan")


def recall_by_size(matches: Matches, classes: Sequence[tuple[float, float]], score: float) -> list[RecallRow]:
    """Return the recall of the hard subset's faces per class of longer side (from, up to in px), and at `score`."""
    evaluated = matches.evaluated[HARD]
    found, working = (np.zeros(len(evaluated), bool) for _ in range(2))
    hits = matches.hits(HARD)
    found[matches.faces[hits]] = True
    working[matches.faces[hits & (matches.raw_scores >= score)]] = True
    rows = []
    for low, high in classes:
        inside = evaluated & (matches.sides >= low) & (matches.sides < high)
        faces = int(np.count_nonzero(inside))
        at_work = _share(working & inside, faces) if np.isfinite(score) else float("nan")
        rows.append(RecallRow(float(low), float(high), faces, _share(found & inside, faces), at_work))
    return rows


def _share(chosen: NDArray[np.bool_], total: int) -> float:
    """Return how large a part of `total` is chosen; nan of nothing."""
    return float(np.count_nonzero(chosen)) / total if total else float("nan")


def to_json(report: Report) -> dict[str, Any]:
    """Return the report as plain JSON values; a figure that does not exist (no such faces) is null.

    Keys: `easy`, `medium`, `hard` (average precision), `images`, `images_total`, `scope`, `faces`, `detections`,
    `events`, `working_point`, `recall_by_size`.
    """
    return {
        **_precisions(report.curves),
        **{"images": report.images, "images_total": report.images_total, "scope": report.scope},
        "faces": {subset: found.faces for subset, found in zip(SUBSETS, report.curves, strict=True)},
        "detections": len(report.matches.scores),
        "events": {event: {**_precisions(curves), "images": count} for event, (count, curves) in report.events.items()},
        "working_point": {"precision": WORKING_PRECISION, "score": number(report.working_score)},
        "recall_by_size": rows_to_json(report.sizes),
    }


def rows_to_json(rows: Sequence[RecallRow]) -> list[dict[str, Any]]:
    """Return recall rows as JSON values."""
    return [{name: number(value) for name, value in asdict(row).items()} for row in rows]


def plot(report: Report, title: str, path: str | os.PathLike[str]) -> None:
    """Draw the precision-recall curves of the three subsets into one picture, PNG, SVG or PDF by its ending."""
    curves = {}
    for subset, found in zip(SUBSETS, report.curves, strict=True):
        if np.isfinite(found.average_precision):
            reached = np.flatnonzero(found.recall > 0)
            label = f"{subset}: AP {found.average_precision:.3f}, {found.faces:,} faces"
            curves[label] = (found.recall[reached], found.precision[reached])
    plot_curves(curves, f"{title}\n{report.scope}", ("recall", "precision"), (1, 1.02), path)


def number(value: float) -> float | None:
    """Return a figure for JSON, which has neither nan nor infinity: those become null."""
    return value if np.isfinite(value) else None


def _precisions(curves: Sequence[Curve]) -> dict[str, float | None]:
    """Return average precision by subset."""
    return {subset: number(found.average_precision) for subset, found in zip(SUBSETS, curves, strict=True)}


def to_text(report: Report, events: bool = False) -> str:
    """Return the report for people; `events` adds the table per event."""
    lines = [report.scope, f"{'':28}{'easy':>9}{'medium':>9}{'hard':>9}"]
    lines.append(_curve_line("average precision", report.curves))
    if events:
        lines += [_curve_line(f"  {event} ({count})", curves) for event, (count, curves) in report.events.items()]
    lines += [f"{'faces':28}" + "".join(f"{found.faces:9,}" for found in report.curves), ""]
    lines += ["Recall of the hard subset's faces by longer side"]
    return "\n".join(lines + recall_lines(report.sizes, report.working_score))


def recall_lines(rows: Sequence[RecallRow], score: float) -> list[str]:
    """Return a table of recall rows as lines of text."""
    working = f"precision {WORKING_PRECISION:.0%}" + (f" (score {score:.3f})" if np.isfinite(score) else ": never")
    lines = [f"{'pixels':>12}{'faces':>9}{'all':>9}   at {working}"]
    for row in rows:
        name = f"{row.low:g}–{row.high:g}" if np.isfinite(row.high) else f"{row.low:g} and up"
        lines.append(f"{name:>12}{row.faces:9,}{_figure(row.recall)}   {_figure(row.working_recall)}")
    return lines


def _curve_line(title: str, curves: Sequence[Curve]) -> str:
    return f"{title:28}" + "".join(_figure(found.average_precision) for found in curves)


def _figure(value: float) -> str:
    return f"{value:9.4f}" if np.isfinite(value) else f"{'–':>9}"
