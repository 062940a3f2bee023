"""The losses of `lffd.training.losses` in PyTorch.

Labels come as `Targets`: the class of every prediction, but boxes and further targets of the positive ones only,
because no loss reads others. That saves most of the copy to the device and of the arithmetic there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lffd.graphs.codes import CODES
from lffd.graphs.network import Network
from lffd.training.engine import TrainingBatch
from lffd.training.losses import (
    BOX_LOSSES,
    POINT_LOSSES,
    SCORE_LOSSES,
    SURE,
    TEACHER,
    Operators,
    compare_boxes,
    distil,
    statistic_names,
)
from lffd.training.options import LossOptions

OPERATORS = Operators(
    torch.maximum,
    torch.minimum,
    functional.relu,
    torch.abs,
    torch.where,
    torch.exp,
    torch.sigmoid,
    functional.softplus,
)


@dataclass(frozen=True)
class Labels:
    """Labels of one batch on the host, the branches one after another.

    Attributes:
        classes: int8 `(predictions,)`: 1 object, 0 background, −1 ignored.
        positions: int64 `(positives,)`: of the objects, counted within their branch.
        objects: their targets by output name, float32 `(positives, channels)`.
        taught: where a teacher has a say, its scores `(predictions,)`, and positions, branch and box codes of the
            predictions at which it is sure of an object.
        cells, positives: number of predictions and of objects of each branch.
    """

    classes: NDArray[np.int8]
    positions: NDArray[np.int64]
    objects: dict[str, NDArray[np.float32]]
    taught: dict[str, NDArray[Any]]
    cells: tuple[int, ...]
    positives: tuple[int, ...]


@dataclass(frozen=True)
class Targets:
    """`Labels` with their arrays on the device."""

    classes: Tensor
    positions: Tensor
    objects: dict[str, Tensor]
    taught: dict[str, Tensor]
    cells: tuple[int, ...]
    positives: tuple[int, ...]


def collect_labels(batch: TrainingBatch) -> Labels:
    """Return the labels of a batch in the form that the losses read: image, cell, prediction from slow to fast."""
    scores = [_listed(targets["score"]) for targets in batch.targets]
    positions = [np.flatnonzero(classes == 1) for classes in scores]
    objects: dict[str, list[NDArray[np.float32]]] = {}
    for targets, found in zip(batch.targets, positions, strict=True):
        for name, values in targets.items():
            if name not in ("score", *TEACHER):
                objects.setdefault(name, []).append(_at(values, found, targets["score"].shape[1]))
    return Labels(
        np.concatenate(scores),
        np.concatenate(positions),
        {name: np.concatenate(parts) for name, parts in objects.items()},
        _taught(batch.targets) if "teacher_score" in batch.targets[0] else {},
        tuple(classes.size for classes in scores),
        tuple(found.size for found in positions),
    )


def _taught(targets: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Return what a teacher says, see `Labels.taught`."""
    scores = [_listed(said["teacher_score"]) for said in targets]
    sure = [np.flatnonzero(score > SURE) for score in scores]
    starts = np.cumsum([0, *(score.size for score in scores[:-1])])
    boxes = [_at(said["teacher_box"], at, said["score"].shape[1]) for said, at in zip(targets, sure, strict=True)]
    return {
        "score": np.concatenate(scores),
        "positions": np.concatenate([at + start for at, start in zip(sure, starts, strict=True)]),
        "branch": np.repeat(np.arange(len(sure)), [at.size for at in sure]),
        "box": np.concatenate(boxes),
    }


def _listed(maps: NDArray[Any]) -> NDArray[Any]:
    """Return `(B, A, h, w)` as `(B·h·w·A,)`, in the order of `_rows`."""
    return np.moveaxis(maps, 1, 3).reshape(-1)


def _at(maps: NDArray[Any], positions: NDArray[np.intp], predictions: int) -> NDArray[Any]:
    """Return the channels `(positions, C)` of `(B, A·C, h, w)` at positions in the order of `_listed`."""
    area = maps.shape[2] * maps.shape[3]
    image, place = np.divmod(positions, area * predictions)
    cell, prediction = np.divmod(place, predictions)
    return maps.reshape(len(maps), predictions, -1, area)[image, prediction, :, cell]


def training_loss(
    network: Network,
    outputs: Sequence[Mapping[str, Tensor]],
    targets: Targets,
    divisor: Tensor,
    options: LossOptions,
) -> tuple[Tensor, Tensor]:
    """Return the scalar loss and the statistics `(branches, names)`, float32; see `losses.statistic_names`.

    Args:
        network: the declaration.
        outputs: raw maps of each branch by name, `(B, channels, h, w)`.
        targets: what to learn.
        divisor: float32 `(terms, branches)`, see `loss_divisors`.
        options: which losses.
    """
    count = network.predictions
    z = torch.cat([_logits(maps["score"], count) for maps in outputs])
    starts = np.cumsum([0, *targets.cells[:-1]])
    offsets = torch.from_numpy(np.repeat(starts, targets.positives)).to(z.device, non_blocking=True)
    z_object = z.index_select(0, targets.positions + offsets)
    places = targets.positions.split(targets.positives)
    rows = {name: [_rows(maps[name], count) for maps in outputs] for name in targets.objects}
    said = {
        name: torch.cat([part.index_select(0, place) for part, place in zip(parts, places, strict=True)])
        for name, parts in rows.items()
    }
    predicted, true = ([*part.unbind(1)] for part in (said["box"], targets.objects["box"]))
    pair = compare_boxes(CODES[network.code], predicted, true, OPERATORS)
    quality = pair.overlap.detach()
    loss, kept = SCORE_LOSSES[options.score], (targets.classes == 0).float()
    if options.negatives_per_positive > 0:
        kept = _hardest(functional.softplus(z).detach(), kept, targets, options)
    on_object = loss.on_object(z_object, quality, options, OPERATORS)
    on_background = kept * loss.on_background(z, options, OPERATORS)
    known = (targets.classes >= 0).float()
    found, cells = targets.positives, targets.cells
    columns = {
        "score_loss": _branch_sums(on_object, found) + _branch_sums(on_background, cells),
        "box_loss": _branch_sums(BOX_LOSSES[options.box](pair, OPERATORS), found),
        "cells": _branch_sums(known, cells),
        "positives": torch.tensor(found, dtype=torch.float32).to(z.device, non_blocking=True),
        "hits": _branch_sums((z_object > 0).float(), found),
        "claims": _branch_sums((z > 0) * known, cells),
        "iou": _branch_sums(quality, found),
    }
    if "landmarks" in said:
        place = targets.objects["landmarks"]
        errors = (said["landmarks"] - place[:, :10]).unbind(1)
        points = POINT_LOSSES[options.landmarks](errors, OPERATORS) * (place[:, 10] > 0)
        columns["landmarks_loss"] = _branch_sums(points, found)
    if targets.taught:
        taught = targets.taught
        predicted, true = ([*p.unbind(1)] for p in (torch.cat(rows["box"])[taught["positions"]], taught["box"]))
        pair = compare_boxes(CODES[network.code], predicted, true, OPERATORS)
        columns["teacher_score_loss"] = _branch_sums(distil(z, taught["score"], options, OPERATORS), cells)
        nothing = torch.zeros(len(outputs), device=z.device)
        columns["teacher_box_loss"] = nothing.index_add(0, taught["branch"], BOX_LOSSES["diou"](pair, OPERATORS))
    names = (*network.outputs, *(TEACHER if targets.taught else ()))
    if options.normalizer == "published":
        count_kept = columns["positives"] + _branch_sums(kept, cells)
        divisor = torch.cat([divisor[:1] * count_kept.clamp(min=1), divisor[1:]])
    weights = torch.tensor(options.weights_for(len(outputs))).to(z.device, non_blocking=True)
    terms = options.terms(names)
    totals = torch.stack([weights * (term.weight * columns[f"{term.target}_loss"]) for term in terms])
    statistics = torch.stack([columns[name] for name in statistic_names(names)], dim=1)
    return (totals / divisor).sum(), statistics.detach()


def _rows(maps: Tensor, predictions: int) -> Tensor:
    """Return `(B, A·C, h, w)` as float32 `(B·h·w·A, C)`, which is free for channels-last maps."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1] // predictions).float()


def _logits(maps: Tensor, predictions: int) -> Tensor:
    """Return the logit of every prediction; of two channels the difference."""
    rows = _rows(maps, predictions)
    return rows[:, 0] if rows.shape[1] == 1 else rows[:, 0] - rows[:, 1]


def _branch_sums(values: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Return the sum over each branch, `(branches,)`."""
    return torch.stack([part.sum() for part in values.split(sizes)])


def _hardest(hardness: Tensor, negative: Tensor, targets: Targets, options: LossOptions) -> Tensor:
    """Return 1 for the background cells to keep, the hardest few per positive of each branch; ties by position.

    Only background cells compete: positives and ignored cells rank last, so they use up nothing of the budget.
    """
    kept = []
    for hard, candidate, found in zip(
        hardness.split(targets.cells), negative.split(targets.cells), targets.positives, strict=True
    ):
        order = torch.argsort(torch.where(candidate > 0, hard, -1.0), descending=True, stable=True)
        rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        if found:
            budget = torch.tensor(options.negatives_per_positive * found, dtype=torch.float32)
        else:
            budget = options.negatives_without_positive * candidate.sum()
        kept.append(candidate * (rank < budget.ceil()))
    return torch.cat(kept)
