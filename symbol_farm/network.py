"""Any declared network as an MXNet symbol: backbone, branch heads, outputs.

LFFD (arXiv 1904.10633, section 3.2). Parameter names are those of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lffd import batch_norm as normalisation
from lffd.engines.mxnet_engine import import_mxnet
from lffd.receptive_field import Layer, Network

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
            training; `lffd.batch_norm.fold` turns its parameters into those of the plain graph.
    """
    mx = import_mxnet()
    features = _backbone(network, batch_norm)
    outputs = []
    for index, branch in enumerate(network.branches):
        score, box = _head(network, branch.layer, features[branch.layer], batch_norm)
        if deploy:
            probability = mx.sym.softmax(score, axis=1, name=f"probability_{index}")
            score = mx.sym.slice_axis(probability, axis=1, begin=0, end=1, name=f"score_{index}")
        outputs += [score, box]
    return mx.sym.Group(outputs)


def _convolution(layer: Layer, data: mx.sym.Symbol, batch_norm: bool) -> mx.sym.Symbol:
    """Return the convolution of `layer`, with batch normalisation behind it where asked."""
    mx = import_mxnet()
    square = dict.fromkeys(("kernel", "stride", "pad"), (layer.kernel, layer.kernel))
    square |= {"stride": (layer.stride, layer.stride), "pad": (layer.padding, layer.padding)}
    output = mx.sym.Convolution(data, num_filter=layer.out_channels, name=layer.name, **square)
    if not batch_norm or layer.kind == "output":
        return output
    settings = {"eps": normalisation.EPSILON, "momentum": normalisation.MOMENTUM, "fix_gamma": False}
    return mx.sym.BatchNorm(output, name=f"{layer.name}_bn", **settings)


def _backbone(network: Network, batch_norm: bool) -> dict[str, mx.sym.Symbol]:
    """Return the activated output of every backbone layer, by layer name.

    The second convolution of a pair is added to the sum (or stride-2 convolution) before the last activation.
    """
    mx = import_mxnet()
    data = mx.sym.Variable("data")
    active = (data - PIXEL_CENTER) / PIXEL_CENTER
    shortcut = active
    features = {}
    for layer in network.backbone:
        output = _convolution(layer, active, batch_norm)
        if layer.kind == "residual-second":
            output = output + shortcut
        if layer.kind != "residual-first":
            shortcut = output
        active = mx.sym.Activation(output, act_type="relu", name=f"relu_{layer.name}")
        features[layer.name] = active
    return features


def _head(
    network: Network, parent: str, feature: mx.sym.Symbol, batch_norm: bool
) -> tuple[mx.sym.Symbol, mx.sym.Symbol]:
    """Return the raw score `(B, 2, h, w)` and box code `(B, 4, h, w)` of the branch on layer `parent`."""
    layers = {layer.name: layer for layer in network.layers}

    def hidden(suffix: str, data: mx.sym.Symbol) -> mx.sym.Symbol:
        mx = import_mxnet()
        output = _convolution(layers[f"{parent}_{suffix}"], data, batch_norm)
        return mx.sym.Activation(output, act_type="relu", name=f"relu_{parent}_{suffix}")

    shared = hidden("1", feature)
    outputs: Sequence[mx.sym.Symbol] = [
        _convolution(layers[f"{parent}_3_{task}"], hidden(f"2_{task}", shared), batch_norm)
        for task in ("score", "bbox")
    ]
    return outputs[0], outputs[1]
