"""Faces turned upright and brought to one size by their five points, as networks that tell people apart want them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

ALIGNED_SIDE = 112

TEMPLATE = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)], np.float32
)
"""Where the five points go in an aligned face of 112×112 pixels: the usual template of face recognition (ArcFace, arXiv
1801.07698), which counts from the middle of the first pixel."""

LEAST_SCALE = 1e-3
"""Points so far apart, or at one place, are no face's; they give a picture all the same."""


def similarity(points: NDArray[np.float32], targets: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the rotation, scaling and shift that brings points nearest to their targets in squared distance.

    The closed form of Umeyama (IEEE TPAMI 13.4, 1991) in the plane, where points are complex numbers; nothing is
    mirrored. Points that all lie at one place are moved to the middle of the targets.

    Args:
        points: `(N, 2)` x, y.
        targets: `(N, 2)` x, y.

    Returns:
        `(2, 3)`: the matrix, and the shift as its last column.
    """
    source, target = (values.astype(np.float64) @ (1, 1j) for values in (points, targets))
    middle, goal = source.mean(), target.mean()
    spread = float(np.square(np.abs(source - middle)).sum())
    turn = np.vdot(source - middle, target - goal) / spread if spread > 0 else 0j
    shift = goal - turn * middle
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def align_face(image: NDArray[np.uint8], points: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a face cut out of an image by its five points `(5, 2)`, `(112, 112, 3)` uint8, BGR; black outside.

    Large faces are averaged down first, so that no pixel of theirs is skipped.
    """
    import cv2

    matrix = similarity(points, TEMPLATE)
    scale = float(np.hypot(*matrix[:, 0]))
    factor = math.floor(1 / scale) if scale > LEAST_SCALE else 1
    if factor > 1:
        image, matrix = _reduced(image, matrix, factor)
    size = (ALIGNED_SIDE, ALIGNED_SIDE)
    return np.asarray(cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR), np.uint8)


def _reduced(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], factor: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return the part of an image that a matrix shows, so many times smaller, and the matrix for it."""
    import cv2

    corners = np.array([(x, y) for x in (0, ALIGNED_SIDE) for y in (0, ALIGNED_SIDE)], np.float64)
    places = (corners - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    height, width = image.shape[:2]
    left, top = (int(value) for value in np.clip(np.floor(places.min(0)) - factor, 0, (width - 1, height - 1)))
    right, bottom = (
        int(value) for value in np.clip(np.ceil(places.max(0)) + factor, (left + 1, top + 1), (width, height))
    )
    part = image[top:bottom, left:right]
    rows, columns = (-(-length // factor) * factor for length in part.shape[:2])
    part = np.pad(part, ((0, rows - part.shape[0]), (0, columns - part.shape[1]), (0, 0)), mode="edge")
    small = cv2.resize(part, (columns // factor, rows // factor), interpolation=cv2.INTER_AREA)
    # The middle of the small picture's pixel u is that of the source's pixels u·factor to u·factor + factor − 1.
    offset = np.array([left, top]) + (factor - 1) / 2
    moved = np.column_stack((matrix[:, :2] * factor, matrix[:, :2] @ offset + matrix[:, 2]))
    return np.asarray(small, np.uint8), moved
