"""RetinaFace on ResNet-50, in the form that MXNet's implementation has: normalisation in front, wider context modules.

Its anchors' centres count whole pixels, 7.5 + stride × cell at every level; here an image begins at 0, so they lie at
8 + stride × cell. The larger anchor of a cell comes first, and box codes carry no variances.
"""

from __future__ import annotations

from functools import partial

from lffd.graphs.branches import Branch, square_grid
from lffd.graphs.layers import Layers
from symbol_farm.feature_pyramid import feature_pyramid
from symbol_farm.resnet import preactivated_resnet
from symbol_farm.retinaface import with_heads
from symbol_farm.ssh import context_module
from symbol_farm.symbols import net_symbol

STRIDES = (8, 16, 32)

BRANCHES = tuple(
    Branch(
        f"face_rpn_cls_score_stride{stride}", limits, ((large, large), (large / 2, large / 2)), square_grid(8, stride)
    )
    for stride, limits, large in zip(STRIDES, ((8, 45), (45, 181), (181, 500)), (32.0, 128.0, 512.0), strict=True)
)

_CONTEXT = ("conv1", "context_conv1", "context_conv2", "context_conv3_1", "context_conv3_2")

_net = Layers()
_maps = feature_pyramid(
    _net,
    preactivated_resnet(_net, _net.image(center=0, scale=1.0), (3, 4, 6, 3)),
    256,
    laterals=("ssh_m1_red_conv", "ssh_c2_lateral", "ssh_c3_lateral"),
    merges=("ssh_c1_aggr", "ssh_c2_aggr"),
)
_levels = [
    context_module(_net, x, 512, [f"ssh_m{number}_det_{part}" for part in _CONTEXT])
    for number, x in enumerate(_maps, start=1)
]
_HEADS = ("face_rpn_bbox_pred_stride{}", "face_rpn_cls_score_stride{}", "face_rpn_landmark_pred_stride{}")
NETWORK = with_heads(
    "retinaface_r50_mxnet",
    _net,
    _levels,
    BRANCHES,
    train_input=640,
    heads=_HEADS,
    places=STRIDES,
    code="center-size-plain",
)

get_net_symbol = partial(net_symbol, NETWORK)
