"""What users may write where a model is asked for, and the model it means."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lffd.errors import GeometryError, ModelError
from lffd.graphs.graph import parse_graph
from lffd.graphs.model import CARD_FILE, PARAMS_FILE, Model, decode_text, load_model, make_model, matching_network
from lffd.graphs.network import Network
from lffd.hints import unknown
from lffd.params import read_params
from lffd.untrusted import read_file
from symbol_farm.foreign_files import CONVENTIONS, SUFFIXES, is_foreign, load_foreign
from symbol_farm.versions import SYSTEMS, VERSIONS, version_network

SHIPPED = Path(__file__).resolve().parent.parent / "models"
"""Folder of the models that come with the project."""


def resolve_model(spec: str | os.PathLike[str]) -> Model:
    """Return the model that `spec` names.

    Args:
        spec: a shipped model's name (`face_v2`) or version (`v2`); a model directory; a published checkpoint as
            `VERSION=FILE.params`, or as `FILE.params` alone when its parameters tell the version; a published pair as
            `FILE_deploy.json+FILE.params`; another project's file as `VERSION=FILE` with the endings `.onnx`, `.pth`,
            `.pt` or `.params`.

    Raises:
        ModelError: when nothing fits; the message lists what could be meant.
        UsageError: for an unknown version.
    """
    text = os.fspath(spec)
    if (Path(text) / CARD_FILE).is_file():
        return load_model(text)
    if text.endswith(".params"):
        version, symbol, file = _published_parts(text)
        return load_published(file, version, symbol)
    if text.endswith(SUFFIXES):
        return _load_foreign(text)
    if Path(text).is_dir():
        raise ModelError(f"{text}: not a model directory: it has no {CARD_FILE}")
    return load_model(_shipped_directory(text))


def params_file(spec: str | os.PathLike[str]) -> Path:
    """Return the file that holds the parameters of the model that `spec` names, as `resolve_model` reads it.

    Raises:
        ModelError: when no shipped model has that name.
    """
    text = os.fspath(spec)
    if text.endswith((".params", *SUFFIXES)):
        return Path(_published_parts(text)[2])
    folder = Path(text) if (Path(text) / CARD_FILE).is_file() else _shipped_directory(text)
    return folder / PARAMS_FILE


def load_published(
    params_file: str | os.PathLike[str], version: str | None = None, symbol_file: str | os.PathLike[str] | None = None
) -> Model:
    """Load a checkpoint in the published form.

    Args:
        params_file: MXNet `.params`.
        version: short or full name; found by names and shapes of the parameters when None.
        symbol_file: the deploy graph's JSON; the version's own graph when None.

    Raises:
        ModelError: when a file is damaged, the version cannot be told, or names and shapes do not fit.
    """
    named = version_network(version) if version else None
    params, states = read_params(params_file)
    if named and is_foreign(named, params):
        return load_foreign(named, Path(params_file))
    network = named or _identify(params, params_file)
    if symbol_file:
        network = _on_graph(network, Path(symbol_file))
    card = {"training": {"source": f"published checkpoint {Path(params_file).name}"}}
    try:
        return make_model(network, params, states, card)
    except ModelError as error:
        raise ModelError(f"{os.fspath(params_file)} as {network.name}: {error}") from error


def _load_foreign(text: str) -> Model:
    """Load `VERSION=FILE` of another project."""
    version, _, file = _published_parts(text)
    if version is None:
        known = ", ".join(CONVENTIONS)
        raise ModelError(
            f"{text}: say which network's weights these are, as VERSION={text} with VERSION one of {known}"
        )
    return load_foreign(version_network(version), Path(file))


def _on_graph(network: Network, path: Path) -> Network:
    """Return the version with the graph of a file, which must put its outputs at the same places."""
    text = decode_text(read_file(path, refusal=ModelError), path)
    try:
        read = replace(network, graph=parse_graph(text, str(path)))
    except GeometryError as error:
        raise ModelError(f"{path}: {error}") from error
    if read.branch_geometry != network.branch_geometry:
        raise ModelError(f"{path}: its outputs do not lie where those of {network.name} do")
    return read


def _identify(params: Mapping[str, NDArray[Any]], path: str | os.PathLike[str]) -> Network:
    plain = {name: np.asarray(value) for name, value in params.items()}
    found = matching_network(plain, (version_network(name) for name in (*VERSIONS, *SYSTEMS)))
    if found is None:
        raise ModelError(
            f"{os.fspath(path)}: its parameters are not exactly those of a known version; to see what differs, name "
            f"the version: VERSION={os.fspath(path)} with VERSION one of {', '.join(VERSIONS)}"
        )
    return found


def _published_parts(text: str) -> tuple[str | None, Path | None, str]:
    """Split `VERSION=FILE.params`, `SYMBOL.json+FILE.params` or `FILE.params` into version, symbol and file."""
    head, separator, tail = text.partition("=")
    if separator and not Path(text).exists():
        return head, None, tail
    symbol, separator, tail = text.partition(".json+")
    if separator:
        return None, Path(symbol + ".json"), tail
    return None, None, text


def shipped_models() -> dict[str, Path]:
    """Return the models that come with the project, by name."""
    return {card.parent.name: card.parent for card in sorted(SHIPPED.glob(f"*/{CARD_FILE}"))}


def _shipped_directory(name: str) -> Path:
    shipped = shipped_models()
    if name in shipped:
        return shipped[name]
    if name in VERSIONS or name in SYSTEMS:
        for folder in shipped.values():
            if load_model(folder).network.name == VERSIONS.get(name, name):
                return folder
        raise ModelError(
            f"no trained model of version {name} comes with the project; train one with its config script, or give "
            f"{name}=FILE.params for a published checkpoint"
        )
    choices = (
        f"Give a shipped name ({', '.join(shipped) or 'none yet'}), a model directory, VERSION=FILE.params, or "
        "SYMBOL_deploy.json+FILE.params; other projects' files as VERSION=FILE.onnx or VERSION=FILE.pth"
    )
    raise ModelError(unknown(name, [*shipped, *VERSIONS, *SYSTEMS], "model", choices))
