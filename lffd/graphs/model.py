"""A trained model as a directory: `symbol.json`, `model.params` and `card.json`; make, save, load, verify."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lffd.errors import GeometryError, ModelError
from lffd.files import put_aside, recover_directory, replace_directory
from lffd.graphs import batch_norm
from lffd.graphs.graph import Graph, parse_graph
from lffd.graphs.network import Network, network_from_dict
from lffd.params import misfits, pack_params, parse_params
from lffd.untrusted import read_file

SYMBOL_FILE, PARAMS_FILE, CARD_FILE = "symbol.json", "model.params", "card.json"
CARD_FORMAT, KNOWN_FORMATS = 2, (1, 2)


@dataclass(frozen=True)
class Model:
    """A deployed network with its parameters, checked to fit each other.

    Attributes:
        network: the deployed graph, and what its branches say and find.
        params: float32 arrays by name, exactly those that the graph asks for.
        card: facts that travel with the model: `training`, `accuracy` (a list, each with its protocol) and anything
            else; what follows from the network is added when the card is written.
        extra_files: further files of the directory by name, such as a quantised graph.
    """

    network: Network
    params: Mapping[str, NDArray[np.float32]]
    card: Mapping[str, Any] = field(default_factory=dict)
    extra_files: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse parameters that do not fit the graph."""
        check_parameters(self.graph, self.params, f"model {self.network.name}")

    @property
    def graph(self) -> Graph:
        """The deployed graph."""
        return self.network.graph

    @property
    def symbol_json(self) -> str:
        """The deployed graph as MXNet's JSON."""
        return self.graph.to_json()

    @property
    def stored_precision(self) -> Literal["float32", "float16"]:
        """Type in which the parameters were stored where this model was read from; float32 for a new one."""
        return "float16" if self.card.get("stored_precision") == "float16" else "float32"

    @property
    def parameter_count(self) -> int:
        """Number of weights and biases."""
        return sum(value.size for value in self.params.values())


def make_model(
    network: Network,
    parameters: Mapping[str, NDArray[Any]],
    states: Mapping[str, NDArray[Any]] | None = None,
    card: Mapping[str, Any] | None = None,
) -> Model:
    """Return the deployable model of trained parameters, batch normalisation folded in.

    Args:
        network: the declaration.
        parameters: of the training or the deploy graph.
        states: running statistics, where the training graph has batch normalisation.
        card: facts to keep.

    Raises:
        ModelError: when names or shapes do not fit; all of them are listed.
    """
    return Model(network, batch_norm.fold(parameters, states), dict(card or {}))


def check_parameters(graph: Graph, params: Mapping[str, NDArray[Any]], where: str) -> None:
    """Compare parameters with what a graph asks for.

    Raises:
        ModelError: naming every missing, extra and wrongly shaped parameter.
    """
    problems = misfits(graph.parameter_shapes, params)
    problems += [f"{name} holds NaN or Inf" for name in params if not np.isfinite(params[name]).all()]
    if problems:
        raise ModelError(f"{where}: parameters do not fit the graph: {'; '.join(problems)}")


def derived_facts(model: Model) -> dict[str, Any]:
    """Return what the card says of the network: geometry, conventions of input and output, size."""
    network = model.network
    return {
        "format": CARD_FORMAT,
        "version": network.name,
        "network": network.to_dict(),
        "branches": _branch_facts(network),
        "input": {
            "name": "data",
            "layout": "NCHW",
            "color_order": "BGR",
            "range": [0, 255],
            "normalization": "inside the graph",
            "minimum_side": network.minimum_input,
            "multiple_of": network.input_step,
        },
        "output": f"per branch in order {', '.join(network.outputs)}, (B, channels, h, w) each: the object's "
        f"probability; box code {network.code!r} in units of normalizer around the cell's centre, which lies at "
        "first_center + stride * column (and row), or where the branch's grid says; points as x and y in the same "
        "units, from the centre",
        "parameters": model.parameter_count,
    }


def _branch_facts(network: Network) -> list[dict[str, Any]]:
    """Return what the card says of each branch."""
    return [
        {
            "layer": branch.layer,
            "object_range": list(branch.object_range),
            "stride": branch.stride,
            "receptive_field": branch.receptive_field,
            "first_center": branch.first_center,
            "normalizer": branch.normalizer,
        }
        for branch in network.branch_geometry
    ]


def _check_branches(network: Network, written: Any) -> None:
    """Refuse a graph whose branches are not those of the card, such as two of one stride that changed places."""
    found = _branch_facts(network)
    if not isinstance(written, list) or len(written) != len(found):
        raise ModelError(f"the graph has {len(found)} branches, and the card describes others")
    for number, (ours, theirs) in enumerate(zip(found, written, strict=True)):
        if ours != theirs:
            raise ModelError(f"branch {number} is {ours} on the graph, but {theirs!s:.200} on the card")


def save_model(
    model: Model, directory: str | os.PathLike[str], precision: Literal["float32", "float16"] = "float32"
) -> dict[str, Any]:
    """Write a model directory, replacing one that is there only once the new one is complete.

    Files of the user's own in an old directory, which its card does not list, move to the new one.

    Args:
        model: what to write.
        directory: created with its parents.
        precision: type of the stored parameters; float16 halves the file.

    Returns:
        The card as written.

    Raises:
        ModelError: when the directory holds other things, or a value is too large for the precision.
    """
    target = Path(directory).resolve()
    recover_directory(target)
    check_target(target)
    with np.errstate(over="ignore"):
        stored = {name: value.astype(precision) for name, value in model.params.items()}
    if too_large := [name for name, value in stored.items() if not np.isfinite(value).all()]:
        most = f"{np.finfo(precision).max:,.0f}"
        raise ModelError(f"{target}: {precision} holds values up to {most}, exceeded in: {', '.join(too_large)}")
    files = {SYMBOL_FILE: model.symbol_json.encode(), PARAMS_FILE: pack_params(stored), **model.extra_files}
    card = {**model.card, **derived_facts(model), "stored_precision": precision}
    card["sha256"] = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    files[CARD_FILE] = (json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    listed = _listed_files(target)
    if taken := [name for name in files if name not in listed and (target / name).exists()]:
        raise ModelError(
            f"{target}: would replace {', '.join(taken)}, which the card there does not list; move it away"
        )
    replace_directory(target, files, _listed_files)
    return card


def check_target(target: Path) -> None:
    """Refuse, before long work, a place for a model directory that holds something else: raises a `ModelError`."""
    if target.exists() and not target.is_dir():
        raise ModelError(f"{target} is a file; choose another name for the model's directory")
    if target.exists() and not (target / CARD_FILE).exists() and any(target.iterdir()):
        raise ModelError(f"{target} is not empty and holds no model; choose another directory")


def _listed_files(folder: Path) -> frozenset[str]:
    """Return the files of a model directory that belong to the model, as far as its card can be read."""
    try:
        listed = _read_card(folder)["sha256"]
    except ModelError:
        listed = {}
    return frozenset({SYMBOL_FILE, PARAMS_FILE, CARD_FILE, *listed})


def load_model(directory: str | os.PathLike[str]) -> Model:
    """Read and verify a model directory.

    Raises:
        ModelError: when a file is missing or does not have the card's SHA-256, or parts do not fit each other.
    """
    folder = Path(directory)
    card = _read_card(folder)
    files = {name: _read_verified(folder, name, digest) for name, digest in card["sha256"].items()}
    if missing := [name for name in (SYMBOL_FILE, PARAMS_FILE) if name not in files]:
        raise ModelError(f"{folder / CARD_FILE}: gives no sha256 for {', '.join(missing)}")
    params, states = parse_params(files.pop(PARAMS_FILE), folder / PARAMS_FILE)
    graph = parse_graph(decode_text(files.pop(SYMBOL_FILE), folder / SYMBOL_FILE), str(folder / SYMBOL_FILE))
    widened = {name: value.astype(np.float32) for name, value in {**params, **states}.items()}
    try:
        model = Model(network_from_dict(card["network"], graph), widened, card, files)
        _check_branches(model.network, card.get("branches"))
        return model
    except (ModelError, GeometryError) as error:
        raise ModelError(f"{folder}: {error}") from error


def _read_card(folder: Path) -> dict[str, Any]:
    path = folder / CARD_FILE
    if not path.is_file():
        aside = put_aside(folder.resolve())
        hint = f"; a save was cut short, rename {aside} to {folder} to go on with the model before it" if aside else ""
        raise ModelError(f"{folder}: not a model directory: it has no {CARD_FILE}{hint}")
    content = read_file(path, refusal=ModelError)
    try:
        card = json.loads(content)
        digests, form = card["sha256"], card["format"]
        named = all(isinstance(name, str) and isinstance(digest, str) for name, digest in digests.items())
        card["network"]["name"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path}: not a model card: {type(error).__name__}: {error}") from error
    if form not in KNOWN_FORMATS:
        raise ModelError(f"{path}: card format {str(form)[:20]} is not known here (this release reads 1 and 2)")
    if not named or any(Path(name).name != name for name in digests):
        raise ModelError(f"{path}: sha256 must map plain file names to digests")
    return dict(card)


def _read_verified(folder: Path, name: str, digest: str) -> bytes:
    path = folder / name
    data = read_file(path, refusal=ModelError)
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise ModelError(f"{path}: SHA-256 is {found}, but the card says {digest}: the file is damaged or was replaced")
    return data


def decode_text(data: bytes, path: Path) -> str:
    """Return a text file's content.

    Raises:
        ModelError: when it is not UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ModelError(f"{path}: not a text file") from error


def matching_network(params: Mapping[str, NDArray[Any]], networks: Iterable[Network]) -> Network | None:
    """Return the network whose parameters have exactly these names and shapes, if any."""
    shapes = {name: value.shape for name, value in params.items()}
    return next((network for network in networks if network.parameter_shapes == shapes), None)
