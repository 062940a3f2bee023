"""The networks of the LFFD paper: stride-2 convolutions and residual pairs, with a branch on any of the pairs.

LFFD (arXiv 1904.10633, section 3.2). Layers are named as in the published checkpoints: `conv1`, `conv2`, … in the
backbone; `convN_1`, `convN_2_score`, `convN_3_score`, `convN_2_bbox`, `convN_3_bbox` for the branch on `convN`.
"""

from __future__ import annotations

from dataclasses import dataclass

from lffd.errors import GeometryError
from lffd.graphs.branches import Branch
from lffd.graphs.layers import Layers, Map
from lffd.graphs.network import Network, declare

MOST_LAYERS, MOST_CHANNELS = 2000, 65_536
"""Far above any network: a declaration beyond is a slip of the finger."""


@dataclass(frozen=True)
class Stage:
    """One 3×3 stride-2 unpadded convolution, then `pairs` residual pairs of 3×3 stride-1 pad-1 convolutions.

    Attributes:
        channels: of the stride-2 convolution and of the second convolution of each pair.
        pairs: how many residual pairs.
        inner_channels: output channels of the first convolution of each pair; `channels` when None.
    """

    channels: int
    pairs: int
    inner_channels: int | None = None


def lffd_network(
    name: str,
    *,
    stem: tuple[int, ...],
    stages: tuple[Stage, ...],
    branches: tuple[Branch, ...],
    head_channels: int,
    train_input: int,
) -> Network:
    """Return a version.

    Args:
        name: full version name, such as `10_560_25L_8scales_v1`.
        stem: channels of the 3×3 stride-2 unpadded convolutions before the first stage.
        stages: the stages in order.
        branches: shallowest first; each names the second convolution of a residual pair.
        head_channels: width of the hidden 1×1 convolutions of every branch.
        train_input: side in pixels of the square training crop.

    Raises:
        GeometryError: for a declaration that cannot work, with the part that is wrong.
    """
    _check_sizes(name, stem, stages, head_channels)
    net = Layers()
    ends, layers = _backbone(net, stem, stages)
    order = list(ends)
    hung, last = [], -1
    for number, branch in enumerate(branches):
        label = f"{name}: branch {number} ({branch.layer})"
        if branch.layer not in ends:
            if branch.layer not in layers:
                raise GeometryError(f"{label}: there is no such layer; the backbone ends at {layers[-1]}")
            raise GeometryError(f"{label}: not the end of a residual pair; choose one of {', '.join(ends)}")
        if order.index(branch.layer) <= last:
            raise GeometryError(f"{label}: comes after {order[last]}; list branches from shallow to deep")
        last = order.index(branch.layer)
        hung.append((branch, _head(net, ends[branch.layer], branch.layer, head_channels)))
    return declare(name, net, hung, train_input)


def _backbone(net: Layers, stem: tuple[int, ...], stages: tuple[Stage, ...]) -> tuple[dict[str, Map], list[str]]:
    """Draw the backbone; return the activated end of each residual pair by its name, and all layers' names.

    The second convolution of a pair is added to the sum (or stride-2 convolution) before the last activation.
    """
    names: list[str] = []

    def named() -> str:
        names.append(f"conv{len(names) + 1}")
        return names[-1]

    active, ends = net.image(), {}
    for channels in stem:
        active = net.conv(active, channels, stride=2, pad=0, name=named())
    for stage in stages:
        total = net.conv(active, stage.channels, stride=2, pad=0, relu=False, name=named())
        active = net.relu(total, f"relu_{names[-1]}")
        for _ in range(stage.pairs):
            inner = net.conv(active, stage.inner_channels or stage.channels, name=named())
            total = net.add(net.conv(inner, stage.channels, relu=False, gain=0.5, name=named()), total)
            active = ends[names[-1]] = net.relu(total, f"relu_{names[-1]}")
    return ends, names


def _head(net: Layers, feature: Map, parent: str, width: int) -> dict[str, Map]:
    """Draw the branch on `parent`: raw score `(B, 2, h, w)`, channel 0 the object, and box code `(B, 4, h, w)`."""
    shared = net.conv(feature, width, 1, name=f"{parent}_1")
    said = {}
    for role, task, channels in (("score", "score", 2), ("box", "bbox", 4)):
        hidden = net.conv(shared, width, 1, name=f"{parent}_2_{task}")
        said[role] = net.conv(hidden, channels, 1, relu=False, gain=None, name=f"{parent}_3_{task}")
    return said


def _check_sizes(name: str, stem: tuple[int, ...], stages: tuple[Stage, ...], head_channels: int) -> None:
    """Refuse widths and counts that are not positive whole numbers or beyond all reason, and empty tables."""
    if not stages:
        raise GeometryError(f"{name}: a network needs at least one stage")
    counts = [("head_channels", head_channels, MOST_CHANNELS)]
    counts += [(f"stem[{i}]", channels, MOST_CHANNELS) for i, channels in enumerate(stem)]
    for i, stage in enumerate(stages):
        inner = stage.channels if stage.inner_channels is None else stage.inner_channels
        counts.append((f"stages[{i}].channels", stage.channels, MOST_CHANNELS))
        counts.append((f"stages[{i}].inner_channels", inner, MOST_CHANNELS))
        counts.append((f"stages[{i}].pairs", stage.pairs, MOST_LAYERS))
    for field, value, most in counts:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise GeometryError(f"{name}: {field} must be a whole number of at least 1, not {value!r}")
        if value > most:
            raise GeometryError(f"{name}: {field} is {value if value < 10**12 else 'huge'}, more than {most}")
    if (layers := len(stem) + sum(1 + 2 * stage.pairs for stage in stages)) > MOST_LAYERS:
        raise GeometryError(f"{name}: {layers} layers are more than {MOST_LAYERS}")
