"""JPEG headers, EXIF orientation, decoding."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from lffd.errors import DataError
from lffd.images import encoded as images
from lffd.images import files
from lffd.images import jpeg as headers
from tests.data_provider_farm.samples import jpeg, picture, with_exif


@pytest.mark.parametrize(("width", "height"), [(1, 1), (64, 48), (3, 500)])
def test_header_gives_the_size(width: int, height: int) -> None:
    header = headers.parse_jpeg(jpeg(width, height), "x")
    assert (header.width, header.height, header.channels, header.orientation) == (width, height, 3, 1)


def test_header_of_a_gray_and_of_a_progressive_jpeg() -> None:
    gray = cv2.imencode(".jpg", picture()[:, :, 0])[1].tobytes()
    assert headers.parse_jpeg(gray, "x").channels == 1
    progressive = cv2.imencode(".jpg", picture(), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    header = headers.parse_jpeg(progressive, "x")
    assert (header.width, header.height) == (64, 48)
    headers.check_whole(progressive, header, "x")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("padding", [0, 3])
def test_orientation_is_found_and_set_upright_by_one_byte(order: str, orientation: int, padding: int) -> None:
    data = with_exif(jpeg(), orientation, order, padding)
    header = headers.parse_jpeg(data, "x")
    assert header.orientation == orientation
    upright = headers.upright(data, header)
    assert headers.parse_jpeg(upright, "x").orientation == 1
    assert sum(a != b for a, b in zip(data, upright, strict=True)) == (orientation != 1)
    np.testing.assert_array_equal(images.decode(upright, "x"), images.decode(jpeg(), "x"))
    # A reader that obeys the tag sees the stored pixels too, so every reader agrees with the boxes.
    obeying = cv2.imdecode(np.frombuffer(upright, np.uint8), cv2.IMREAD_COLOR)
    assert obeying.shape == (48, 64, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_is_what_a_viewer_does(orientation: int) -> None:
    data = with_exif(jpeg(), orientation)
    viewer = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    np.testing.assert_array_equal(images.turn(np.asarray(stored, np.uint8), orientation), viewer)


@pytest.mark.parametrize("value", [0, 9, 70])
def test_an_impossible_orientation_counts_as_upright(value: int) -> None:
    data = with_exif(jpeg(), value)
    assert headers.parse_jpeg(data, "x").orientation == 1


def test_damaged_exif_is_passed_over() -> None:
    data = bytearray(with_exif(jpeg(), 6))
    for place in range(12, 38):
        broken = data.copy()
        broken[place] ^= 0xFF
        assert headers.parse_jpeg(bytes(broken), "x").width == 64


def test_a_cut_header_is_an_error_and_a_cut_body_is_not_whole() -> None:
    data = jpeg()
    header = headers.parse_jpeg(data, "x")
    headers.check_whole(data, header, "x")
    headers.check_whole(data + b"trailing bytes of a phone", header, "x")
    for length in range(2, header.scan_at):
        with pytest.raises(DataError, match=r"x: .*cut short inside its header"):
            headers.parse_jpeg(data[:length], "x")
    for length in range(header.scan_at + 4, len(data) - 1, 11):
        cut = data[:length]
        with pytest.raises(DataError, match="x: the JPEG file is truncated"):
            headers.check_whole(cut, headers.parse_jpeg(cut, "x"), "x")


def test_a_thumbnail_does_not_count_as_the_end() -> None:
    data = jpeg()
    app = jpeg(8, 8)
    with_thumbnail = data[:2] + b"\xff\xe2" + (len(app) + 2).to_bytes(2, "big") + app + data[2:]
    header = headers.parse_jpeg(with_thumbnail, "x")
    assert (header.width, header.height) == (64, 48)
    with pytest.raises(DataError, match="truncated"):
        headers.check_whole(with_thumbnail[:-2], header, "x")


def test_decoding_gives_bgr() -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, :, 0] = 255
    for data in (images.encode(pixels, 95), cv2.imencode(".png", pixels)[1].tobytes()):
        blue, green, red = images.decode(data, "x").reshape(-1, 3).mean(0)
        assert blue > 240
        assert max(green, red) < 15


def test_decoding_smaller_keeps_at_least_the_size_asked_for() -> None:
    data = jpeg(640, 480)
    assert images.decode(data, "x", at_least=(160, 120)).shape == (120, 160, 3)
    assert images.decode(data, "x", at_least=(161, 120)).shape == (180, 240, 3)
    assert images.decode(data, "x").shape == (480, 640, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"hello", "not a picture of a known format"),
        (b"\xff\xd8\xff", "cut short inside its header"),
        (jpeg()[:-200], "the JPEG file is truncated"),
        (cv2.imencode(".png", picture())[1].tobytes()[:60], "PNG file is damaged"),
    ],
)
def test_what_cannot_be_decoded_is_named(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"x: .*{message}"):
        images.decode(data, "x")


def test_a_header_that_asks_for_gigabytes_is_refused_before_decoding() -> None:
    data = bytearray(jpeg())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    with pytest.raises(DataError, match="65535x65535 is more than the 268,435,456 pixels"):
        images.decode(bytes(data), "x")


def test_sizes_without_decoding(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(with_exif(jpeg(), 6))
    assert files.read_size(path, turned=False) == (64, 48)
    assert files.read_size(path, turned=True) == (48, 64)
    far = b"\xff\xe2\xff\xff" + bytes(65533)  # so many segments that the frame lies behind the first read
    path.write_bytes(jpeg()[:2] + 5 * far + jpeg()[2:])
    assert files.read_size(path, turned=False) == (64, 48)
    png = tmp_path / "a.png"
    png.write_bytes(cv2.imencode(".png", picture(20, 10))[1].tobytes())
    assert files.read_size(png, turned=True) == (20, 10)
    with pytest.raises(DataError, match="cannot be read"):
        files.read_size(tmp_path / "none.jpg", turned=False)


def test_images_are_listed_in_order_through_subfolders(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/z.png", "a/notes.txt", "c.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in files.list_images(tmp_path)] == [
        "a/z.png",
        "b.JPG",
        "c.webp",
    ]
    with pytest.raises(DataError, match="no such folder"):
        files.list_images(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        files.list_images(tmp_path / "empty")
