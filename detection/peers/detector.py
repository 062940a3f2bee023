"""ONNX detectors of other projects, run side by side with ours: `peer:KIND=FILE.onnx`.

The file is checked against its kind (`peer_kinds.py`) before anything runs.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.detections import Detections, check_image
from detection.peers.kinds import check_input, match_outputs, peer_kind
from detection.selection import Selection
from lffd.errors import EngineError, ModelError, UsageError


class PeerDetector:
    """One ONNX file of a known kind; an `ImageDetector`.

    Attributes:
        name: `KIND:FILE` without the folder.
        kind: how the network is fed and read.
        selection: which candidates become detections.
    """

    def __init__(
        self,
        kind: str,
        path: str | os.PathLike[str],
        selection: Selection | None = None,
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        """Load the file and check it against its kind.

        Args:
            kind: a name from `KINDS`.
            path: the ONNX file.
            selection: the defaults of `Selection` when None.
            device: `cpu`, or `gpu:0`, `gpu:1`, … where ONNX Runtime is built for it.
            threads: of the CPU; ONNX Runtime's own choice when None.

        Raises:
            UsageError: for an unknown kind, with the nearest; for a number of threads under 1.
            ModelError: for a file that cannot be loaded, or whose inputs or outputs are not those of the kind.
            EngineError: when ONNX Runtime is missing or does not know the device.
        """
        self.kind = peer_kind(kind)
        self.selection = selection or Selection()
        self.name = f"{kind}:{Path(path).name}"
        self._session = _open_session(Path(path), device, threads)
        try:
            self._outputs = match_outputs(self._session, self.kind)
            self._input, self._fixed_size = check_input(self._session, self.kind)
        except ModelError as error:
            raise ModelError(f"{path} is not of kind {kind}: {error}") from error

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        """Return what is in `image` `(H, W, 3)` uint8, BGR.

        Raises:
            UsageError: when the image has another type or shape.
            EngineError: when ONNX Runtime fails on it.
        """
        tensor, scale = self.prepare(image)
        found = self.kind.decode(self.forward(tensor), tensor.shape[2], tensor.shape[3], self.selection.score_threshold)
        boxes = (found.boxes / np.tile(scale, 2)).astype(np.float32)
        kept = self.selection.select(boxes, found.scores)
        landmarks = None if found.landmarks is None else (found.landmarks[kept] / scale).astype(np.float32)
        return Detections(boxes[kept], found.scores[kept].astype(np.float32), landmarks)

    def prepare(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the network's input `(1, 3, h, w)` float32 for an image, and the x and y factors of its resizing."""
        import cv2

        check_image(image)
        height, width = image.shape[:2]
        target_width, target_height = self._input_size(width, height)
        scale = np.ones(2, np.float32)
        if self.kind.input_size:
            scale = np.array([target_width / width, target_height / height], np.float32)
        elif self._fixed_size:
            scale[:] = min(target_width / width, target_height / height)
        if not np.all(scale == 1):
            size = np.maximum(np.rint(scale * (width, height)), 1).astype(int)
            image = np.asarray(cv2.resize(image, size.tolist(), interpolation=cv2.INTER_LINEAR), np.uint8)
        canvas = np.zeros((target_height, target_width, 3), np.float32)
        canvas[: image.shape[0], : image.shape[1]] = image[..., ::-1] if self.kind.color_order == "RGB" else image
        canvas = (canvas - np.array(self.kind.mean, np.float32)) / np.float32(self.kind.scale)
        return np.ascontiguousarray(canvas.transpose(2, 0, 1))[None], scale

    def forward(self, tensor: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Run the network on `(1, 3, h, w)` and return its outputs in the order of the kind."""
        try:
            outputs: list[NDArray[np.float32]] = self._session.run(self._outputs, {self._input: tensor})
        except _session_errors() as error:
            raise EngineError(f"ONNX Runtime failed on {self.name} at input {tensor.shape}: {error}") from error
        return outputs

    def _input_size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of the network's input for an image."""
        multiple = self.kind.multiple
        return (
            self.kind.input_size
            or self._fixed_size
            or (-(-width // multiple) * multiple, -(-height // multiple) * multiple)
        )


def _open_session(path: Path, device: str, threads: int | None) -> Any:
    """Return an ONNX Runtime session."""
    runtime = _import_runtime()
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be at least 1, not {threads}")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return runtime.InferenceSession(str(path), options, providers=_providers(runtime, device))
    except _session_errors() as error:
        raise ModelError(f"{path}: ONNX Runtime cannot load it: {error}") from error


def _providers(runtime: ModuleType, device: str) -> list[Any]:
    """Return ONNX Runtime's providers for a device."""
    if device == "cpu":
        return ["CPUExecutionProvider"]
    name, _, number = device.partition(":")
    if name not in ("gpu", "cuda") or not (number or "0").isdecimal():
        raise EngineError(f"unknown device {device!r}: use cpu, gpu:0, gpu:1, …")
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        raise EngineError(
            f"device {device} cannot be used: this ONNX Runtime is built for CPUs; install onnxruntime-gpu"
        )
    return [("CUDAExecutionProvider", {"device_id": int(number or 0)}), "CPUExecutionProvider"]


def _import_runtime() -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(
            f"ONNX Runtime cannot be imported ({error}); install it with: pip install -e '.[onnx]'"
        ) from error
    return onnxruntime


def _session_errors() -> tuple[type[Exception], ...]:
    """Return the errors that ONNX Runtime raises; they have no common base but `Exception`."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return tuple(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))
