"""What a detector says about one image, and the shape of anything that says it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lffd.errors import UsageError


@dataclass(frozen=True)
class Detections:
    """The objects found in one image, best first.

    Attributes:
        boxes: `(N, 4)` float32 xyxy in pixels of the image that was given.
        scores: `(N,)` float32, 0–1, falling.
        landmarks: `(N, 5, 2)` float32 x, y in pixels of the image, in the order of `lffd.points`: of an upright face
            the eye on the image's left, the other eye, the nose, the mouth corner on the image's left, the other
            corner; None where the detector has none.
        branches: `(N,)` int8, the branch that found each object, 0 the shallowest; None where it has no meaning.

    Raises:
        UsageError: when the shapes disagree or the scores rise.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    landmarks: NDArray[np.float32] | None = None
    branches: NDArray[np.int8] | None = None

    def __post_init__(self) -> None:
        count = self.scores.shape[0] if self.scores.ndim == 1 else -1
        for name, shape in (("boxes", (count, 4)), ("landmarks", (count, 5, 2)), ("branches", (count,))):
            if (array := getattr(self, name)) is not None and array.shape != shape:
                raise UsageError(f"{name} of shape {array.shape} do not go with scores of shape {self.scores.shape}")
        if count > 1 and not np.all(np.diff(self.scores) <= 0):
            raise UsageError("detections must come best first: their scores rise somewhere, or are not numbers")

    def __len__(self) -> int:
        return self.scores.shape[0]

    def top(self, count: int) -> Detections:
        """Return the best `count` detections."""
        each = {field.name: getattr(self, field.name) for field in fields(Detections)}
        parts: dict[str, Any] = {name: array[: max(count, 0)] for name, array in each.items() if array is not None}
        return replace(self, **parts)

    def above(self, threshold: float) -> Detections:
        """Return the detections whose score is over `threshold`."""
        return self.top(int(np.count_nonzero(self.scores > threshold)))


class ImageDetector(Protocol):
    """Finds objects in one image: our own networks and the detectors of other projects alike."""

    name: str
    has_landmarks: bool
    """Whether its detections have landmarks."""

    def __call__(self, image: NDArray[np.uint8], /) -> Detections:
        """Return what is in `image` `(H, W, 3)` uint8, BGR; boxes in its pixels, best first."""
        ...


def check_image(image: NDArray[np.uint8]) -> None:
    """Refuse anything but a uint8 image `(H, W, 3)` of at least one pixel.

    Raises:
        UsageError: with the shape and type that came.
    """
    if not isinstance(image, np.ndarray):
        raise UsageError(f"an image must be a NumPy array, not {type(image).__name__}; cv2.imread makes one of a file")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UsageError(f"an image must be uint8 (H, W, 3) in BGR order, not {image.dtype} {image.shape}")
