"""What `--model` may be in every command that runs a detector, and the detector that it means.

Our own networks are written as `symbol_farm.trained_models` reads them; a detector of another project is written
`peer:KIND=FILE.onnx` (or `FILE.xml`, OpenVINO's), with a kind from `detection.peers.kinds`.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import tyro

from detection.detections import ImageDetector
from detection.peers.kinds import KINDS, peer_kind
from detection.selection import Selection
from detection.views import ViewSettings
from lffd.engines.runtime import Runtime
from lffd.errors import ModelError, UsageError
from lffd.graphs.network import Network
from lffd.untrusted import read_file

PEER = "peer:"


@dataclass(frozen=True)
class ModelFacts:
    """What identifies a model in a report: as the user wrote it; `peer:KIND` or the network's name; a digest.

    The digest is that of a peer's file, or of a model's graph and parameters. A peer has no declaration.
    """

    spec: str
    family: str
    sha256: str
    network: Network | None


@dataclass(frozen=True, kw_only=True)
class DetectorOptions:
    """The options that every command which evaluates a detector has."""

    model: str
    """Shipped name, model directory, VERSION=FILE (.params, .onnx, .pth), or peer:KIND=FILE (.onnx, .xml)."""
    selection: Annotated[Selection, tyro.conf.arg(name="")] = field(default_factory=Selection)
    runtime: Annotated[Runtime, tyro.conf.arg(name="")] = field(default_factory=Runtime)

    def make_detector(self, runtime: Runtime) -> ImageDetector:
        """Return the detector, running as it is told; see `load_detector`."""
        return load_detector(self.model, self.selection, runtime)

    def record(self, facts: ModelFacts) -> dict[str, Any]:
        """Return what decides a detector's results, for `output_files.start_run`."""
        run = {"selection": asdict(self.selection), "engine": self.runtime.engine, "precision": self.runtime.precision}
        return {"model": facts.family, "sha256": facts.sha256, **run}


def load_detector(
    spec: str, selection: Selection | None = None, runtime: Runtime | None = None, views: ViewSettings | None = None
) -> ImageDetector:
    """Return the detector that `spec` names: `peer:KIND=FILE.onnx`, or what `trained_models.resolve_model` takes.

    One of our networks says in its detections which branch found each object, and looks at images as `views` says; a
    peer does neither. Without a `selection`, the defaults of an evaluation hold.

    Raises:
        UsageError: for an unknown kind or an option that does not apply.
        ModelError: for a file that is not what it should be.
        EngineError: when what runs it is missing.
    """
    peer, selection, runtime = parse_peer(spec), selection or Selection(), runtime or Runtime()
    if peer is None:
        from detection.detector import Detector
        from symbol_farm.trained_models import resolve_model

        return Detector(resolve_model(spec), selection, views, runtime)
    if runtime.engine not in ("auto", "onnxruntime") or runtime.precision != "fp32":
        asked = f"{spec} was asked to run with engine {runtime.engine}, precision {runtime.precision}"
        raise UsageError(f"peers run on ONNX Runtime in fp32, OpenVINO's own files on that; {asked}")
    if views not in (None, ViewSettings()):
        changed = [f.name for f in fields(ViewSettings) if getattr(views, f.name) != f.default]
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise UsageError(f"{flags}: only for our own networks, which have branches; not for {spec}")
    from detection.peers.detector import PeerDetector

    return PeerDetector(*peer, selection, runtime)


def parse_peer(spec: str) -> tuple[str, Path] | None:
    """Return kind and file of `peer:KIND=FILE.onnx`; None for a spec that does not start with `peer:`.

    Raises:
        UsageError: for a spec of another form, or an unknown kind.
    """
    if not spec.startswith(PEER):
        return None
    kind, equals, path = spec[len(PEER) :].partition("=")
    if not equals or not path:
        raise UsageError(f"{spec!r} is not peer:KIND=FILE.onnx, with KIND one of {', '.join(KINDS)}")
    peer_kind(kind)
    return kind, Path(path)


def model_facts(spec: str) -> ModelFacts:
    """Return what identifies the model that `spec` names; raises what `load_detector` raises for it."""
    peer = parse_peer(spec)
    if peer is not None:
        return ModelFacts(spec, f"{PEER}{peer[0]}", _digest(peer[1]), None)
    from symbol_farm.trained_models import resolve_model

    model = resolve_model(spec)
    digest = hashlib.sha256(model.symbol_json.encode())
    for name in sorted(model.params):
        digest.update(name.encode() + model.params[name].tobytes())
    return ModelFacts(spec, model.network.name, digest.hexdigest(), model.network)


def _digest(path: Path) -> str:
    """Return the SHA-256 of a peer's file, and of the weights that lie beside one of OpenVINO."""
    digest = hashlib.sha256(read_file(path, refusal=ModelError))
    if path.suffix == ".xml" and (weights := path.with_suffix(".bin")).is_file():
        digest.update(read_file(weights, refusal=ModelError))
    return digest.hexdigest()
