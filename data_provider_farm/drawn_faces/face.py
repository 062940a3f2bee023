"""One drawn face: the polygons that show a look at any place, size and tilt.

A face is described in its own frame: the origin in the middle of the face oval, x to the right, y down, and the
oval's half height as unit. Everything is a polygon in that frame, mapped to pixels and filled with soft edges.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_provider_farm.drawn_faces.looks import Color, Look, to_color
from lffd.boxes import Boxes

Pixels = NDArray[np.uint8]
Points = NDArray[np.float64]

FRACTION_BITS = 4
FRACTION = 1 << FRACTION_BITS
OVERPAINT = 0.6
"""OpenCV fills so many pixels beyond a polygon's edge."""
REACH = 2.6
"""How far a drawn person reaches from the middle of the face, in half heights."""
PERSON = np.array([[-1.5, -1.35], [1.5, -1.35], [1.5, 2.1], [-1.5, 2.1]])
"""Corners, in the face's frame, of what hair, hat and shoulders may cover."""
ANGLES = np.linspace(0, 2 * np.pi, 28, endpoint=False)
CIRCLE = np.stack((np.cos(ANGLES), np.sin(ANGLES)), axis=1)


def face_box(look: Look, center: tuple[float, float], half_height: float) -> Boxes:
    """Return the exact bounds of the tilted face oval, `(1, 4)` xyxy in pixels."""
    a, b = half_height * look.aspect, half_height
    cosine, sine = np.cos(look.tilt), np.sin(look.tilt)
    half = np.array([np.hypot(a * cosine, b * sine), np.hypot(a * sine, b * cosine)])
    return np.concatenate((center - half, center + half)).astype(np.float32).reshape(1, 4)


def person_box(look: Look, center: tuple[float, float], half_height: float) -> Boxes:
    """Return bounds of all that `draw_face` may paint over, shoulders included, `(1, 4)` xyxy in pixels."""
    corners = PERSON @ _rotation(look.tilt) * half_height + center
    return np.concatenate((corners.min(0), corners.max(0))).astype(np.float32).reshape(1, 4)


def _rotation(tilt: float) -> NDArray[np.float64]:
    """Return the matrix that turns row vectors by `tilt` radians."""
    cosine, sine = np.cos(tilt), np.sin(tilt)
    return np.array([[cosine, sine], [-sine, cosine]])


def draw_face(canvas: Pixels, look: Look, center: tuple[float, float], half_height: float) -> None:
    """Draw a face onto `canvas` `(H, W, 3)` BGR, in place.

    Args:
        canvas: the picture; parts outside it are cut off.
        look: what to draw.
        center: x, y of the oval's middle in pixels.
        half_height: of the face oval in pixels.
    """
    pen = _Pen(canvas, look, center, half_height)
    _draw_body(pen)
    if look.hair_style == "long":
        pen.fill(CIRCLE * (look.aspect * 1.3, 1.2) + (0, -0.1), look.hair)
        pen.fill(_box(-1.25 * look.aspect, 0, 1.25 * look.aspect, 1.15), look.hair)
    for side in (-1.0, 1.0):
        pen.fill(CIRCLE * (0.11, 0.2) + (side * look.aspect * (1 - 0.12 * side * look.yaw), 0.02), _dim(look.skin, 0.9))
    pen.fill(CIRCLE * (look.aspect, 1), look.skin)
    for side in (-1.0, 1.0):
        _draw_eye(pen, side)
    _draw_nose(pen)
    _draw_mouth(pen)
    _draw_extra(pen)
    _draw_hair(pen)
    pen.shade()


class _Pen:
    """Maps the face's frame to pixels and fills polygons there."""

    def __init__(self, canvas: Pixels, look: Look, center: tuple[float, float], half_height: float) -> None:
        self.canvas, self.look, self.half_height = canvas, look, half_height
        self.center = np.array(center, np.float64)
        # OpenCV counts from pixel centres, boxes from pixel corners.
        self.frame = FRACTION * (half_height - OVERPAINT) * _rotation(look.tilt)
        self.origin = FRACTION * (self.center - 0.5) + 0.5
        self.nod = np.array([0, 0.14 * look.pitch])
        self.narrowing, self.turn = 1 - 0.22 * abs(look.yaw), 0.34 * look.yaw * look.aspect

    def pixels(self, points: Points) -> NDArray[np.int32]:
        """Return fixed-point pixel positions, `(N, 2)`."""
        return np.floor(points @ self.frame + self.origin).astype(np.int32)

    def fill(self, points: Points, color: Color) -> None:
        """Fill a polygon given in the face's frame."""
        import cv2

        cv2.fillPoly(self.canvas, [self.pixels(points)], color, cv2.LINE_AA, FRACTION_BITS)

    def feature(self, points: Points, color: Color) -> None:
        """Fill a polygon that lies on the face: yaw and pitch move and narrow it."""
        moved = points + self.nod
        depth = np.sqrt(np.maximum(1 - moved[:, 1] ** 2, 0))
        moved[:, 0] = moved[:, 0] * self.narrowing + self.turn * depth
        self.fill(moved, color)

    def shade(self) -> None:
        """Darken the face away from the light and towards its rim."""
        import cv2

        height, width = self.canvas.shape[:2]
        low = np.maximum(np.floor(self.center - 1.05 * self.half_height), 0).astype(int)
        high = np.minimum(np.ceil(self.center + 1.05 * self.half_height), (width, height)).astype(int)
        if (high <= low).any():
            return
        x = (np.arange(low[0], high[0], dtype=np.float32) + 0.5 - self.center[0]) / self.half_height
        y = (np.arange(low[1], high[1], dtype=np.float32) + 0.5 - self.center[1]) / self.half_height
        light_x, light_y = self.look.light
        gain = (0.3 * light_y * y - 0.22 * y**2)[:, None] + (1.05 + 0.35 * light_x * x - 0.3 * x**2)[None, :]
        mask = np.zeros(gain.shape, np.uint8)
        oval = self.pixels(CIRCLE * (self.look.aspect, 1)) - (FRACTION * low).astype(np.int32)
        cv2.fillPoly(mask, [oval], (1,), cv2.LINE_8, FRACTION_BITS)
        factor = np.where(mask, gain, 1).astype(np.float32)
        region = self.canvas[low[1] : high[1], low[0] : high[0]]
        np.clip(region * factor[:, :, None], 0, 255, out=region, casting="unsafe")


def _draw_body(pen: _Pen) -> None:
    look = pen.look
    pen.fill(_box(-0.4 * look.aspect, 0.5, 0.4 * look.aspect, 1.4), _dim(look.skin, 0.75))
    shoulders = np.array([[-0.45, 1.15], [0.45, 1.15], [1.35, 1.5], [1.5, 2.1], [-1.5, 2.1], [-1.35, 1.5]])
    pen.fill(shoulders, look.cloth)


BROW = np.array([[-1.2, 0.01], [0, -0.05], [1.2, 0.05], [1.2, -0.01], [0, -0.13], [-1.2, -0.08]])
"""The right one in units of half an eye's width, and of the face's half height."""


def _draw_eye(pen: _Pen, side: float) -> None:
    look = pen.look
    middle = np.array([side * 0.42 * look.aspect, -0.14])
    width, height = 0.2 * look.aspect, 0.13 * look.aspect * look.eye_open
    if look.extra == "sunglasses":
        return
    pen.feature(CIRCLE * (1.25 * width, 0.13) + middle, _dim(look.skin, 0.82))
    pen.feature(CIRCLE * (width, height) + middle, (232, 234, 236))
    pen.feature(CIRCLE * (0.55 * width, min(height, 0.55 * width)) + middle, look.iris)
    pen.feature(CIRCLE * (0.28 * width, min(height, 0.28 * width)) + middle, (12, 12, 12))
    pen.feature(BROW * (side * width, 1) + middle + (0, -0.2), _dim(look.hair, 0.9))


def _draw_nose(pen: _Pen) -> None:
    bridge = np.array([[-0.03, -0.1], [0.05, -0.1], [0.12, 0.26], [-0.12, 0.26]])
    pen.feature(bridge, _dim(pen.look.skin, 0.9))
    pen.feature(CIRCLE * (0.14, 0.06) + (0, 0.25), _dim(pen.look.skin, 0.72))


def _draw_mouth(pen: _Pen) -> None:
    look, width = pen.look, 0.3 * pen.look.aspect / 0.77
    if look.mouth == "open":
        pen.feature(CIRCLE * (0.75 * width, 0.16) + (0, 0.56), look.lips)
        pen.feature(CIRCLE * (0.6 * width, 0.11) + (0, 0.56), (25, 20, 45))
        return
    x = np.linspace(-1, 1, 9)
    bend = (0.1 if look.mouth == "smile" else 0.01) * (1 - x**2)
    upper, lower = np.stack((x * width, 0.5 + bend), 1), np.stack((x * width, 0.5 + 1.6 * bend + 0.09 * (1 - x**2)), 1)
    pen.feature(np.concatenate((upper, lower[::-1])), look.lips)
    if look.mouth == "smile":
        teeth = np.concatenate((upper + np.array([0, 0.015]), (0.5 * (upper + lower))[::-1]))
        pen.feature(teeth * (0.8, 1), (225, 232, 235))


def _draw_extra(pen: _Pen) -> None:
    look = pen.look
    if look.extra == "mask":
        mask = np.array([[-0.9, 0.12], [0, 0.02], [0.9, 0.12], [0.8, 0.62], [0.35, 0.9], [-0.35, 0.9], [-0.8, 0.62]])
        pen.feature(mask * (look.aspect, 1), _mix(look.cloth, (225, 220, 205), 0.7))
    if look.extra in ("glasses", "sunglasses"):
        for side in (-1.0, 1.0):
            middle, outer = (side * 0.43 * look.aspect, -0.12), CIRCLE * (0.36 * look.aspect, 0.2)
            rim = outer if look.extra == "sunglasses" else np.concatenate((outer, outer[:1], 0.84 * outer[::-1]))
            pen.feature(rim + middle, (30, 28, 26))
        pen.feature(_box(-0.12, -0.18, 0.12, -0.13), (30, 28, 26))
    if look.extra == "beard":
        angles = np.linspace(0.05 * np.pi, 0.95 * np.pi, 17)
        outer = np.stack((look.aspect * np.cos(angles), np.sin(angles)), 1)
        inner = np.stack((0.62 * look.aspect * np.cos(angles), 0.3 + 0.42 * np.sin(angles)), 1)
        pen.fill(np.concatenate((outer, inner[::-1])), look.hair)
    if look.extra in ("beard", "moustache"):
        pen.feature(CIRCLE * (0.26, 0.06) + (0, 0.4), look.hair)


def _draw_hair(pen: _Pen) -> None:
    look, style = pen.look, pen.look.hair_style
    if style == "bald":
        return
    line = {"short": -0.62, "long": -0.6, "fringe": -0.38, "hat": -0.55}[style]
    angles = np.linspace(np.pi, 2 * np.pi, 19)
    top = np.stack((1.1 * look.aspect * np.cos(angles), -0.15 + 1.05 * np.sin(angles)), 1)
    edge = np.linspace(1, -1, 9)
    hairline = np.stack((1.0 * look.aspect * edge, line + 0.28 * edge**2 + 0.05 * look.yaw * edge), 1)
    pen.fill(np.concatenate((top, hairline)), look.cloth if style == "hat" else look.hair)
    if style == "hat":
        pen.fill(_box(-1.45 * look.aspect, -0.62, 1.45 * look.aspect, -0.5), _dim(look.cloth, 0.7))


def _box(x0: float, y0: float, x1: float, y1: float) -> Points:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def _dim(color: Color, factor: float) -> Color:
    return color[0] * factor, color[1] * factor, color[2] * factor


def _mix(first: Color, second: Color, share: float) -> Color:
    return to_color((1 - share) * np.array(first) + share * np.array(second))
