"""Each decoder against one anchor worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from detection.peers import decoders as peer_decoders
from detection.peers.decoders import STRIDES, PeerBoxes
from lffd.errors import ModelError

HEIGHT, WIDTH = 64, 96
CELLS = {stride: (HEIGHT // stride) * (WIDTH // stride) for stride in STRIDES}


def zeros(count: int, *widths: int) -> list[np.ndarray]:
    return [np.zeros((1, count, width), np.float32) for width in widths]


def assert_one(found: PeerBoxes, box: list[float], score: float, landmarks: Sequence[float] | None) -> None:
    np.testing.assert_allclose(found.boxes, [box], rtol=1e-5)
    np.testing.assert_allclose(found.scores, [score], rtol=1e-5)
    if landmarks is None:
        assert found.landmarks is None
    else:
        assert found.landmarks is not None
        np.testing.assert_allclose(found.landmarks.reshape(1, 10), [landmarks], rtol=1e-5)


def test_ultra_light_gives_corners_in_parts_of_the_image() -> None:
    scores, boxes = zeros(4420, 2, 4)
    scores[0, 7], boxes[0, 7] = (0.1, 0.9), (0.25, 0.5, 0.75, 1)
    assert_one(peer_decoders.decode_ultra_light([scores, boxes], 240, 320, 0.5), [80, 120, 240, 240], 0.9, None)


@pytest.mark.parametrize("logits", [False, True])
def test_retinaface_anchor_form(logits: bool) -> None:
    deltas, classes, marks = zeros(2 * sum(CELLS.values()), 4, 2, 10)
    classes[0] = (5, -5) if logits else (1, 0)
    number = 2 * CELLS[8] + 2 * (1 * 6 + 2) + 1  # stride 16, row 1, column 2, the larger anchor: 128 wide at (40, 24)
    classes[0, number] = (0, math.log(4)) if logits else (0.2, 0.8)
    deltas[0, number] = (1, -1, 5 * math.log(2), 0)
    marks[0, number] = (-1, 1, 0, 0, 0.5, 0, 0, 0, 0, 2)
    found = peer_decoders.decode_retinaface([deltas, classes, marks], HEIGHT, WIDTH, 0.5)
    x, y = 40 + 12.8, 24 - 12.8
    landmarks = [40 - 12.8, 24 + 12.8, 40, 24, 40 + 6.4, 24, 40, 24, 40, 24 + 25.6]
    assert_one(found, [x - 128, y - 64, x + 128, y + 64], 0.8, landmarks)


def test_retinaface_rounds_maps_up_where_the_image_is_no_multiple() -> None:
    count = 2 * (9 * 13 + 5 * 7 + 3 * 4)
    found = peer_decoders.decode_retinaface(zeros(count, 4, 2, 10), 65, 97, 0.6)
    assert found.boxes.shape == (0, 4)


def test_640_pixels_have_16800_anchors() -> None:
    found = peer_decoders.decode_retinaface(zeros(16800, 4, 2, 10), 640, 640, 0.6)
    assert found.boxes.shape == (0, 4)


@pytest.mark.parametrize("backwards", [False, True])
def test_retinaface_maps_form(backwards: bool) -> None:
    maps = {
        (stride, channels): np.zeros((1, channels, HEIGHT // stride, WIDTH // stride), np.float32)
        for stride in (32, 16, 8)
        for channels in (4, 8, 20)
    }
    maps[16, 4][0, 3, 1, 2] = 0.7  # face of the second anchor: 64 wide, counted with its border, at (39.5, 23.5)
    maps[16, 8][0, 4:, 1, 2] = (0.25, 0, math.log(0.5), 0)
    maps[16, 20][0, 10:, 1, 2] = (0, 0, 0.5, -0.25, 0, 0, 0, 0, 1, 1)
    outputs = list(maps.values())[::-1] if backwards else list(maps.values())
    found = peer_decoders.decode_retinaface_maps(outputs, HEIGHT, WIDTH, 0.5)
    landmarks = [39.5, 23.5, 71.5, 7.5, 39.5, 23.5, 39.5, 23.5, 103.5, 87.5]
    assert_one(found, [55.5 - 15.5, 23.5 - 31.5, 55.5 + 15.5, 23.5 + 31.5], 0.7, landmarks)


def test_retinaface_maps_anchor_without_deltas_is_the_published_one() -> None:
    maps = [np.zeros((1, c, 64 // s, 64 // s), np.float32) for s in (32, 16, 8) for c in (4, 8, 20)]
    maps[0][0, 2, 0, 0] = 1  # the first anchor of stride 32
    maps[6][0, 2, 0, 0] = 1  # and of stride 8
    found = peer_decoders.decode_retinaface_maps(maps, 64, 64, 0.5)
    assert found.boxes.tolist() == [[-248, -248, 263, 263], [-8, -8, 23, 23]]


def test_yunet() -> None:
    outputs = [zeros(CELLS[stride], width)[0] for width in (1, 1, 4, 10) for stride in STRIDES]
    cell = 1 * 6 + 2  # stride 16, row 1, column 2
    outputs[1][0, cell], outputs[4][0, cell] = 0.9, 0.4
    outputs[7][0, cell] = (0.5, 0.25, math.log(2), math.log(3))
    outputs[10][0, cell] = (0, 0, 1, 0, 0, 1, 0, 0, -0.5, 0.5)
    found = peer_decoders.decode_yunet(outputs, HEIGHT, WIDTH, 0.5)
    landmarks = [32, 16, 48, 16, 32, 32, 32, 16, 24, 24]
    assert_one(found, [40 - 16, 20 - 24, 40 + 16, 20 + 24], 0.6, landmarks)


@pytest.mark.parametrize("batch", [(1,), ()])
def test_scrfd(batch: tuple[int, ...]) -> None:
    outputs = [np.zeros((*batch, 2 * CELLS[stride], width), np.float32) for width in (1, 4, 10) for stride in STRIDES]
    number = 2 * (1 * 6 + 2)  # stride 16, row 1, column 2: the point (32, 16)
    outputs[1][..., number, 0] = 0.8
    outputs[4][..., number, :] = (1, 0.5, 2, 3)
    outputs[7][..., number, :] = (-1, 0, 1, 0, 0, 1, 0, 2, 0.5, 2)
    found = peer_decoders.decode_scrfd(outputs, HEIGHT, WIDTH, 0.5)
    assert_one(found, [16, 8, 64, 64], 0.8, [16, 16, 48, 16, 32, 32, 32, 48, 40, 48])


@pytest.mark.parametrize(
    ("decoder", "outputs"),
    [
        (peer_decoders.decode_retinaface, zeros(10, 4, 2, 10)),
        (peer_decoders.decode_retinaface_maps, [np.zeros((1, c, 5, 5), np.float32) for c in (4, 8, 20)] * 3),
        (peer_decoders.decode_yunet, zeros(10, *[1] * 6, *[4] * 3, *[10] * 3)),
        (peer_decoders.decode_scrfd, zeros(10, *[1] * 3, *[4] * 3, *[10] * 3)),
    ],
)
def test_another_number_of_anchors_is_refused(decoder: peer_decoders.Decoder, outputs: list[np.ndarray]) -> None:
    with pytest.raises(ModelError, match="its kind has"):
        decoder(outputs, HEIGHT, WIDTH, 0.5)
