"""How a drawn face looks: colours, pose, hair, mouth and things worn, drawn at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Color = tuple[float, float, float]

SKIN_TONES = np.array([[38, 55, 88], [55, 88, 135], [85, 128, 180], [125, 165, 212], [185, 205, 236]], np.float64)
HAIR_TONES = np.array([[20, 22, 26], [28, 42, 70], [45, 80, 130], [95, 160, 205], [165, 165, 168]], np.float64)
HAIR_STYLES = {"bald": 0.12, "short": 0.3, "fringe": 0.2, "long": 0.26, "hat": 0.12}
MOUTHS = {"closed": 0.45, "smile": 0.35, "open": 0.2}
EXTRAS = {"none": 0.5, "glasses": 0.14, "sunglasses": 0.08, "beard": 0.12, "moustache": 0.06, "mask": 0.1}


@dataclass(frozen=True)
class Look:
    """How one face looks; colours are BGR, 0–255.

    Attributes:
        aspect: width of the face oval over its height.
        tilt: rotation in the picture, in radians, clockwise.
        yaw: turn to the side, -1 to 1; features move and narrow.
        pitch: nod, -1 to 1; features move up or down.
        skin, hair, iris, cloth, lips: colours.
        hair_style: `bald`, `short`, `fringe`, `long` or `hat`.
        mouth: `closed`, `smile` or `open`.
        extra: `none`, `glasses`, `sunglasses`, `beard`, `moustache` or `mask`.
        eye_open: 0.15 (nearly shut) to 1.
        light: x and y direction of the light, each -1 to 1.
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
    light: tuple[float, float]


def random_look(rng: np.random.Generator) -> Look:
    """Draw a look."""
    skin = _tone(rng, SKIN_TONES)
    return Look(
        aspect=rng.uniform(0.68, 0.86),
        tilt=_limit(rng.normal(0, 0.22), -0.7, 0.7),
        yaw=_limit(rng.normal(0, 0.4), -1, 1),
        pitch=_limit(rng.normal(0, 0.35), -1, 1),
        skin=skin,
        hair=_tone(rng, HAIR_TONES),
        iris=to_color(rng.uniform(20, 150, 3)),
        cloth=to_color(rng.uniform(10, 245, 3)),
        lips=to_color(np.array(skin) * rng.uniform((0.5, 0.45, 0.75), (0.75, 0.7, 1.05))),
        hair_style=_pick(rng, HAIR_STYLES),
        mouth=_pick(rng, MOUTHS),
        extra=_pick(rng, EXTRAS),
        eye_open=rng.uniform(0.15, 1),
        light=(rng.uniform(-1, 1), rng.uniform(-1, 1)),
    )


def _tone(rng: np.random.Generator, tones: NDArray[np.float64]) -> Color:
    """Return a colour between two neighbours of a scale, slightly off."""
    place = rng.uniform(0, len(tones) - 1)
    low = int(place)
    return to_color(tones[low] + (place - low) * (tones[low + 1] - tones[low]) + rng.normal(0, 7, 3))


def _pick(rng: np.random.Generator, shares: dict[str, float]) -> str:
    """Return one of the names, each with its share of the draws."""
    place = rng.random() * sum(shares.values())
    for name, share in shares.items():
        place -= share
        if place < 0:
            return name
    return name


def _limit(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def to_color(values: NDArray[np.float64]) -> Color:
    """Return BGR values as a colour, each limited to 0–255."""
    blue, green, red = (_limit(value, 0, 255) for value in values.tolist())
    return blue, green, red
