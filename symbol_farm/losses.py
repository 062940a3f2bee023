"""Losses as symbols: what each branch is taught, entirely inside the graph.

LFFD (arXiv 1904.10633, section 3.3) trains scores by cross-entropy with hard-negative mining and box codes by squared
error. Those are options here; the defaults are the quality focal loss (arXiv 2006.04388) and the distance IoU loss
(arXiv 1911.08287). Every loss works on one logit per cell, z = object channel − background channel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lffd.engines.mxnet_engine import import_mxnet
from lffd.graphs.receptive_field import Network
from lffd.training.engine import STATISTICS
from lffd.training.options import LossOptions
from symbol_farm.network import build_symbol

if TYPE_CHECKING:
    import mxnet as mx

TINY = 1e-7
"""Keeps divisions by empty boxes finite, in units of the box code."""


def training_symbol(network: Network, options: LossOptions, batch_norm: bool) -> mx.sym.Symbol:
    """Return the training graph.

    Inputs: `image` uint8 `(B, H, W, 3)` BGR; per branch b `class_b` int8 `(B, h, w)` (1 object, 0 background,
    −1 ignored) and `box_b` float32 `(B, 4, h, w)`; `divisor` float32 `(branches,)`, see `loss_divisors`.

    Outputs: the scalar loss, which is what gradients are of, and the statistics `(branches, len(STATISTICS))`.
    """
    mx = import_mxnet()
    raw = build_symbol(network, deploy=False, batch_norm=batch_norm)
    image = mx.sym.transpose(mx.sym.Cast(mx.sym.Variable("image", dtype="uint8"), dtype="float32"), axes=(0, 3, 1, 2))
    outputs = raw(data=image)
    divisor = mx.sym.Variable("divisor", shape=(len(network.branches),))
    terms, rows = [], []
    for index, weight in enumerate(options.weights_for(len(network.branches))):
        target = mx.sym.Cast(mx.sym.Variable(f"class_{index}", dtype="int8"), dtype="float32")
        score_sum, box_sum, row = branch_losses(
            outputs[2 * index], outputs[2 * index + 1], target, mx.sym.Variable(f"box_{index}"), options
        )
        total = options.score_weight * score_sum + options.box_weight * box_sum
        share = mx.sym.slice_axis(divisor, axis=0, begin=index, end=index + 1)
        terms.append(mx.sym.broadcast_div(weight * total, share))
        rows.append(mx.sym.BlockGrad(row))
    loss = mx.sym.make_loss(mx.sym.add_n(*terms), name="loss")
    return mx.sym.Group([loss, mx.sym.stack(*rows, axis=0, name="statistics")])


def branch_losses(
    score: mx.sym.Symbol, box: mx.sym.Symbol, target: mx.sym.Symbol, code: mx.sym.Symbol, options: LossOptions
) -> tuple[mx.sym.Symbol, mx.sym.Symbol, mx.sym.Symbol]:
    """Return one branch's summed score loss `(1,)`, summed box loss `(1,)` and statistics `(len(STATISTICS),)`.

    Args:
        score: raw scores `(B, 2, h, w)`, channel 0 the object.
        box: predicted box code `(B, 4, h, w)`.
        target: float32 `(B, h, w)` of 1, 0, −1.
        code: true box code `(B, 4, h, w)`; only read where the target is 1.
        options: which losses.
    """
    mx = import_mxnet()
    flat = (-1,)
    target = mx.sym.reshape(target, shape=flat)
    z = _channel(score, 0) - _channel(score, 1)
    positive, negative = target == 1, target == 0
    predicted, true = ([_channel(codes, i) for i in range(4)] for codes in (box, code))
    overlap, distance = _overlap(predicted, true)
    quality = mx.sym.BlockGrad(mx.sym.where(positive, overlap, mx.sym.zeros_like(overlap)))
    score_sum = _score_loss(z, positive, negative, quality, options)
    box_sum = mx.sym.sum(
        mx.sym.where(positive, _box_loss(predicted, true, overlap, distance, options), mx.sym.zeros_like(z))
    )
    claimed = (z > 0) * (target >= 0)
    columns = {
        "score_loss": score_sum,
        "box_loss": box_sum,
        "cells": mx.sym.sum(target >= 0),
        "positives": mx.sym.sum(positive),
        "hits": mx.sym.sum(claimed * positive),
        "claims": mx.sym.sum(claimed),
        "iou": mx.sym.sum(quality),
    }
    row = mx.sym.concat(*[columns[name] for name in STATISTICS], dim=0)
    return score_sum, box_sum, row


def _channel(maps: mx.sym.Symbol, index: int) -> mx.sym.Symbol:
    """Return one channel of `(B, C, h, w)` as `(B·h·w,)`."""
    mx = import_mxnet()
    return mx.sym.reshape(mx.sym.slice_axis(maps, axis=1, begin=index, end=index + 1), shape=(-1,))


def _score_loss(
    z: mx.sym.Symbol, positive: mx.sym.Symbol, negative: mx.sym.Symbol, quality: mx.sym.Symbol, options: LossOptions
) -> mx.sym.Symbol:
    """Return the summed score loss; all arguments are `(cells,)`."""
    mx = import_mxnet()
    on_object, on_background = mx.sym.Activation(-z, act_type="softrelu"), mx.sym.Activation(z, act_type="softrelu")
    probability = mx.sym.sigmoid(z)
    if options.negatives_per_positive > 0:
        negative = _hardest(on_background, positive, negative, options)
    if options.score == "focal":
        on_object = options.focal_alpha * (1 - probability) ** options.focal_gamma * on_object
        on_background = (1 - options.focal_alpha) * probability**options.focal_gamma * on_background
    elif options.score == "quality-focal":
        # Cross-entropy against the soft target q is softplus(z) - q z.
        on_object = mx.sym.abs(quality - probability) ** options.focal_gamma * (on_background - quality * z)
        on_background = probability**options.focal_gamma * on_background
    return mx.sym.sum(positive * on_object + negative * on_background)


def _hardest(
    hardness: mx.sym.Symbol, positive: mx.sym.Symbol, negative: mx.sym.Symbol, options: LossOptions
) -> mx.sym.Symbol:
    """Return the background cells to keep: the hardest few per positive over the whole batch of the branch.

    Only background cells compete: positives and ignored cells rank last, so they use up nothing of the budget.
    """
    mx = import_mxnet()
    rank = mx.sym.argsort(
        mx.sym.argsort(mx.sym.where(negative, hardness, -mx.sym.ones_like(hardness)), is_ascend=False)
    )
    found, candidates = mx.sym.sum(positive), mx.sym.sum(negative)
    without = mx.sym.ceil(options.negatives_without_positive * candidates)
    budget = mx.sym.where(found > 0, mx.sym.ceil(options.negatives_per_positive * found), without)
    return mx.sym.BlockGrad(negative * mx.sym.broadcast_lesser(rank, budget))


def _overlap(predicted: list[mx.sym.Symbol], true: list[mx.sym.Symbol]) -> tuple[mx.sym.Symbol, mx.sym.Symbol]:
    """Return IoU and normalised squared centre distance (the DIoU penalty) of coded boxes, `(cells,)` each.

    A code is (centre − corner) / normaliser, so the negated code is the box in units of the normaliser around its
    cell, and both figures are the same there as in pixels.
    """
    mx = import_mxnet()
    (px0, py0, px1, py1), (tx0, ty0, tx1, ty1) = ([-value for value in codes] for codes in (predicted, true))
    positive_part = mx.sym.relu
    width = positive_part(mx.sym.minimum(px1, tx1) - mx.sym.maximum(px0, tx0))
    height = positive_part(mx.sym.minimum(py1, ty1) - mx.sym.maximum(py0, ty0))
    shared = width * height
    area = positive_part(px1 - px0) * positive_part(py1 - py0)
    union = area + (tx1 - tx0) * (ty1 - ty0) - shared
    hull_width = mx.sym.maximum(px1, tx1) - mx.sym.minimum(px0, tx0)
    hull_height = mx.sym.maximum(py1, ty1) - mx.sym.minimum(py0, ty0)
    offset_x, offset_y = px0 + px1 - tx0 - tx1, py0 + py1 - ty0 - ty1
    diagonal = hull_width * hull_width + hull_height * hull_height
    distance = 0.25 * (offset_x * offset_x + offset_y * offset_y) / (diagonal + TINY)
    return shared / (union + TINY), distance


def _box_loss(
    predicted: list[mx.sym.Symbol],
    true: list[mx.sym.Symbol],
    overlap: mx.sym.Symbol,
    distance: mx.sym.Symbol,
    options: LossOptions,
) -> mx.sym.Symbol:
    """Return the box loss of every cell, `(cells,)`; only positive cells count."""
    mx = import_mxnet()
    if options.box == "iou":
        return 1 - overlap
    if options.box == "diou":
        return 1 - overlap + distance
    errors: list[Any] = [p - t for p, t in zip(predicted, true, strict=True)]
    if options.box == "smooth-l1":
        return mx.sym.add_n(*[mx.sym.smooth_l1(error, scalar=1.0) for error in errors])
    return mx.sym.add_n(*[0.5 * error * error for error in errors])
