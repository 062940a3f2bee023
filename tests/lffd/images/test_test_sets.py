from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from lffd.ahead import map_ahead
from lffd.errors import DataError
from lffd.images.files import read_image


def save(path: Path, value: int) -> Path:
    cv2.imwrite(str(path), np.full((4, 6, 3), (value, 0, 255), np.uint8))
    return path


def test_images_come_in_order_as_bgr(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{number}.png", number) for number in range(12)]
    found = list(map_ahead(read_image, paths))
    assert [image[0, 0].tolist() for image in found] == [[number, 0, 255] for number in range(12)]
    assert all(image.shape == (4, 6, 3) and image.dtype == np.uint8 for image in found)
    assert list(map_ahead(read_image, [])) == []


def test_a_camera_turned_on_its_side_does_not_turn_the_pixels(tmp_path: Path) -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    data = cv2.imencode(".jpg", np.zeros((4, 6, 3), np.uint8))[1].tobytes()
    path = tmp_path / "turned.jpg"
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    assert cv2.imread(str(path)).shape == (6, 4, 3)  # the tag is there
    assert read_image(path).shape == (4, 6, 3)


@pytest.mark.parametrize("content", [None, b"", b"not an image"])
def test_what_is_no_image_is_named_when_its_turn_comes(tmp_path: Path, content: bytes | None) -> None:
    good, bad = save(tmp_path / "good.png", 1), tmp_path / "bad.png"
    if content is not None:
        bad.write_bytes(content)
    images = map_ahead(read_image, [good, bad, good])
    assert next(images).shape == (4, 6, 3)
    with pytest.raises(DataError, match=r"bad\.png"):
        next(images)
