"""What a detector takes in Python, and what a notebook shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detection.detector import Detector
from detection.pictured import PicturedDetections, to_pixels
from lffd.errors import DataError, UsageError
from lffd.images.encoded import decode
from lffd.images.files import read_picture
from tests.conftest import PROJECT

PHOTO = PROJECT / "docs" / "examples" / "family.jpg"


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return read_picture(PHOTO)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.load("face_light", threads=1)


@pytest.mark.parametrize("form", ["name", "path", "PIL", "RGB"])
def test_every_form_of_a_picture_gives_the_same(form: str, photo: np.ndarray, detector: Detector) -> None:
    expected = detector(photo)
    assert len(expected) > 0
    rgb = np.ascontiguousarray(photo[..., ::-1])
    given: Any = {"name": str(PHOTO), "path": PHOTO, "PIL": Image.fromarray(rgb), "RGB": rgb}[form]
    found = detector(given, color_order="RGB") if form == "RGB" else detector(given)
    assert np.array_equal(found.boxes, expected.boxes)
    assert np.array_equal(found.scores, expected.scores)


def test_the_order_of_colours_counts(photo: np.ndarray) -> None:
    assert np.array_equal(to_pixels(photo, "RGB"), photo[..., ::-1])
    assert to_pixels(photo) is photo


@pytest.mark.parametrize(("mode", "colour", "expected"), [
    ("L", 40, (40, 40, 40)), ("RGBA", (10, 20, 30, 255), (30, 20, 10)), ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
    ("1", 1, (255, 255, 255)), ("I;16", 0x4000, (64, 64, 64)), ("CMYK", (0, 0, 0, 0), (255, 255, 255)),
])  # fmt: skip
def test_pil_images_of_any_mode(mode: str, colour: object, expected: tuple[int, int, int]) -> None:
    pixels = to_pixels(Image.new(mode, (3, 2), colour))  # type: ignore[arg-type]
    assert pixels.shape == (2, 3, 3)
    assert pixels[1, 2].tolist() == list(expected)


@pytest.mark.parametrize(("given", "order", "error", "message"), [
    (3, "BGR", UsageError, "a file's name, a PIL image or a NumPy array, not int"),
    (np.zeros((4, 4), np.uint8), "BGR", UsageError, r"uint8 \(H, W, 3\)"),
    (np.zeros((4, 4, 3), np.float32), "RGB", UsageError, r"uint8 \(H, W, 3\)"),
    (np.zeros((4, 4, 3), np.uint8), "rgb", UsageError, "color_order must be 'BGR' or 'RGB'"),
    ("no/such.jpg", "BGR", DataError, "no/such.jpg"),
])  # fmt: skip
def test_anything_else_is_refused(given: object, order: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        to_pixels(given, order)  # type: ignore[arg-type]


def test_a_notebook_shows_the_picture_with_its_boxes(photo: np.ndarray, detector: Detector) -> None:
    found = detector(PHOTO)
    shown = decode(found._repr_png_(), "the picture")
    assert shown.shape == photo.shape
    changed = (shown != photo).any(axis=2)
    assert 0.001 < changed.mean() < 0.2
    assert np.array_equal(shown, found.draw())
    assert repr(found) == f"<{len(found)} detections of face, best {found.scores[0]:.2f}>"


def test_parts_of_it_keep_the_picture(photo: np.ndarray) -> None:
    boxes = np.array([[1, 1, 9, 9], [2, 2, 8, 8]], np.float32)
    found = PicturedDetections(boxes, np.array([0.9, 0.4], np.float32), pixels=photo, label="plate")
    best = found.above(0.5)
    assert isinstance(best, PicturedDetections)
    assert (len(best), best.label) == (1, "plate")
    assert best.pixels is photo


def test_a_file_is_looked_at_the_right_way_up(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert to_pixels(tmp_path / "turned.jpg").shape == (40, 20, 3)
    with Image.open(tmp_path / "turned.jpg") as image:
        assert to_pixels(image).shape == (20, 40, 3)
