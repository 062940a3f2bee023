"""The losses of `symbol_farm.losses` in PyTorch: the same options, the same numbers.

Labels come as `Targets`: the class of every cell, but box codes of the positive cells only, because no loss reads
others. That saves most of the copy to the device and of the arithmetic there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lffd.training.engine import STATISTICS, TrainingBatch
from lffd.training.options import LossOptions

TINY = 1e-7
"""Keeps divisions by empty boxes finite, in units of the box code."""


@dataclass(frozen=True)
class Labels:
    """Labels of one batch on the host, the branches one after another.

    Attributes:
        classes: int8 `(cells,)`: 1 object, 0 background, −1 ignored.
        positions: int64 `(positives,)`: of the object cells, counted within their branch.
        codes: float32 `(positives, 4)`: their box codes.
        cells, positives: number of each branch.
    """

    classes: NDArray[np.int8]
    positions: NDArray[np.int64]
    codes: NDArray[np.float32]
    cells: tuple[int, ...]
    positives: tuple[int, ...]


@dataclass(frozen=True)
class Targets:
    """`Labels` with their arrays on the device."""

    classes: Tensor
    positions: Tensor
    codes: Tensor
    cells: tuple[int, ...]
    positives: tuple[int, ...]


def collect_labels(batch: TrainingBatch) -> Labels:
    """Return the labels of a batch in the form that the losses read."""
    positions = [np.flatnonzero(classes == 1) for classes in batch.classes]
    codes = []
    for boxes, found in zip(batch.boxes, positions, strict=True):
        image, cell = np.divmod(found, boxes.shape[2] * boxes.shape[3])
        codes.append(boxes.reshape(boxes.shape[0], 4, -1)[image, :, cell])
    return Labels(
        np.concatenate([classes.reshape(-1) for classes in batch.classes]),
        np.concatenate(positions),
        np.concatenate(codes),
        tuple(classes.size for classes in batch.classes),
        tuple(found.size for found in positions),
    )


def training_loss(
    outputs: Sequence[Tensor], targets: Targets, divisor: Tensor, options: LossOptions
) -> tuple[Tensor, Tensor]:
    """Return the scalar loss and the statistics `(branches, len(STATISTICS))`, float32; see `STATISTICS`.

    Args:
        outputs: per branch raw scores `(B, 2, h, w)`, channel 0 the object, and box code `(B, 4, h, w)`.
        targets: what to learn.
        divisor: float32 `(branches,)`, see `loss_divisors`.
        options: which losses.
    """
    logits = [_cells(score)[:, 0] - _cells(score)[:, 1] for score in outputs[::2]]
    codes = [_cells(box) for box in outputs[1::2]]
    places = targets.positions.split(targets.positives)
    z = torch.cat(logits)
    z_object = torch.cat([values.index_select(0, place) for values, place in zip(logits, places, strict=True)])
    predicted = torch.cat([values.index_select(0, place) for values, place in zip(codes, places, strict=True)])
    overlap, distance = _overlap(predicted, targets.codes)
    quality = overlap.detach()
    on_object, on_background = _score_losses(z_object, z, quality, targets, options)
    box = _box_loss(predicted, targets.codes, overlap, distance, options)
    known = (targets.classes >= 0).float()
    columns = {
        "score_loss": _branch_sums(on_object, targets.positives) + _branch_sums(on_background, targets.cells),
        "box_loss": _branch_sums(box, targets.positives),
        "cells": _branch_sums(known, targets.cells),
        "positives": torch.tensor(targets.positives, dtype=torch.float32).to(z.device, non_blocking=True),
        "hits": _branch_sums((z_object > 0).float(), targets.positives),
        "claims": _branch_sums((z > 0) * known, targets.cells),
        "iou": _branch_sums(quality, targets.positives),
    }
    weights = torch.tensor(options.weights_for(len(logits))).to(z.device, non_blocking=True)
    totals = options.score_weight * columns["score_loss"] + options.box_weight * columns["box_loss"]
    loss = (weights * totals / divisor).sum()
    return loss, torch.stack([columns[name] for name in STATISTICS], dim=1).detach()


def _cells(maps: Tensor) -> Tensor:
    """Return `(B, C, h, w)` as float32 `(B·h·w, C)`, which is free for channels-last maps."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1]).float()


def _branch_sums(values: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Return the sum over each branch, `(branches,)`."""
    return torch.stack([part.sum() for part in values.split(sizes)])


def _score_losses(
    z_object: Tensor, z: Tensor, quality: Tensor, targets: Targets, options: LossOptions
) -> tuple[Tensor, Tensor]:
    """Return the loss of every object cell `(positives,)`, and of every cell `(cells,)`, 0 where not background."""
    on_object, on_background = functional.softplus(-z_object), functional.softplus(z)
    negative = (targets.classes == 0).float()
    if options.negatives_per_positive > 0:
        negative = _hardest(on_background.detach(), negative, targets, options)
    if options.score != "cross-entropy":
        on_background = torch.sigmoid(z) ** options.focal_gamma * on_background
    if options.score == "focal":
        on_background = (1 - options.focal_alpha) * on_background
        on_object = options.focal_alpha * (1 - torch.sigmoid(z_object)) ** options.focal_gamma * on_object
    elif options.score == "quality-focal":
        # Cross-entropy against the soft target q is softplus(z) - q z.
        modulation = (quality - torch.sigmoid(z_object)).abs() ** options.focal_gamma
        on_object = modulation * (functional.softplus(z_object) - quality * z_object)
    return on_object, negative * on_background


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


def _overlap(predicted: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Return IoU and normalised squared centre distance (the DIoU penalty) of coded boxes, `(positives,)` each.

    A code is (centre − corner) / normaliser, so the negated code is the box in units of the normaliser around its
    cell, and both figures are the same there as in pixels.
    """
    (px0, py0, px1, py1), (tx0, ty0, tx1, ty1) = (-predicted).unbind(1), (-true).unbind(1)
    width = functional.relu(torch.minimum(px1, tx1) - torch.maximum(px0, tx0))
    height = functional.relu(torch.minimum(py1, ty1) - torch.maximum(py0, ty0))
    shared = width * height
    area = functional.relu(px1 - px0) * functional.relu(py1 - py0)
    union = area + (tx1 - tx0) * (ty1 - ty0) - shared
    hull_width = torch.maximum(px1, tx1) - torch.minimum(px0, tx0)
    hull_height = torch.maximum(py1, ty1) - torch.minimum(py0, ty0)
    offset_x, offset_y = px0 + px1 - tx0 - tx1, py0 + py1 - ty0 - ty1
    diagonal = hull_width * hull_width + hull_height * hull_height
    distance = 0.25 * (offset_x * offset_x + offset_y * offset_y) / (diagonal + TINY)
    return shared / (union + TINY), distance


def _box_loss(predicted: Tensor, true: Tensor, overlap: Tensor, distance: Tensor, options: LossOptions) -> Tensor:
    """Return the box loss of every object cell, `(positives,)`."""
    if options.box == "iou":
        return 1 - overlap
    if options.box == "diou":
        return 1 - overlap + distance
    if options.box == "smooth-l1":
        return functional.smooth_l1_loss(predicted, true, reduction="none", beta=1.0).sum(1)
    return 0.5 * (predicted - true).square().sum(1)
