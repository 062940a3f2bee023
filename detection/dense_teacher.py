"""Another detector as a teacher: its score and box at every cell of the very crops that a network learns from.

Knowledge distillation on dense maps: at each of its own cells a network is taught what the teacher says there. The
teacher either looks at the very crops, which needs cells at the same places (SCRFD, arXiv 2105.04714, has them at
multiples of strides 8, 16 and 32; so have our own networks of these strides); or it has looked at whole images before,
at many sizes, and the nearest of them is read (`recorded_teacher`), which costs little per crop.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_iterator_farm.batch import Batch
from detection.load import parse_peer
from detection.peers.detector import PeerDetector
from detection.recorded_teacher import Maps, Recording, is_recording
from lffd.engines.factory import create_engine
from lffd.engines.runtime import Runtime
from lffd.errors import UsageError
from lffd.graphs.branches import BranchGeometry
from lffd.graphs.network import Network
from lffd.hints import require

Place = tuple[int, float]
"""Stride and first centre of a map."""

Look = Callable[[NDArray[np.uint8]], dict[Place, Maps]]
"""From images `(B, H, W, 3)` uint8 BGR to what a teacher says at each of its places."""


class DenseTeacher:
    """A detector that teaches a network.

    Args:
        spec: `peer:scrfd=FILE.onnx`, one of our own models as `--model` takes it, or the folder of a recording.
        network: what learns.
        hidden: background cells to which the teacher gives more than this take no part in the score's own loss: what
            is there may be an object that the annotators missed.

    Raises:
        UsageError: when no branch of the network has the teacher's cells.
        DataError: for a recording that is damaged.
    """

    def __init__(self, spec: str, network: Network, hidden: float = 0.4) -> None:
        self._branches, self._hidden = network.branch_geometry, hidden
        places = [(branch.stride, float(branch.first_center)) for branch in self._branches]
        self._look: Callable[[Batch], dict[Place, Maps]]
        self._recording = recording = Recording(Path(spec)) if is_recording(spec) else None
        if recording is not None:
            offered = [place for place in places if place[0] in recording.strides]
            said, self._look = f"strides {sorted(recording.strides)}", _reading(recording, self._branches)
        else:
            offered, look = find_teacher(spec)
            said, self._look = _words(offered), lambda batch: look(batch.images)
        if max(network.predictions) > 1 or not set(places) & set(offered):
            what = f"{network.name} has cells at {_words(places)}, the teacher at {said}"
            raise UsageError(f"--distill {spec}: {what}: it cannot teach them")

    def check_knows(self, names: Iterable[str], data: str) -> None:
        """Refuse a recording in which none of these images of `data` is: it would teach nothing, without a word.

        Raises:
            UsageError: naming both.
        """
        if self._recording is not None and not any(name in self._recording for name in names):
            raise UsageError(f"--distill: the recording of {self._recording.card['pack']} has no image of {data}")

    def teach(self, batch: Batch) -> tuple[dict[str, NDArray[Any]], ...]:
        """Return the targets of a batch with the teacher's beside them; see `lffd.training.losses.TEACHER`.

        Of the batch's own targets, unknown faces become ignored in place.
        """
        maps = self._look(batch)
        return tuple(self._branch(b, said, maps) for b, said in zip(self._branches, batch.targets, strict=True))

    def _branch(
        self, branch: BranchGeometry, said: dict[str, NDArray[Any]], maps: dict[Place, Maps]
    ) -> dict[str, NDArray[Any]]:
        score = np.full(said["score"].shape, -1, np.float32)
        box = np.zeros(said["box"].shape, np.float32)
        found = maps.get((branch.stride, float(branch.first_center)))
        if found is not None:
            height, width = score.shape[2:]
            score[:, 0] = found.score[:, :height, :width]
            corners = found.box[:, :height, :width].reshape(-1, 4)
            codes = branch.encode(corners, _centers(branch, len(score), height, width)).reshape(
                len(score), height, width, 4
            )
            box[:] = codes.transpose(0, 3, 1, 2)
            said["score"][(said["score"] == 0) & (score > self._hidden)] = -1
        return {**said, "teacher_score": score, "teacher_box": box}


def _words(places: Sequence[Place]) -> str:
    return ", ".join(f"{center:g} + {stride} × i" for stride, center in places)


def _reading(recording: Recording, branches: Sequence[BranchGeometry]) -> Callable[[Batch], dict[Place, Maps]]:
    """Return what reads a recording at the cells of these branches."""
    known = [branch for branch in branches if branch.stride in recording.strides]

    def look(batch: Batch) -> dict[Place, Maps]:
        sizes = {b.stride: said["score"].shape[2:] for b, said in zip(branches, batch.targets, strict=True)}
        return {(b.stride, float(b.first_center)): recording.read(batch.origins, b, sizes[b.stride]) for b in known}

    return look


def _centers(branch: BranchGeometry, count: int, height: int, width: int) -> NDArray[np.float32]:
    """Return the centres `(count · height · width, 2)` of a branch's cells, once for each of `count` images."""
    rows, columns = np.divmod(np.arange(height * width), width)
    return np.tile(branch.places(columns, rows), (count, 1))


def find_teacher(spec: str) -> tuple[list[Place], Look]:
    """Return the cells of a detector that can teach, and what runs it.

    Raises:
        UsageError: for a detector of another kind.
    """
    return _scrfd(spec) if parse_peer(spec) else _own(spec)


def _own(spec: str) -> tuple[list[Place], Look]:
    """Return the cells of one of our own models, and what runs it."""
    from symbol_farm.trained_models import resolve_model

    model = resolve_model(spec)
    engine, branches = create_engine(model), model.network.branch_geometry
    places = [(branch.stride, float(branch.first_center)) for branch in branches]

    def look(images: NDArray[np.uint8]) -> dict[Place, Maps]:
        padded = np.stack([model.network.pad(image) for image in images])
        found: dict[Place, Maps] = {}
        for place, branch, maps in zip(places, branches, engine.run(padded), strict=True):
            count, _, height, width = maps["score"].shape
            codes = maps["box"][:, :4].transpose(0, 2, 3, 1).reshape(-1, 4)
            boxes = branch.decode(codes, _centers(branch, count, height, width)).reshape(count, height, width, 4)
            found[place] = Maps(maps["score"][:, 0], boxes)
        return found

    return places, look


def _scrfd(spec: str) -> tuple[list[Place], Look]:
    """Return the cells of a SCRFD file, and what runs it on single images, OpenVINO where it is installed."""
    parsed = parse_peer(spec)
    assert parsed is not None
    name, path = parsed
    if name != "scrfd":
        raise UsageError(f"{spec}: of other projects only peer:scrfd=FILE.onnx can teach cell by cell")
    peer, strides = PeerDetector(name, path, runtime=Runtime(threads=1)), (8, 16, 32)
    run = _openvino(path) if importlib.util.find_spec("openvino") else peer.forward

    def look(images: NDArray[np.uint8]) -> dict[Place, Maps]:
        height, width = images.shape[1:3]
        rows, columns = -height % 32, -width % 32
        padded = np.pad(images, ((0, 0), (0, rows), (0, columns), (0, 0)))
        outputs = [np.stack(parts) for parts in zip(*(run(peer.prepare(image)[0]) for image in padded), strict=True)]
        found: dict[Place, Maps] = {}
        for number, stride in enumerate(strides):
            h, w = padded.shape[1] // stride, padded.shape[2] // stride
            scores, sides = outputs[number].reshape(-1, h * w, 2), outputs[3 + number].reshape(-1, h * w, 2, 4)
            best = scores.argmax(2)[..., None]
            side = np.take_along_axis(sides, best[..., None], 2)[:, :, 0] * stride
            center = np.stack([np.arange(h * w) % w, np.arange(h * w) // w], axis=1) * stride
            box = np.concatenate([center - side[..., :2], center + side[..., 2:]], axis=2).astype(np.float32)
            score = np.take_along_axis(scores, best, 2)
            found[stride, 0.0] = Maps(score.reshape(-1, h, w), box.reshape(-1, h, w, 4))
        return found

    return [(stride, 0.0) for stride in strides], look


def _openvino(path: Path) -> Callable[[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Return what runs an ONNX file on one thread, in bf16 where the CPU has instructions for it."""
    core = require("openvino", "openvino").Core()
    bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    settings = {"INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()

    def run(tensor: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        request.infer({0: tensor}, share_inputs=True)
        return [request.get_output_tensor(number).data.copy() for number in range(6)]

    return run
