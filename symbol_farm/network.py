"""Any declared network as an MXNet symbol, or as its JSON where there is no MXNet: backbone, branch heads, outputs.

LFFD (arXiv 1904.10633, section 3.2). Parameter names are those of the published checkpoints. Both forms come from one
description, written in the operators of `mx.sym`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lffd.engines.mxnet_engine import import_mxnet
from lffd.graphs import batch_norm as normalisation
from lffd.graphs.receptive_field import Layer, Network
from lffd.graphs.symbol_json import Operators

if TYPE_CHECKING:
    import mxnet as mx

PIXEL_CENTER = 127.5
"""The graph maps pixels of 0–255 to -1–1: `(data - 127.5) / 127.5`."""


def build_symbol(network: Network, deploy: bool, batch_norm: bool = False) -> mx.sym.Symbol:
    """Return the graph of `network` on the input `data` `(B, 3, H, W)`, BGR, 0–255.

    Args:
        network: the declaration.
        deploy: the outputs are, per branch in order, the face probability `(B, 1, h, w)` (softmax over the two score
            channels, channel 0) and the box code `(B, 4, h, w)`. Otherwise, what losses attach to: the two raw score
            channels `(B, 2, h, w)`, channel 0 the object, and the box code.
        batch_norm: put batch normalisation after every convolution but the two output ones of each branch. For
            training; `lffd.graphs.batch_norm.fold` turns its parameters into those of the plain graph.
    """
    return _describe(import_mxnet().sym, network, deploy, batch_norm)


def build_json(network: Network, deploy: bool, batch_norm: bool = False) -> str:
    """Return `build_symbol(…).tojson()` without MXNet; unnamed nodes are always numbered from 0."""
    text: str = _describe(Operators(), network, deploy, batch_norm).tojson()
    return text


def _describe(operators: Any, network: Network, deploy: bool, batch_norm: bool) -> Any:
    """Return the network in terms of `operators`: `mx.sym`, or what stands in for it."""
    features = _backbone(operators, network, batch_norm)
    outputs = []
    for index, branch in enumerate(network.branches):
        score, box = _head(operators, network, branch.layer, features[branch.layer], batch_norm)
        if deploy:
            probability = operators.softmax(score, axis=1, name=f"probability_{index}")
            score = operators.slice_axis(probability, axis=1, begin=0, end=1, name=f"score_{index}")
        outputs += [score, box]
    return operators.Group(outputs)


def _convolution(operators: Any, layer: Layer, data: Any, batch_norm: bool) -> Any:
    """Return the convolution of `layer`, with batch normalisation behind it where asked."""
    square = dict.fromkeys(("kernel", "stride", "pad"), (layer.kernel, layer.kernel))
    square |= {"stride": (layer.stride, layer.stride), "pad": (layer.padding, layer.padding)}
    output = operators.Convolution(data, num_filter=layer.out_channels, name=layer.name, **square)
    if not batch_norm or layer.kind == "output":
        return output
    settings = {"eps": normalisation.EPSILON, "momentum": normalisation.MOMENTUM, "fix_gamma": False}
    return operators.BatchNorm(output, name=f"{layer.name}_bn", **settings)


def _backbone(operators: Any, network: Network, batch_norm: bool) -> dict[str, Any]:
    """Return the activated output of every backbone layer, by layer name.

    The second convolution of a pair is added to the sum (or stride-2 convolution) before the last activation.
    """
    data = operators.Variable("data")
    active = (data - PIXEL_CENTER) / PIXEL_CENTER
    shortcut = active
    features = {}
    for layer in network.backbone:
        output = _convolution(operators, layer, active, batch_norm)
        if layer.kind == "residual-second":
            output = output + shortcut
        if layer.kind != "residual-first":
            shortcut = output
        active = operators.Activation(output, act_type="relu", name=f"relu_{layer.name}")
        features[layer.name] = active
    return features


def _head(operators: Any, network: Network, parent: str, feature: Any, batch_norm: bool) -> tuple[Any, Any]:
    """Return the raw score `(B, 2, h, w)` and box code `(B, 4, h, w)` of the branch on layer `parent`."""
    layers = {layer.name: layer for layer in network.layers}

    def hidden(suffix: str, data: Any) -> Any:
        output = _convolution(operators, layers[f"{parent}_{suffix}"], data, batch_norm)
        return operators.Activation(output, act_type="relu", name=f"relu_{parent}_{suffix}")

    shared = hidden("1", feature)
    score, box = (
        _convolution(operators, layers[f"{parent}_3_{task}"], hidden(f"2_{task}", shared), batch_norm)
        for task in ("score", "bbox")
    )
    return score, box
