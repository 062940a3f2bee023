"""An engine that knows the answer: white rectangles on black are the objects."""

from __future__ import annotations

import numpy as np

from lffd.engines import BranchMaps
from lffd.graphs.network import Network


class OracleEngine:
    """Answers like a perfectly trained network: cells in the middle of a white rectangle in their range report it.

    It sees only the pixels that it is given, so it follows resizing, padding and tiling.
    """

    name = "mxnet"
    device = "cpu"

    def __init__(self, network: Network) -> None:
        self.network = network
        self.shapes: list[tuple[int, ...]] = []

    def run(self, images: np.ndarray) -> list[BranchMaps]:
        self.shapes.append(images.shape)
        count, height, width = images.shape[:3]
        maps: list[BranchMaps] = [
            {"score": np.zeros((count, 1, h, w), np.float32), "box": np.zeros((count, 4, h, w), np.float32)}
            for h, w in self.network.map_sizes(height, width)
        ]
        for row, image in enumerate(images):
            for box in _rectangles(image):
                self._report(maps, row, box)
        return maps

    def _report(self, maps: list[BranchMaps], row: int, box: np.ndarray) -> None:
        side = max(box[2] - box[0], box[3] - box[1])
        for geometry, part in zip(self.network.branch_geometry, maps, strict=True):
            if not geometry.object_range[0] - 0.5 <= side < geometry.object_range[1]:
                continue
            rows, columns = part["score"].shape[2:]
            x, y = geometry.centers(columns), geometry.centers(rows)
            middle, reach = (box[:2] + box[2:]) / 2, max(0.2 * side, geometry.stride / 2 + 0.01)
            for i in np.flatnonzero(np.abs(y - middle[1]) <= reach):
                for j in np.flatnonzero(np.abs(x - middle[0]) <= reach):
                    place = np.array([[x[j], y[i]]], np.float32)
                    distance = float(np.abs(place[0] - middle).sum())
                    part["score"][row, 0, i, j] = 1 / (1.01 + distance / 100)
                    part["box"][row, :, i, j] = geometry.encode(box[None], place)[0]


def _rectangles(image: np.ndarray) -> np.ndarray:
    """Return the bounding boxes of the white regions, `(N, 4)`."""
    import cv2

    white = (image.min(axis=2) > 127).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(white)
    corners = stats[1:, :4].astype(np.float32)
    corners[:, 2:] += corners[:, :2]
    return corners


def scene(height: int, width: int, *boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Return a black picture `(height, width, 3)` uint8 with white rectangles."""
    image = np.zeros((height, width, 3), np.uint8)
    for x0, y0, x1, y1 in boxes:
        image[y0:y1, x0:x1] = 255
    return image
