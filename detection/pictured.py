"""What programs and notebooks hand to a detector and get back: any picture in, detections that can be seen out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detection.detections import Detections, check_image
from detection.drawing import draw_detections
from lffd.errors import UsageError
from lffd.images.encoded import to_bgr
from lffd.images.files import read_picture

ColorOrder = Literal["BGR", "RGB"]


def to_pixels(picture: Any, color_order: ColorOrder = "BGR") -> NDArray[np.uint8]:
    """Return any picture as `(H, W, 3)` uint8, BGR.

    Args:
        picture: a file's name (read as `predict` reads it, turned the right way up); a PIL image of any mode, its
            pixels as they lie (what is transparent becomes white); or an array `(H, W, 3)` uint8.
        color_order: of an array; the others say it themselves.

    Raises:
        UsageError: for anything else, or an array of another shape or type.
        DataError: when a file cannot be read, or a PIL image has values that are no 8 or 16 bits.
    """
    if color_order not in ("BGR", "RGB"):
        raise UsageError(f"color_order must be 'BGR' or 'RGB', not {color_order!r}")
    if isinstance(picture, str | os.PathLike):
        return read_picture(picture)
    if isinstance(picture, np.ndarray):
        check_image(picture)
        return np.ascontiguousarray(picture[..., ::-1]) if color_order == "RGB" else picture
    from PIL.Image import Image

    if not isinstance(picture, Image):
        raise UsageError(f"an image is a file's name, a PIL image or a NumPy array, not {type(picture).__name__}")
    picture.load()
    return to_bgr(getattr(picture, "filename", "") or "the PIL image", picture)


@dataclass(frozen=True)
class PicturedDetections(Detections):
    """Detections that know their picture: a notebook shows them drawn in it.

    Attributes:
        pixels: the image that was looked at, `(H, W, 3)` uint8 BGR; not a copy.
        label: what was found, such as `face`.
    """

    pixels: NDArray[np.uint8] | None = None
    label: str = ""

    def __repr__(self) -> str:
        best = f", best {self.scores[0]:.2f}" if len(self) else ""
        return f"<{len(self)} detections{f' of {self.label}' if self.label else ''}{best}>"

    def draw(self) -> NDArray[np.uint8]:
        """Return the picture with boxes, labels and scores, `(H, W, 3)` uint8 BGR."""
        assert self.pixels is not None
        return draw_detections(self.pixels, self, label=self.label)

    def _repr_png_(self) -> bytes:
        """Return the picture for a notebook."""
        import cv2

        return cv2.imencode(".png", self.draw())[1].tobytes()
