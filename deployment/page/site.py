"""The page as a set of files: HTML, style, scripts, the models with what it must know of them, and the runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from deployment.decoded_graph import GraphSuppression, decoded_onnx
from detection.detector import PREDICTION
from detection.tiling import working_bytes_per_pixel
from detection.views import MAX_ENLARGED_SIDE, ViewSettings
from lffd.errors import UsageError
from lffd.graphs.model import Model
from symbol_farm.trained_models import resolve_model, shipped_models

PAGE = ("index.html", "page.css", "page.js", "worker.js")

POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'"
)
"""Content-Security-Policy: everything comes from where the page does, and nothing goes anywhere else."""

LOWEST_SCORE = 0.05
"""Where the slider begins. Greedy suppression lets the better box win, so what scores over any higher threshold is the
same as if only that had entered."""

BROWSER_MEMORY = 3 << 30
"""Bytes that a network may take in a browser: WebAssembly addresses 4 GiB."""


def page_model(model: Model) -> bytes:
    """Return the ONNX file that the page runs: bytes in, boxes out, with the suppression of a prediction inside."""
    rule = GraphSuppression(LOWEST_SCORE, PREDICTION.suppression_threshold, PREDICTION.max_detections)
    return bytes(decoded_onnx(model, "nhwc-uint8", suppression=rule).SerializeToString())


def _entry(name: str, file: str, model: Model) -> dict[str, Any]:
    """Return what the page must know of a model."""
    network = model.network
    return {
        "name": name,
        "file": file,
        "minimum_input": network.minimum_input,
        "input_step": network.input_step,
        "max_pixels": int(BROWSER_MEMORY / working_bytes_per_pixel(network, "onnxruntime")),
    }


def site(specs: Sequence[str], runtime: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the page's files by name.

    Args:
        specs: models as `trained_models.resolve_model` reads them, the first chosen at the start; all shipped ones
            when empty.
        runtime: files of onnxruntime-web.

    Raises:
        ModelError: for a model that cannot be found or is damaged.
        UsageError: for two models of one name.
        EngineError: when the package `onnx` is missing.
    """
    chosen = {Path(spec).name: resolve_model(spec) for spec in specs or shipped_models()}
    if len(chosen) < len(specs):
        raise UsageError(f"two of the models {', '.join(specs)} have one name")
    names = {name: f"model_{number}.onnx" for number, name in enumerate(chosen)}
    manifest = {
        "lowest_score": LOWEST_SCORE,
        "score_threshold": PREDICTION.score_threshold,
        "minimum_side": ViewSettings.minimum_side,
        "max_enlarged_side": MAX_ENLARGED_SIDE,
        "models": [_entry(name, names[name], model) for name, model in chosen.items()],
    }
    folder = files(__package__)
    page = {name: folder.joinpath(name).read_bytes() for name in PAGE}
    page["index.html"] = page["index.html"].replace(b"$POLICY", POLICY.encode())
    models = {names[name]: page_model(model) for name, model in chosen.items()}
    return {**page, "models.json": json.dumps(manifest, indent=1).encode(), **models, **runtime}
