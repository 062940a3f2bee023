"""Other projects' trained files into our networks: ONNX, PyTorch's state dicts, InsightFace's MXNet parameters.

Our layers carry the names of those implementations' parameters, with `_` for their points. What is left is to fold
normalisation in, to put the class channels (background and face of each anchor) into our order, and to turn a first
layer that reads red, green, blue.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lffd.errors import ModelError
from lffd.graphs.model import Model, make_model
from lffd.graphs.network import Network, raw_output
from lffd.graphs.onnx_graph import image_position, normalisation
from lffd.graphs.operators import Node
from lffd.hints import require
from lffd.params import read_params
from symbol_farm.onnx_layers import InputScale, OnnxFile, match_layers

Arrays = Mapping[str, NDArray[Any]]

SUFFIXES = (".onnx", ".pth", ".pt")
"""Of files that only other projects write."""


@dataclass(frozen=True)
class Convention:
    """How a project's files differ from ours.

    Attributes:
        rgb: its first layer reads red, green, blue.
        faces_last: its class channels are those of all backgrounds and then of all faces, instead of both of one anchor
            after the other.
        epsilon: added to variances.
    """

    rgb: bool = False
    faces_last: bool = False
    epsilon: float = 1e-5


CONVENTIONS: dict[str, Convention] = {
    "slim_320": Convention(rgb=True),
    "rfb_320": Convention(rgb=True),
    "retinaface_mnet025": Convention(),
    "retinaface_r50": Convention(),
    "retinaface_r50_mxnet": Convention(rgb=True, faces_last=True, epsilon=2e-5),
}
"""Networks whose files can be read, by name."""

Part = tuple[NDArray[np.float64], NDArray[np.float64] | None]
"""Weight and bias of a layer; None where it has none."""


def load_foreign(network: Network, path: Path) -> Model:
    """Return one of our networks with the weights of another project's file.

    Args:
        network: one of `CONVENTIONS`.
        path: `.onnx`; `.pth` or `.pt`, a PyTorch state dict; `.params`, with the names of InsightFace's symbols.

    Raises:
        ModelError: for a network without such files, or a file that is damaged or of another structure.
        EngineError: when the package that reads it is missing.
    """
    if network.name not in CONVENTIONS:
        known = ", ".join(CONVENTIONS)
        raise ModelError(f"{path}: files of other projects are read into {known}, not into {network.name}")
    convention = CONVENTIONS[network.name]
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    if path.suffix == ".onnx":
        parts = _from_onnx(network, path, convention)
    elif path.suffix == ".params":
        parameters, states = read_params(path)
        parts = _named(network, {**parameters, **states}, path, _MXNET, convention)
    else:
        parts = _named(network, read_state_dict(path), path, _TORCH, convention)
    params: dict[str, NDArray[np.float32]] = {}
    scores = {raw_output(network.graph, said["score"]) for said in network.by_branch(network.graph.outputs)}
    for position, node in enumerate(network.graph.nodes):
        if node.op != "Convolution":
            continue
        weight, bias = parts[node.name]
        if position in scores:
            order = _class_order(len(weight), convention)
            weight, bias = weight[order], None if bias is None else bias[order]
        if (
            convention.rgb
            and weight.shape[1] == 3
            and node.integer("num_group", 1) == 1
            and _reads_image(network, node)
        ):
            weight = weight[:, ::-1]
        found = {"weight": weight, "bias": bias}
        params |= {name: np.array(found[role], np.float32) for role, name in network.graph.parameters_of(node).items()}
    return make_model(network, params, card={"training": {"source": f"another project's {path.name}"}})


def is_foreign(network: Network, parameters: Arrays) -> bool:
    """Say whether parameters of MXNet are another project's: none of the network's own names, or far too few."""
    return network.name in CONVENTIONS and not set(network.parameter_shapes) <= set(parameters)


def read_state_dict(path: Path) -> dict[str, NDArray[np.float64]]:
    """Return the arrays of a PyTorch state dict, also one inside a checkpoint, without the prefix of data parallelism.

    Nothing but tensors is unpickled.

    Raises:
        ModelError: for a file that holds anything else.
        EngineError: when PyTorch is missing.
    """
    torch = require("torch", "torch")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        for key in ("state_dict", "model_state_dict", "model", "net"):
            if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
                content = content[key]
        tensors = {str(name).removeprefix("module."): value for name, value in content.items()}
        return {name: value.double().numpy() for name, value in tensors.items() if not name.endswith("batches_tracked")}
    except Exception as error:  # unpickling fails in as many ways as there are files
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"{path}: not a PyTorch state dict ({text[0]:.200})") from error


def _from_onnx(network: Network, path: Path, convention: Convention) -> dict[str, Part]:
    file = OnnxFile(path)
    _check_scale(network, file.input_scale(), path, convention)
    matched = match_layers(network, file.layers(), path)
    return {name: (layer.weight, layer.bias) for name, layer in matched.items()}


def _check_scale(network: Network, scale: InputScale | None, path: Path, convention: Convention) -> None:
    """Refuse a file that does to its image something else than the network does."""
    if scale is None:
        return  # whoever runs the file does it in front
    offset, factor = (part.ravel() for part in normalisation(network.graph, image_position(network.graph)))
    ours = InputScale(1 / factor, -offset / factor)
    theirs = InputScale(*(part[::-1] if convention.rgb else part for part in scale))
    if not (np.allclose(theirs.factor, ours.factor, rtol=1e-4) and np.allclose(theirs.offset, ours.offset, atol=1e-3)):
        said = [
            ", ".join(f"{value:g}" for value in part) for part in (-theirs.offset / theirs.factor, 1 / theirs.factor)
        ]
        raise ModelError(
            f"{path}: the file itself subtracts {said[0]} from blue, green and red and divides by {said[1]}, which "
            f"is not what {network.name} does; run it as it is: --model peer:KIND={path}"
        )


@dataclass(frozen=True)
class _Names:
    """What a format calls the arrays of a normalisation: gain, shift, mean, variance; and the rule for its name."""

    parts: tuple[str, str, str, str]
    after: Any


def _torch_norm(layer: str) -> str:
    """Return the normalisation behind a layer: `conv1` and `bn1`, `….conv` and `….bn`, or the next of a sequence."""
    if match := re.fullmatch(r"(.*_)?conv(\d?)", layer):
        return f"{match[1] or ''}bn{match[2]}"
    head, _, number = layer.rpartition("_")
    return f"{head}_{int(number) + 1}" if number.isdigit() else ""


def _mxnet_norm(layer: str) -> str:
    """Return the normalisation behind a layer; a unit's first one comes before its first convolution."""
    if match := re.fullmatch(r"(stage\d+_unit\d+)_conv(\d)", layer):
        return f"{match[1]}_bn{int(match[2]) + 1}"
    return "bn0" if layer == "conv0" else f"{layer}_bn"


_TORCH = _Names(("weight", "bias", "running_mean", "running_var"), _torch_norm)
_MXNET = _Names(("gamma", "beta", "moving_mean", "moving_var"), _mxnet_norm)


def _named(network: Network, arrays: Arrays, path: Path, names: _Names, convention: Convention) -> dict[str, Part]:
    """Return the layers of a file whose arrays carry the names of our layers.

    Raises:
        ModelError: naming what is missing, of another shape, or too much.
    """
    known = {name.replace(".", "_"): np.asarray(value, np.float64) for name, value in arrays.items()}
    used: set[str] = set()

    def take(name: str) -> NDArray[np.float64] | None:
        used.add(name)
        return known.get(name)

    found: dict[str, Part] = {}
    shapes, missing = network.parameter_shapes, []
    for node in (node for node in network.graph.nodes if node.op == "Convolution"):
        weight, bias = take(f"{node.name}_weight"), take(f"{node.name}_bias")
        norm = names.after(node.name)
        gain = _gain(known, used, node.name if weight is None else norm, names, convention)
        shape = shapes[network.graph.parameters_of(node)["weight"]]
        if weight is None and gain is not None:  # a normalisation alone
            found[node.name] = _alone(node, *gain)
        elif weight is None or weight.shape != shape or (gain is None and node.name in network.gains and bias is None):
            missing.append(f"{node.name} {'' if weight is None else weight.shape}".strip())
        else:
            bias = np.zeros(len(weight)) if bias is None and "bias" in network.graph.parameters_of(node) else bias
            if gain is not None and bias is not None and node.name in network.gains:
                weight, bias = weight * gain[0][:, None, None, None], bias * gain[0] + gain[1]
            found[node.name] = weight, bias
    extra = [name for name in known if name not in used and not name.startswith("fc")]
    if missing or extra:
        what = [
            f"{len(part)} {word}, such as {part[0]}"
            for part, word in ((missing, "missing"), (extra, "unknown"))
            if part
        ]
        raise ModelError(f"{path}: its arrays are not those of {network.name}: {'; '.join(what)}")
    return found


def _gain(
    known: Arrays, used: set[str], norm: str, names: _Names, convention: Convention
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return gain and shift of a normalisation; None where the file has none of that name."""
    keys = [f"{norm}_{part}" for part in names.parts]
    if not all(key in known for key in keys):
        return None
    used.update(keys)
    gamma, beta, mean, variance = (np.asarray(known[key], np.float64) for key in keys)
    # MXNet's model zoo fixes the gain of the image's own normalisation at 1, whatever is stored.
    gain = (1.0 if norm == "bn_data" else gamma) / np.sqrt(variance + convention.epsilon)
    return gain, beta - mean * gain


def _alone(node: Node, gain: NDArray[np.float64], shift: NDArray[np.float64]) -> Part:
    """Return a normalisation as a depthwise 1×1 convolution, or as a full one where the node is that."""
    weight = gain[:, None] if node.integer("num_group", 1) > 1 else np.diag(gain)
    return weight[:, :, None, None], shift


def _class_order(channels: int, convention: Convention) -> list[int]:
    """Return where our channels of a class map, all faces and then all backgrounds, stand in a file."""
    half = channels // 2
    if convention.faces_last:
        return [*range(half, channels), *range(half)]
    return [*range(1, channels, 2), *range(0, channels, 2)]


def _reads_image(network: Network, node: Node) -> bool:
    """Say whether a layer reads the image itself."""
    graph, position = network.graph, node.inputs[0]
    while graph.nodes[position].op not in ("null", "Convolution"):
        position = graph.nodes[position].inputs[0]
    return graph.nodes[position].name == "data"
