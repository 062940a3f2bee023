"""HEIC pictures, as telephones take them, through the room that every other picture goes through."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_provider_farm.prepare import Preparation, prepare
from data_provider_farm.readers.annotations import build_source
from lffd.errors import DataError
from lffd.images.encoded import decode, image_size
from lffd.images.files import is_picture, list_images, read_picture
from tests.data_provider_farm.samples import picture

PIXELS = picture(64, 48, seed=1)


def heic(pixels: np.ndarray = PIXELS, orientation: int = 1) -> bytes:
    """A HEIC file of BGR pixels."""
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    made = pillow_heif.from_pillow(Image.fromarray(np.ascontiguousarray(pixels[:, :, ::-1])))
    made.save(stream, quality=95, exif=exif.tobytes())
    return stream.getvalue()


@pytest.mark.parametrize("turned", [False, True])
def test_a_heic_picture_is_upright_either_way(tmp_path: Path, turned: bool) -> None:
    for orientation, expected in ((1, PIXELS), (6, np.rot90(PIXELS, -1)), (3, np.rot90(PIXELS, 2))):
        data = heic(orientation=orientation)
        pixels = decode(data, "x.heic", turned=turned)
        assert pixels.shape == expected.shape
        assert np.abs(pixels.astype(int) - expected).mean() < 6
        assert image_size(data, "x.heic", turned) == pixels.shape[1::-1]


def test_heic_files_are_pictures_for_predict_packs_and_folders(tmp_path: Path) -> None:
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(heic())
    assert is_picture(path)
    assert list_images(tmp_path) == [path]
    assert read_picture(path).shape == PIXELS.shape
    prepared = prepare(build_source(path, path.name, "here"), Preparation(exif="turned"))
    assert (prepared.counts.images, prepared.problems) == (1, [])


def test_without_the_extra_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.heic").write_bytes(b"\x00\x00\x00\x1cftypheic\x00\x00\x00\x00mif1heic")
    monkeypatch.setitem(sys.modules, "pillow_heif.as_plugin", None)
    with pytest.raises(DataError, match=r"a\.heic: is a HEIC picture: .*install it with: pip install .*heic"):
        read_picture(tmp_path / "a.heic")


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    with pytest.raises(DataError, match="64x48 is more than the 1,000 pixels"):
        decode(heic(), "x.heic", most=1000)


DAMAGE = """
import sys
import numpy as np
from lffd.errors import DataError
from lffd.images.encoded import decode
data, read = open(sys.argv[1], "rb").read(), 0
rng = np.random.default_rng(0)
for number in range(150):
    damaged = bytearray(data[: rng.integers(16, len(data))] if number % 3 == 0 else data)
    for place in rng.integers(12, len(damaged), rng.integers(1, 4)) if number % 3 else ():
        damaged[place] = rng.integers(256)
    try:
        read += decode(bytes(damaged), "x.heic").size > 0
    except DataError:
        pass
print("done", read)
"""


def test_damaged_files_end_in_an_error_or_a_picture(project: Path, tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(heic())
    command = [sys.executable, "-c", DAMAGE, str(tmp_path / "a.heic")]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.startswith("done"), done.stderr[-2000:]
