"""What `--model` may be in every command that runs a detector, and the detector that it means.

Our own networks are written as `symbol_farm.trained_models` reads them; a detector of another project is written
`peer:KIND=FILE.onnx`, with a kind from `detection.peers.kinds`.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detection.detections import ImageDetector
from detection.peers.kinds import KINDS, peer_kind
from detection.selection import Selection
from lffd.boxes import Overlap
from lffd.errors import ModelError, UsageError
from lffd.graphs.network import Network

PEER = "peer:"


@dataclass(frozen=True, kw_only=True)
class DetectorOptions:
    """The options that every command which evaluates a detector has."""

    model: str
    """Shipped name, model directory, VERSION=FILE.params, or peer:KIND=FILE.onnx."""
    score_threshold: float = Selection.score_threshold
    """Detections must score more than this. A higher floor costs average precision."""
    top_k: int = Selection.top_k
    """How many of the best candidates of an image enter suppression."""
    suppression_threshold: float = Selection.suppression_threshold
    """A candidate that overlaps a better one by more than this is dropped."""
    overlap: Overlap = Selection.overlap
    """What overlap means: iou, or own-area, the published LFFD rule."""
    max_detections: int = Selection.max_detections
    """How many detections are kept per image."""
    engine: str = "auto"
    """What runs one of our networks; peers always run on ONNX Runtime."""
    precision: str = "fp32"
    """Arithmetic of one of our networks."""
    device: str = "cpu"
    """cpu, gpu:0, gpu:1, ..."""
    threads: int | None = None
    """CPU threads; the engine's own choice by default."""

    @property
    def selection(self) -> Selection:
        """Which candidates become detections."""
        return Selection(
            self.score_threshold, self.top_k, self.suppression_threshold, self.overlap, self.max_detections
        )

    def record(self, facts: ModelFacts) -> dict[str, Any]:
        """Return what decides a detector's results, for `output_files.start_run`."""
        return {
            "model": facts.family,
            "sha256": facts.sha256,
            "selection": asdict(self.selection),
            "engine": self.engine,
            "precision": self.precision,
        }

    def load(self) -> ImageDetector:
        """Return the detector."""
        return load_detector(
            self.model,
            self.selection,
            device=self.device,
            threads=self.threads,
            engine=self.engine,
            precision=self.precision,
        )


@dataclass(frozen=True)
class ModelFacts:
    """What identifies a model in a report.

    Attributes:
        spec: as the user wrote it.
        family: `peer:KIND`, or the network's name.
        sha256: of the weights: of a peer's file; of a model's graph and parameters.
        network: the declaration of one of our networks; None for a peer.
    """

    spec: str
    family: str
    sha256: str
    network: Network | None


def load_detector(
    spec: str,
    selection: Selection | None = None,
    *,
    device: str = "cpu",
    threads: int | None = None,
    engine: str = "auto",
    precision: str = "fp32",
    **options: Any,
) -> ImageDetector:
    """Return the detector that `spec` names.

    One of our networks says in its detections which branch found each object; a peer does not.

    Args:
        spec: `peer:KIND=FILE.onnx`, or whatever `symbol_farm.trained_models.resolve_model` takes.
        selection: which candidates become detections; the defaults of `Selection` when None.
        device: `cpu`, `gpu:0`, …
        threads: of the CPU; the engine's own choice when None.
        engine: what runs one of our networks; `auto` or `onnxruntime` for a peer.
        precision: arithmetic of one of our networks; `fp32` for a peer.
        options: further ones of `detection.detector.Detector.load`; a peer has none.

    Raises:
        UsageError: for an unknown kind or an option that does not apply.
        ModelError: for a file that is not what it should be.
        EngineError: when what runs it is missing.
    """
    peer = parse_peer(spec)
    chosen = selection or Selection()
    if peer is None:
        from detection.detector import Detector

        loaded: ImageDetector = Detector.load(
            spec, selection=chosen, device=device, threads=threads, engine=engine, precision=precision, **options
        )
        return loaded
    if engine not in ("auto", "onnxruntime") or precision != "fp32" or options:
        asked = {"engine": engine, "precision": precision, **options}
        raise UsageError(
            f"peers run on ONNX Runtime in fp32 and take no further options; {spec} was asked to run with "
            + ", ".join(f"{name} {value}" for name, value in asked.items())
        )
    from detection.peers.detector import PeerDetector

    return PeerDetector(*peer, chosen, device, threads)


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
    """Return what identifies the model that `spec` names.

    Raises:
        ModelError: when it cannot be read.
        UsageError: for an unknown kind of peer.
    """
    peer = parse_peer(spec)
    if peer is None:
        from symbol_farm.trained_models import resolve_model

        model = resolve_model(spec)
        digest = hashlib.sha256(model.symbol_json.encode())
        for name in sorted(model.params):
            digest.update(name.encode() + model.params[name].tobytes())
        return ModelFacts(spec, model.network.name, digest.hexdigest(), model.network)
    try:
        return ModelFacts(spec, f"{PEER}{peer[0]}", hashlib.sha256(peer[1].read_bytes()).hexdigest(), None)
    except OSError as error:
        raise ModelError(f"{peer[1]}: cannot be read ({error.strerror})") from error
