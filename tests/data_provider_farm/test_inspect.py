"""The inspect and suggest-ranges commands, and the PNG report."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from data_provider_farm.drawn_faces.pictures import synthetic_records
from data_provider_farm.inspect import Options, main
from data_provider_farm.report import (
    COLUMNS,
    IGNORED_COLOR,
    OBJECT_COLOR,
    ROWS,
    TILE,
    contact_sheet,
    draw_tile,
    pick_tiles,
)
from data_provider_farm.suggest_ranges import Options as SuggestOptions
from data_provider_farm.suggest_ranges import main as suggest
from data_provider_farm.suggest_ranges import suggest_ranges
from data_provider_farm.survey import coverage, survey
from lffd.errors import DataError, UsageError
from symbol_farm.versions import VERSIONS, version_network
from tests.data_provider_farm.samples import mixed_records, record, write_pack


def test_inspect_writes_text_json_and_png(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack = write_pack(tmp_path / "train.rec", [*mixed_records(), *synthetic_records(3, 96, 0)])
    other = write_pack(tmp_path / "val.rec", mixed_records()[:2])
    png, document = tmp_path / "report.png", tmp_path / "report.json"
    main(Options(pack, version="v1", against=(other,), report=png, json=document))
    found = json.loads(document.read_text())
    assert (found["images"], found["backgrounds"], found["synthetic_images"]) == (8, 1, 3)
    assert found["version"] == "10_560_25L_8scales_v1"
    assert len(found["branches"]) == 8
    assert found["shared_images"] == {str(other): [[0, 0], [1, 1]]}
    text = capsys.readouterr().out
    assert "3 of the images are SYNTHETIC (drawn)" in text
    assert f"2 images are also in {other}: records 0 = 0; 1 = 1" in text
    assert "suspicious boxes, whole image" in text
    data = png.read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", data[16:24])
    assert width == 1760
    assert height > 700


def test_inspect_of_an_empty_pack_still_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack = write_pack(tmp_path / "none.rec", [])
    main(Options(pack, json=tmp_path / "x.json"))
    assert "0 images, 0 boxes" in capsys.readouterr().out
    with pytest.raises(UsageError, match="nothing to show"):
        main(Options(pack, report=tmp_path / "x.png"))


def test_inspect_refuses_what_cannot_be_compared(tmp_path: Path) -> None:
    pack = write_pack(tmp_path / "x.rec", mixed_records())
    with pytest.raises(UsageError, match="is the pack itself"):
        main(Options(pack, against=(pack,)))
    with pytest.raises(UsageError, match="did you mean v2"):
        main(Options(pack, version="v22"))
    with pytest.raises(DataError, match="cannot be read"):
        main(Options(tmp_path / "none.rec"))


def test_inspect_names_a_damaged_record(tmp_path: Path) -> None:
    pack = write_pack(tmp_path / "x.rec", mixed_records())
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    with pytest.raises(DataError, match=r"x\.rec: record 2: damaged"):
        main(Options(pack))


def test_the_command_line_spelling(project: Path, tmp_path: Path) -> None:
    """Other work relies on these words."""
    pack = write_pack(tmp_path / "x.rec", mixed_records())
    arguments = ["-m", "data_provider_farm.inspect", str(pack), "--version", "v2"]
    arguments += ["--report", str(tmp_path / "r.png"), "--json", str(tmp_path / "r.json")]
    subprocess.run([sys.executable, *arguments], cwd=project, check=True, capture_output=True)
    found = json.loads((tmp_path / "r.json").read_text())
    assert {"images", "boxes", "ignored_boxes", "backgrounds"} <= set(found)
    assert (tmp_path / "r.png").exists()


def test_tiles_show_boxes_in_their_colours() -> None:
    tile = draw_tile(record([(2, 2, 30, 40), (40, 10, 60, 30)], [False, True]))
    assert tile.shape == (TILE, TILE, 3)
    for color in (OBJECT_COLOR, IGNORED_COLOR):
        assert (tile == color).all(axis=2).sum() > 200
    assert not (draw_tile(record()) == OBJECT_COLOR).all(axis=2).any()


def test_the_contact_sheet_is_filled_and_ordered() -> None:
    crowded = record([(i, i, i + 10, i + 10) for i in range(30)], name="crowded")
    found = survey([record(seed=i) for i in range(40)] + [crowded])
    tiles = pick_tiles(found, seed=0)
    assert len(tiles) == COLUMNS * ROWS
    assert tiles == sorted(set(tiles))
    assert 40 in tiles
    assert pick_tiles(survey([record()]), seed=0) == [0]
    assert contact_sheet([record()] * 7).shape == (2 * (TILE + 6), 6 * (TILE + 6), 3)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("center", [20, 60, 150])
def test_suggested_ranges_fit_the_network_and_the_data(version: str, center: float) -> None:
    network = version_network(version)
    sides = np.exp(np.random.default_rng(0).normal(np.log(center), 0.8, 5000)).astype(np.float32)
    ranges = suggest_ranges(sides, network, 1.0)
    geometry = network.branch_geometry
    for (low, high), branch in zip(ranges, geometry, strict=True):
        assert low >= 2 * branch.stride
        assert low < high <= branch.receptive_field
    assert all(first[1] == second[0] for first, second in pairwise(ranges))
    serviceable = (sides >= 2 * geometry[0].stride) & (sides <= 0.9 * geometry[-1].receptive_field)
    found = coverage(sides[serviceable], ranges)
    assert found["unseen_share"] < 0.05
    assert min(found["branches"]) > 0


def test_suggestions_follow_the_data() -> None:
    network = version_network("v2")
    rng = np.random.default_rng(0)
    small = suggest_ranges(np.exp(rng.normal(3, 0.5, 3000)).astype(np.float32), network, 1.0)
    large = suggest_ranges(np.exp(rng.normal(4.5, 0.5, 3000)).astype(np.float32), network, 1.0)
    assert all(a[1] <= b[1] for a, b in zip(small, large, strict=True))
    assert small[0][0] < large[0][0]


@pytest.mark.parametrize("sides", [np.zeros(0), np.full(99, 50.0), np.full(500, 2.0), np.full(500, 5000.0)])
def test_too_little_to_suggest_from(sides: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"too few|can serve"):
        suggest_ranges(sides.astype(np.float32), version_network("v2"), 1.0)


def test_objects_of_one_size_give_ranges_around_it() -> None:
    ranges = suggest_ranges(np.full(500, 50, np.float32), version_network("v2"), 1.0)
    assert any(low <= 50 <= high for low, high in ranges)


def test_the_suggest_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packs = tuple(write_pack(tmp_path / f"{seed}.rec", synthetic_records(24, 128, seed)) for seed in (1, 2))
    suggest(SuggestOptions(packs, json=tmp_path / "x.json"))
    text = capsys.readouterr().out
    found = json.loads((tmp_path / "x.json").read_text())
    assert len(found["ranges"]) == 5
    low, high = found["ranges"][0]
    assert f'Branch("conv8", ({low:g}, {high:g})),' in text
    with pytest.raises(UsageError, match="--scale"):
        suggest(SuggestOptions(packs, scale=0))
