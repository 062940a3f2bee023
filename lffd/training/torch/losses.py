"""The losses of `lffd.training.losses` in PyTorch.

Labels come as `Targets`: the class of every prediction, but boxes and further targets of the positive ones only,
because no loss reads others. That saves most of the copy to the device and of the arithmetic there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    BOX_ALONE,
    BOX_LOSSES,
    FURTHER_TERMS,
    SCORE_LOSSES,
    SURE,
    Operators,
    compare_boxes,
    statistic_names,
)
from lffd.training.options import LossOptions

_OF_TORCH = (torch.maximum, torch.minimum, functional.relu, torch.abs, torch.where, torch.exp, torch.sigmoid)
OPERATORS = Operators(*_OF_TORCH, functional.softplus, torch.log1p)


@dataclass(frozen=True)
class Targets:
    """Labels of one batch, the branches one after another; groups as in `losses.FurtherTerm.where`.

    Attributes:
        classes: int8 `(predictions,)`: 1 object, 0 background, −1 ignored, −2 ignored but taught its box.
        positions: by group int64 `(members,)`: of its predictions, counted within their branch; `objects_of_boxed`: of
            the objects among all that are taught a box.
        counts: by group the number of members in each branch; all predictions are the group `everywhere`.
        values: targets by name, float32 `(members of their group, channels)`.
    """

    classes: Any
    positions: dict[str, Any]
    counts: dict[str, tuple[int, ...]]
    values: dict[str, Any]

    def move(self, to_device: Callable[[NDArray[Any]], Tensor]) -> Targets:
        """Return the same labels with their arrays as tensors on the device."""
        positions, values = ({k: to_device(v) for k, v in part.items()} for part in (self.positions, self.values))
        return Targets(to_device(self.classes), positions, self.counts, values)


def collect_labels(batch: TrainingBatch) -> Targets:
    """Return the labels of a batch, on the host: image, cell, prediction from slow to fast."""
    targets = batch.targets
    classes = [_listed(said["score"]) for said in targets]
    members = {"objects": [np.flatnonzero(values == 1) for values in classes]}
    members["boxed"] = [np.flatnonzero((values == 1) | (values == BOX_ALONE)) for values in classes]
    if "teacher_score" in targets[0]:
        members["sure"] = [np.flatnonzero(_listed(said["teacher_score"]) > SURE) for said in targets]
    values = {}
    for name in targets[0]:
        where = FURTHER_TERMS[name].where if name in FURTHER_TERMS else "boxed"
        if where == "everywhere":
            values[name] = np.concatenate([_listed(said[name]) for said in targets])[:, None]
        elif name != "score":
            chosen = zip(targets, members[where], strict=True)
            values[name] = np.concatenate([_at(said[name], at, said["score"].shape[1]) for said, at in chosen])
    counts = {group: tuple(at.size for at in found) for group, found in members.items()}
    positions = {group: np.concatenate(found) for group, found in members.items()}
    inside = [values[at] == 1 for values, at in zip(classes, members["boxed"], strict=True)]
    positions["objects_of_boxed"] = np.flatnonzero(np.concatenate(inside))
    counts["everywhere"] = tuple(part.size for part in classes)
    return Targets(np.concatenate(classes), positions, counts, values)


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
    counts, found, cells = network.predictions, targets.counts["objects"], targets.counts["everywhere"]
    listed = list(zip(outputs, counts, strict=False))
    every = {name: [_rows(maps[name], count) for maps, count in listed] for name in network.outputs[1:]}
    every["score"] = [_rows(_logits(maps["score"], count), count) for maps, count in listed]

    def said(name: str, group: str) -> list[Tensor]:
        """Return what the network says of a group's predictions, channel by channel."""
        if group == "everywhere":
            return list(torch.cat(every[name]).unbind(1))
        places = targets.positions[group].split(targets.counts[group])
        parts = [rows.index_select(0, place) for rows, place in zip(every[name], places, strict=True)]
        return list(torch.cat(parts).unbind(1))

    (z,), (z_object,), code = said("score", "everywhere"), said("score", "objects"), CODES[network.code]
    pair = compare_boxes(code, said("box", "boxed"), targets.values["box"].unbind(1), OPERATORS)
    quality = pair.overlap.detach().index_select(0, targets.positions["objects_of_boxed"])
    loss, kept = SCORE_LOSSES[options.score], (targets.classes == 0).float()
    if options.negatives_per_positive > 0:
        mine = _hardest if options.mining == "branch" else _hardest_of_all
        kept = mine(functional.softplus(z).detach(), kept, targets, options)
    on_object = loss.on_object(z_object, quality, options, OPERATORS)
    on_background = kept * loss.on_background(z, options, OPERATORS)
    known = (targets.classes >= 0).float()
    columns = {
        "score_loss": _branch_sums(on_object, found) + _branch_sums(on_background, cells),
        "box_loss": _branch_sums(BOX_LOSSES[options.box](pair, OPERATORS), targets.counts["boxed"]),
        "cells": _branch_sums(known, cells),
        "positives": torch.tensor(found, dtype=torch.float32).to(z.device, non_blocking=True),
        "hits": _branch_sums((z_object > 0).float(), found),
        "claims": _branch_sums((z > 0) * known, cells),
        "iou": _branch_sums(quality, found),
    }
    names = ["score", *targets.values]
    for name in targets.values.keys() & FURTHER_TERMS.keys():
        term = FURTHER_TERMS[name]
        values = term.loss(code, said(term.output, term.where), targets.values[name].unbind(1), options, OPERATORS)
        columns[f"{name}_loss"] = _branch_sums(values, targets.counts[term.where])
    if options.normalizer == "published":
        count_kept = columns["positives"] + _branch_sums(kept, cells)
        divisor = torch.cat([divisor[:1] * count_kept.clamp(min=1), divisor[1:]])
    statistics = torch.stack([columns[name] for name in statistic_names(names)], dim=1)
    return _total(columns, names, divisor, options), statistics.detach()


def _total(columns: Mapping[str, Tensor], names: Sequence[str], divisor: Tensor, options: LossOptions) -> Tensor:
    """Return the weighted sum over all terms and branches."""
    weights = torch.tensor(options.weights_for(divisor.shape[1])).to(divisor.device, non_blocking=True)
    totals = [weights * (term.weight * columns[f"{term.target}_loss"]) for term in options.terms(names)]
    return (torch.stack(totals) / divisor).sum()


def _rows(maps: Tensor, predictions: int) -> Tensor:
    """Return `(B, A·C, h, w)` as float32 `(B·h·w·A, C)`, which is free for channels-last maps."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1] // predictions).float()


def _logits(maps: Tensor, predictions: int) -> Tensor:
    """Return one logit per prediction `(B, A, h, w)` of raw scores; of two channels each the difference."""
    maps = maps.float()
    return maps if maps.shape[1] == predictions else maps[:, :predictions] - maps[:, predictions:]


def _branch_sums(values: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Return the sum over each branch, `(branches,)`."""
    return torch.stack([part.sum() for part in values.split(sizes)])


def _hardest(hardness: Tensor, negative: Tensor, targets: Targets, options: LossOptions) -> Tensor:
    """Return 1 for the background cells to keep, the hardest few per positive of each branch; ties by position.

    Only background cells compete: positives and ignored cells rank last, so they use up nothing of the budget.
    """
    kept, cells = [], targets.counts["everywhere"]
    for hard, candidate, found in zip(
        hardness.split(cells), negative.split(cells), targets.counts["objects"], strict=True
    ):
        order = torch.argsort(torch.where(candidate > 0, hard, -1.0), descending=True, stable=True)
        rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        if found:
            budget = torch.tensor(options.negatives_per_positive * found, dtype=torch.float32)
        else:
            budget = options.negatives_without_positive * candidate.sum()
        kept.append(candidate * (rank < budget.ceil()))
    return torch.cat(kept)


def _hardest_of_all(hardness: Tensor, negative: Tensor, targets: Targets, options: LossOptions) -> Tensor:
    """Return 1 for the background cells to keep where all branches compete: those as hard as the last of them."""
    found = sum(targets.counts["objects"])
    share = options.negatives_without_positive * negative.sum()
    asked = torch.tensor(options.negatives_per_positive * found, dtype=torch.float32) if found else share
    ranked = torch.sort(torch.where(negative > 0, hardness, -1.0), descending=True).values
    count = asked.ceil().long().to(ranked.device)
    limit = ranked[(count - 1).clamp(0, len(ranked) - 1)]
    return negative * (hardness >= limit) * (count > 0)
