"""The training graph: network, losses and statistics, entirely inside one MXNet symbol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lffd.engines.mxnet_engine import import_mxnet
from lffd.graphs.batch_norm import training_graph
from lffd.graphs.branches import CHANNELS
from lffd.graphs.codes import CODES
from lffd.graphs.network import Network
from lffd.training.losses import (
    BOX_ALONE,
    BOX_LOSSES,
    FURTHER_TERMS,
    SCORE_LOSSES,
    SURE,
    TARGET_CHANNELS,
    TEACHER,
    Operators,
    compare_boxes,
    statistic_names,
)
from lffd.training.options import LossOptions

if TYPE_CHECKING:
    import mxnet as mx


def target_name(output: str, branch: int) -> str:
    """Return the training graph's input that holds a branch's target for an output."""
    return f"target_{output}_{branch}"


def training_symbol(network: Network, options: LossOptions, batch_norm: bool, distilled: bool = False) -> mx.sym.Symbol:
    """Return the training graph; `distilled` adds the terms of a teacher.

    Inputs: `image` uint8 `(B, H, W, 3)` BGR; per branch b and output `target_<output>_b`, see
    `lffd.training.engine.TrainingBatch.targets`; `divisor` float32 `(terms, branches)`, see `loss_divisors`.

    Outputs: the scalar loss, which is what gradients are of, and the statistics `(branches, names)` in the order of
    `lffd.training.losses.statistic_names`.
    """
    mx = import_mxnet()
    raw = mx.sym.load_json(training_graph(network, batch_norm).to_json())
    image = mx.sym.transpose(mx.sym.Cast(mx.sym.Variable("image", dtype="uint8"), dtype="float32"), axes=(0, 3, 1, 2))
    maps = raw(data=image)
    said = network.by_branch([maps[index] for index in range(len(raw.list_outputs()))])
    names = (*network.outputs, *(TEACHER if distilled else ()))
    terms = options.terms(names)
    divisor = mx.sym.Variable("divisor", shape=(len(terms), len(said)))
    every = [
        {
            name: mx.sym.Variable(target_name(name, index), dtype="int8" if name == "score" else "float32")
            for name in names
        }
        for index in range(len(said))
    ]
    for targets in every:
        targets["score"] = mx.sym.Cast(targets["score"], dtype="float32")
    mined_together = options.mining == "all" and options.negatives_per_positive > 0
    limit = _common_limit(network, said, every, options) if mined_together else None
    summands, rows = [], []
    for index, (outputs, weight) in enumerate(zip(said, options.weights_for(len(said)), strict=True)):
        targets = every[index]
        columns = branch_statistics(network, index, outputs, targets, options, limit=limit)
        for number, term in enumerate(terms):
            share = mx.sym.slice(divisor, begin=(number, index), end=(number + 1, index + 1)).reshape((1,))
            if term.target == "score" and options.normalizer == "published":
                share = share * mx.sym.maximum(mx.sym.BlockGrad(columns["kept"]), 1)
            total = columns[f"{term.target}_loss"]
            summands.append(mx.sym.broadcast_div(weight * term.weight * total, share))
        row = [columns[name] for name in statistic_names(names)]
        rows.append(mx.sym.BlockGrad(mx.sym.concat(*row, dim=0)))
    loss = mx.sym.make_loss(mx.sym.add_n(*summands), name="loss")
    return mx.sym.Group([loss, mx.sym.stack(*rows, axis=0, name="statistics")])


def branch_statistics(
    network: Network,
    branch: int,
    outputs: Mapping[str, mx.sym.Symbol],
    targets: Mapping[str, mx.sym.Symbol],
    options: LossOptions,
    *,
    limit: mx.sym.Symbol | None = None,
) -> dict[str, mx.sym.Symbol]:
    """Return one branch's statistics by name, `(1,)` each, with gradients through the losses' sums.

    Beside those of `statistic_names` there is `kept`: how many predictions the score loss counts.

    Args:
        network: the declaration.
        branch: which of its branches.
        outputs: raw maps by name.
        targets: by name, all of the outputs' type; those other than `score` are only read where that is 1.
        options: which losses.
        limit: how hard a background cell must be to be kept, where all branches compete.
    """
    mx, count = import_mxnet(), network.predictions[branch]
    ops, loss = _operators(mx), SCORE_LOSSES[options.score]
    target = mx.sym.reshape(targets["score"], shape=(-1,))
    positive, negative = target == 1, target == 0
    boxed = positive + (target == BOX_ALONE)
    z = _logits(outputs["score"], count, network.score_channels[branch])
    predicted, true = (_channels(codes, count, 4) for codes in (outputs["box"], targets["box"]))
    pair = compare_boxes(CODES[network.code], predicted, true, ops)
    nothing = mx.sym.zeros_like(z)
    quality = mx.sym.BlockGrad(mx.sym.where(positive, pair.overlap, nothing))
    kept = negative
    if limit is not None:
        kept = mx.sym.BlockGrad(negative * mx.sym.broadcast_greater_equal(ops.softplus(z), limit))
    elif options.negatives_per_positive > 0:
        kept = _hardest(ops.softplus(z), positive, negative, options)
    claimed = (z > 0) * (target >= 0)
    scores = positive * loss.on_object(z, quality, options, ops) + kept * loss.on_background(z, options, ops)
    columns = {
        "score_loss": scores,
        "box_loss": mx.sym.where(boxed, BOX_LOSSES[options.box](pair, ops), nothing),
        "cells": target >= 0,
        "positives": positive,
        "hits": claimed * positive,
        "claims": claimed,
        "iou": quality,
        "kept": positive + kept,
    }
    further = [name for name in targets if name != "score"]
    channels = {name: _channels(targets[name], count, TARGET_CHANNELS[name]) for name in further}
    shown = {"score": [z], "box": predicted}
    masks = {"objects": positive}
    if "teacher_score" in channels:
        masks["sure"] = channels["teacher_score"][0] > SURE
    for name in channels.keys() & FURTHER_TERMS.keys():
        term = FURTHER_TERMS[name]
        said = shown.get(term.output) or _channels(outputs[term.output], count, CHANNELS[term.output])
        values = term.loss(CODES[network.code], said, channels[name], options, ops)
        columns[f"{name}_loss"] = mx.sym.where(masks[term.where], values, nothing) if term.where in masks else values
    return {name: mx.sym.sum(values) for name, values in columns.items()}


def _operators(mx: Any) -> Operators:
    sym = mx.sym
    return Operators(
        sym.maximum,
        sym.minimum,
        sym.relu,
        sym.abs,
        sym.where,
        sym.exp,
        sym.sigmoid,
        lambda x: sym.Activation(x, act_type="softrelu"),
        sym.log1p,
    )


def _logits(maps: mx.sym.Symbol, count: int, channels: int) -> mx.sym.Symbol:
    """Return one logit per prediction `(B · A · h · w,)` of raw scores; of two channels each the difference."""
    if channels == count:
        return _channels(maps, count, 1)[0]
    cut = import_mxnet().sym.slice_axis
    halves = [cut(maps, axis=1, begin=at, end=at + count) for at in (0, count)]
    first, second = (_channels(half, count, 1)[0] for half in halves)
    return first - second


def _channels(maps: mx.sym.Symbol, predictions: int, each: int) -> list[mx.sym.Symbol]:
    """Return the channels of every prediction of `(B, predictions · each, h, w)`, `(B · predictions · h · w,)` each."""
    mx = import_mxnet()
    if predictions == 1:
        cut = [mx.sym.slice_axis(maps, axis=1, begin=i, end=i + 1) for i in range(each)]
    else:
        apart = mx.sym.reshape(maps, shape=(0, -4, predictions, each, 0, 0))
        cut = [mx.sym.slice_axis(apart, axis=2, begin=i, end=i + 1) for i in range(each)]
    return [mx.sym.reshape(part, shape=(-1,)) for part in cut]


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


def _common_limit(
    network: Network,
    said: Sequence[Mapping[str, mx.sym.Symbol]],
    targets: Sequence[Mapping[str, mx.sym.Symbol]],
    options: LossOptions,
) -> mx.sym.Symbol:
    """Return how hard `(1,)` the last background cell is that mining keeps where all branches compete."""
    mx = import_mxnet()
    hardness, positives, negatives = [], [], []
    for index, (outputs, target) in enumerate(zip(said, targets, strict=True)):
        z = _logits(outputs["score"], network.predictions[index], network.score_channels[index])
        labels = mx.sym.reshape(target["score"], shape=(-1,))
        hard = mx.sym.Activation(z, act_type="softrelu")
        hardness.append(mx.sym.where(labels == 0, hard, -mx.sym.ones_like(hard)))
        positives.append(mx.sym.sum(labels == 1))
        negatives.append(mx.sym.sum(labels == 0))
    found, candidates = mx.sym.add_n(*positives), mx.sym.add_n(*negatives)
    share = mx.sym.ceil(options.negatives_without_positive * candidates)
    count = mx.sym.where(found > 0, mx.sym.ceil(options.negatives_per_positive * found), share)
    together = mx.sym.concat(*hardness, dim=0)
    ranked = mx.sym.take(together, mx.sym.argsort(together, is_ascend=False))  # of sort itself, MXNet makes no gradient
    limit = mx.sym.take(ranked, mx.sym.maximum(count - 1, 0), mode="clip")
    # Softplus is never as large as this: with nothing to keep, nothing is.
    return mx.sym.BlockGrad(mx.sym.where(count > 0, limit, 1e30 * mx.sym.ones_like(limit)))
