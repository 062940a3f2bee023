"""One drawn face: how it looks, and the polygons that show it at any place, size and tilt.

A face is described in its own frame: the origin in the middle of the face oval, x to the right, y down, and the
oval's half height as unit. Everything is a polygon in that frame, mapped to pixels and filled with soft edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from data_provider_farm.drawn_faces.scenery import Pixels
from lffd.boxes import Boxes
from lffd.points import COUNT, HIDDEN, SEEN, Points

Polygon = NDArray[np.float64]
Color = NDArray[np.float64]

SKIN_TONES = np.array([[38, 55, 88], [55, 88, 135], [85, 128, 180], [125, 165, 212], [185, 205, 236]], np.float64)
HAIR_TONES = np.array([[20, 22, 26], [28, 42, 70], [45, 80, 130], [95, 160, 205], [165, 165, 168]], np.float64)
HAIRLINES = {"bald": 0.0, "short": -0.62, "fringe": -0.38, "long": -0.6, "hat": -0.55}
HAIR_SHARES = (0.12, 0.3, 0.2, 0.26, 0.12)
MOUTHS, MOUTH_SHARES = ("closed", "smile", "open"), (0.45, 0.35, 0.2)
EXTRAS, EXTRA_SHARES = ("none", "glasses", "sunglasses", "beard", "mask"), (0.54, 0.14, 0.08, 0.14, 0.1)

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
SHOULDERS = np.array([[-0.45, 1.15], [0.45, 1.15], [1.35, 1.5], [1.5, 2.1], [-1.5, 2.1], [-1.35, 1.5]])
BROW = np.array([[-1.2, 0.01], [0, -0.05], [1.2, 0.05], [1.2, -0.01], [0, -0.13], [-1.2, -0.08]])
NOSE = np.array([[-0.03, -0.1], [0.05, -0.1], [0.12, 0.26], [-0.12, 0.26]])
MASK = np.array([[-0.9, 0.12], [0, 0.02], [0.9, 0.12], [0.8, 0.62], [0.35, 0.9], [-0.35, 0.9], [-0.8, 0.62]])
DARK = np.array([28.0, 26.0, 26.0])
EYE, NOSE_TIP = (0.42, -0.14), (0.0, 0.25)
"""Middle of the right eye (x in shares of the face's aspect) and of the nose's tip, in the face's frame."""
MOUTH_CORNERS = {"closed": (1.0, 0.5), "smile": (1.0, 0.5), "open": (0.75, 0.56)}
"""Right corner of each mouth, x in shares of the mouth's width."""


@dataclass(frozen=True)
class Appearance:
    """How one face looks; colours are BGR, 0–255.

    Attributes:
        aspect: width of the face oval over its height.
        tilt: rotation in the picture, in radians, clockwise.
        yaw, pitch: turn to the side and nod, each -1 to 1; features move and narrow.
        hair_style, mouth, extra: one of `HAIRLINES`, `MOUTHS`, `EXTRAS`.
        eye_open: 0.15 (nearly shut) to 1.
    """

    aspect: float
    tilt: float
    yaw: float
    pitch: float
    skin: Color
    hair: Color
    iris: Color
    cloth: Color
    lips: Color
    hair_style: str
    mouth: str
    extra: str
    eye_open: float


def random_appearance(rng: np.random.Generator) -> Appearance:
    """Draw how a face looks."""
    skin = _tone(rng, SKIN_TONES)
    tilt, yaw, pitch = (rng.normal(0, (0.22, 0.4, 0.35))).clip((-0.7, -1, -1), (0.7, 1, 1)).tolist()
    return Appearance(
        aspect=rng.uniform(0.68, 0.86),
        tilt=tilt,
        yaw=yaw,
        pitch=pitch,
        skin=skin,
        hair=_tone(rng, HAIR_TONES),
        iris=rng.uniform(20, 150, 3),
        cloth=rng.uniform(10, 245, 3),
        lips=(skin * rng.uniform((0.5, 0.45, 0.75), (0.75, 0.7, 1.05))).clip(0, 255),
        hair_style=str(rng.choice(list(HAIRLINES), p=HAIR_SHARES)),
        mouth=str(rng.choice(MOUTHS, p=MOUTH_SHARES)),
        extra=str(rng.choice(EXTRAS, p=EXTRA_SHARES)),
        eye_open=rng.uniform(0.15, 1),
    )


def _tone(rng: np.random.Generator, tones: NDArray[np.float64]) -> Color:
    """Return a colour between two neighbours of a scale, slightly off."""
    low, share = divmod(rng.uniform(0, len(tones) - 1), 1)
    return (tones[int(low)] * (1 - share) + tones[int(low) + 1] * share + rng.normal(0, 7, 3)).clip(0, 255)


def face_box(look: Appearance, center: tuple[float, float], half_height: float) -> Boxes:
    """Return the exact bounds of the tilted face oval, `(1, 4)` xyxy in pixels."""
    half = half_height * np.linalg.norm(_rotation(look.tilt) * (look.aspect, 1), axis=1)
    return np.concatenate((center - half, center + half)).astype(np.float32).reshape(1, 4)


def face_points(look: Appearance, center: tuple[float, float], half_height: float) -> Points:
    """Return the five points of a face, `(1, 5, 3)` as in `lffd.points`; those under a mask or glasses are hidden."""
    corner = np.array(MOUTH_CORNERS[look.mouth]) * (mouth_width(look), 1)
    eye = np.array(EYE) * (look.aspect, 1)
    places = on_face(np.array([eye * (-1, 1), eye, NOSE_TIP, corner * (-1, 1), corner]), look)
    flags = np.full((COUNT, 1), SEEN, np.float64)
    flags[{"sunglasses": [0, 1], "mask": [2, 3, 4]}.get(look.extra, [])] = HIDDEN
    pixels = places @ _rotation(look.tilt) * half_height + center
    return np.concatenate((pixels, flags), axis=1).astype(np.float32)[None]


def mouth_width(look: Appearance) -> float:
    """Return half the width of a mouth, in the face's frame."""
    return 0.3 * look.aspect / 0.77


def on_face(points: Polygon, look: Appearance) -> Polygon:
    """Return where points `(N, 2)` of a face that looks at us lie when it turns: yaw and pitch move and narrow it."""
    moved = points + np.array([0, 0.14 * look.pitch])
    depth = np.sqrt(np.maximum(1 - moved[:, 1] ** 2, 0))
    moved[:, 0] = moved[:, 0] * (1 - 0.22 * abs(look.yaw)) + 0.34 * look.yaw * look.aspect * depth
    return moved


def person_box(look: Appearance, center: tuple[float, float], half_height: float) -> Boxes:
    """Return bounds of all that `draw_face` may paint over, shoulders included, `(1, 4)` xyxy in pixels."""
    corners = PERSON @ _rotation(look.tilt) * half_height + center
    return np.concatenate((corners.min(0), corners.max(0))).astype(np.float32).reshape(1, 4)


def _rotation(tilt: float) -> NDArray[np.float64]:
    """Return the matrix that turns row vectors by `tilt` radians."""
    return np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])


def draw_face(canvas: Pixels, look: Appearance, center: tuple[float, float], half_height: float) -> None:
    """Draw a face onto `canvas` `(H, W, 3)` BGR, in place; parts outside are cut off.

    The face oval has its middle at `center`, x and y in pixels, and `half_height` pixels above and below it.
    """
    pen, aspect = _Pen(canvas, look, center, half_height), look.aspect
    pen.fill(_box(-0.4 * aspect, 0.5, 0.4 * aspect, 1.4), 0.75 * look.skin)
    pen.fill(SHOULDERS, look.cloth)
    if look.hair_style == "long":
        pen.fill(CIRCLE * (aspect * 1.3, 1.2) + (0, -0.1), look.hair)
        pen.fill(_box(-1.25 * aspect, 0, 1.25 * aspect, 1.15), look.hair)
    for side in (-1.0, 1.0):
        ear = (side * aspect * (1 - 0.12 * side * look.yaw), 0.02)
        pen.fill(CIRCLE * (0.11, 0.2) + ear, 0.9 * look.skin)
    pen.fill(CIRCLE * (aspect, 1), look.skin)
    for side in (-1.0, 1.0) if look.extra != "sunglasses" else ():
        _draw_eye(pen, side)
    pen.feature(NOSE, 0.9 * look.skin)
    pen.feature(CIRCLE * (0.14, 0.06) + NOSE_TIP, 0.72 * look.skin)
    _draw_mouth(pen)
    _draw_extra(pen)
    _draw_hair(pen)


class _Pen:
    """Maps the face's frame to pixels and fills polygons there."""

    def __init__(self, canvas: Pixels, look: Appearance, center: tuple[float, float], half_height: float) -> None:
        self.canvas, self.look = canvas, look
        # OpenCV counts from pixel centres, boxes from pixel corners.
        self.frame = FRACTION * (half_height - OVERPAINT) * _rotation(look.tilt)
        self.origin = FRACTION * (np.array(center) - 0.5) + 0.5

    def fill(self, points: Polygon, color: Color) -> None:
        """Fill a polygon given in the face's frame."""
        pixels = np.floor(points @ self.frame + self.origin).astype(np.int32)
        cv2.fillPoly(self.canvas, [pixels], color.tolist(), cv2.LINE_AA, FRACTION_BITS)

    def feature(self, points: Polygon, color: Color) -> None:
        """Fill a polygon that lies on the face."""
        self.fill(on_face(points, self.look), color)


def _draw_eye(pen: _Pen, side: float) -> None:
    look = pen.look
    middle = np.array(EYE) * (side * look.aspect, 1)
    width, height = 0.2 * look.aspect, 0.13 * look.aspect * look.eye_open
    pen.feature(CIRCLE * (1.25 * width, 0.13) + middle, 0.82 * look.skin)
    pen.feature(CIRCLE * (width, height) + middle, np.array([232.0, 234, 236]))
    for share, color in ((0.55, look.iris), (0.28, DARK)):
        pen.feature(CIRCLE * (share * width, min(height, share * width)) + middle, color)
    pen.feature(BROW * (side * width, 1) + middle + (0, -0.2), 0.9 * look.hair)


def _draw_mouth(pen: _Pen) -> None:
    look, width = pen.look, mouth_width(pen.look)
    if look.mouth == "open":
        share, y = MOUTH_CORNERS["open"]
        pen.feature(CIRCLE * (share * width, 0.16) + (0, y), look.lips)
        pen.feature(CIRCLE * (0.6 * width, 0.11) + (0, y), DARK)
        return
    x = np.linspace(-1, 1, 9)
    bend = (0.1 if look.mouth == "smile" else 0.01) * (1 - x**2)
    upper, lower = np.stack((x * width, 0.5 + bend), 1), np.stack((x * width, 0.5 + 1.6 * bend + 0.09 * (1 - x**2)), 1)
    pen.feature(np.concatenate((upper, lower[::-1])), look.lips)
    if look.mouth == "smile":
        pen.feature(np.concatenate((upper, 0.5 * (upper + lower)[::-1])) * (0.8, 1), np.array([225.0, 232, 235]))


def _draw_extra(pen: _Pen) -> None:
    look = pen.look
    if look.extra == "mask":
        pen.feature(MASK * (look.aspect, 1), 0.3 * look.cloth + (158, 154, 144))
    if look.extra in ("glasses", "sunglasses"):
        outer = CIRCLE * (0.36 * look.aspect, 0.2)
        rim = outer if look.extra == "sunglasses" else np.concatenate((outer, outer[:1], 0.84 * outer[::-1]))
        for side in (-1.0, 1.0):
            pen.feature(rim + np.array([side * 0.43 * look.aspect, -0.12]), DARK)
        pen.feature(_box(-0.12, -0.18, 0.12, -0.13), DARK)
    if look.extra == "beard":
        angles = np.linspace(0.05 * np.pi, 0.95 * np.pi, 17)
        outer = np.stack((look.aspect * np.cos(angles), np.sin(angles)), 1)
        inner = np.stack((0.62 * look.aspect * np.cos(angles), 0.3 + 0.42 * np.sin(angles)), 1)
        pen.fill(np.concatenate((outer, inner[::-1])), look.hair)
        pen.feature(CIRCLE * (0.26, 0.06) + (0, 0.4), look.hair)


def _draw_hair(pen: _Pen) -> None:
    look, hat = pen.look, pen.look.hair_style == "hat"
    if look.hair_style == "bald":
        return
    angles, edge = np.linspace(np.pi, 2 * np.pi, 19), np.linspace(1, -1, 9)
    top = np.stack((1.1 * look.aspect * np.cos(angles), -0.15 + 1.05 * np.sin(angles)), 1)
    height = HAIRLINES[look.hair_style] + 0.28 * edge**2 + 0.05 * look.yaw * edge
    pen.fill(np.concatenate((top, np.stack((look.aspect * edge, height), 1))), look.cloth if hat else look.hair)
    if hat:
        pen.fill(_box(-1.45 * look.aspect, -0.62, 1.45 * look.aspect, -0.5), 0.7 * look.cloth)


def _box(x0: float, y0: float, x1: float, y1: float) -> Polygon:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
