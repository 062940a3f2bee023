"""ONNX and OpenVINO detectors of other projects, run side by side with ours: `peer:KIND=FILE.onnx` or `FILE.xml`.

The file is checked against its kind (`kinds.py`) before anything runs. One that subtracts a mean from its image itself
gets the image as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.detections import Detections, check_image
from detection.peers.kinds import check_input, match_outputs, peer_kind
from detection.peers.openvino_session import OpenVinoSession
from detection.selection import Selection
from lffd.engines.base import telling
from lffd.engines.onnxruntime_engine import open_session, providers
from lffd.engines.runtime import Runtime
from lffd.errors import EngineError, ModelError
from symbol_farm.onnx_layers import OnnxFile


class PeerDetector:
    """One file of a known kind; an `ImageDetector` of the name `KIND:FILE`, without the folder."""

    def __init__(
        self, kind: str, path: str | Path, selection: Selection | None = None, runtime: Runtime | None = None
    ) -> None:
        """Load the file and check it against its kind, a name from `KINDS`; of `runtime`, device and threads count.

        Raises:
            UsageError: for an unknown kind, with the nearest.
            ModelError: for a file that cannot be loaded, or whose inputs or outputs are not those of the kind.
            EngineError: when ONNX Runtime is missing or does not know the device.
        """
        runtime = runtime or Runtime()
        self.kind = peer_kind(kind)
        self.has_landmarks = self.kind.has_landmarks
        self.selection = selection or Selection()
        self.name = f"{kind}:{Path(path).name}"
        of_openvino = Path(path).suffix == ".xml"
        if not of_openvino:
            providers(runtime.device)
        if not Path(path).is_file():
            raise ModelError(f"{path}: no such file")
        try:
            self._session: Any = (
                OpenVinoSession(Path(path), runtime.device, runtime.threads)
                if of_openvino
                else open_session(str(path), runtime.device, runtime.threads)
            )
        except EngineError as error:
            raise ModelError(f"{path}: cannot be loaded: {error}") from error
        try:
            self._outputs = match_outputs(self._session, self.kind)
            self._input, self._fixed_size = check_input(self._session, self.kind)
        except ModelError as error:
            raise ModelError(f"{path} is not of kind {kind}: {error}") from error
        self._normalised = self._session.shifts_image() if of_openvino else _shifts_image(Path(path))
        # Converters that put the mean inside put blue first too, as the converted models' documents say.
        self._rgb = self.kind.color_order == "RGB" and not (of_openvino and self._normalised)

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        """Return what is in `image` `(H, W, 3)` uint8, BGR.

        Raises:
            UsageError: when the image has another type or shape.
            EngineError: when ONNX Runtime fails on it, or its outputs do not fit together.
        """
        tensor, scale = self.prepare(image)
        outputs = self.forward(tensor)
        with telling(f"{self.name}: its outputs of shapes {[output.shape for output in outputs]} cannot be decoded"):
            found = self.kind.decode(outputs, tensor.shape[2], tensor.shape[3], self.selection.score_threshold)
        boxes = (found.boxes / np.tile(scale, 2)).astype(np.float32)
        kept = self.selection.select(boxes, found.scores)
        landmarks = None if found.landmarks is None else (found.landmarks[kept] / scale).astype(np.float32)
        return Detections(boxes[kept], found.scores[kept].astype(np.float32), landmarks)

    def prepare(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the network's input `(1, 3, h, w)` float32 for an image, and the x and y factors of its resizing.

        A kind with a size of its own gets images stretched to it; a file with a fixed size gets them letterboxed: as
        large as fits, at the upper left, with black beside.
        """
        import cv2

        check_image(image)
        height, width = image.shape[:2]
        target_width, target_height = self.kind.input_size or self._fixed_size or self.kind.padded(width, height)
        scale = np.ones(2, np.float32)
        if self.kind.input_size or self._fixed_size:
            scale[:] = target_width / width, target_height / height
        if not self.kind.input_size:
            scale[:] = scale.min()
        if not np.all(scale == 1):
            size = np.maximum(np.rint(scale * (width, height)), 1).astype(int)
            image = np.asarray(cv2.resize(image, size.tolist(), interpolation=cv2.INTER_LINEAR), np.uint8)
        canvas = np.zeros((target_height, target_width, 3), np.float32)
        canvas[: image.shape[0], : image.shape[1]] = image[..., ::-1] if self._rgb else image
        if not self._normalised:
            canvas = (canvas - np.array(self.kind.mean, np.float32)) / np.float32(self.kind.scale)
        return np.ascontiguousarray(canvas.transpose(2, 0, 1))[None], scale

    def forward(self, tensor: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Run the network on `(1, 3, h, w)` and return its outputs in the order of the kind."""
        with telling(f"ONNX Runtime failed on {self.name} at input {tensor.shape}"):
            outputs: list[NDArray[np.float32]] = self._session.run(self._outputs, {self._input: tensor})
        return outputs


def _shifts_image(path: Path) -> bool:
    """Return whether an ONNX file itself subtracts something from its image."""
    scale = OnnxFile(path).input_scale()
    return scale is not None and bool(np.any(scale.offset != 0))
