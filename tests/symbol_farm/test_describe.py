"""The described structure: JSON keys, table, picture, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lffd import cli
from symbol_farm.describe import main


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.run(main, arguments)
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_json_and_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("v2", "--input", "640x480", "--json", str(tmp_path / "v2.json")) == 0
    facts = json.loads((tmp_path / "v2.json").read_text())
    assert facts["parameters"] == 1_520_606
    assert f"{facts['gmac']:.3f}" == "6.824"
    assert facts["branches"][1] == {
        "layer": "conv11",
        "object_range": [20, 40],
        "gray_range": [18, 44],
        "stride": 8,
        "receptive_field": 95,
        "first_center": 7,
        "map_size": [59, 79],
    }
    text = capsys.readouterr().out
    assert "total: 1,520,606 parameters, 6.824 GMAC" in text
    row = next(line for line in text.splitlines() if line.startswith("conv9 "))
    assert row.split() == ["conv9", "64×59×79", "3/2", "8", "63", "36,928", "171.8"]


def test_picture_of_every_size(tmp_path: Path) -> None:
    for version in ("v1", "plate_small"):
        assert _run(version, "--plot", str(tmp_path / f"{version}.png")) == 0
        assert (tmp_path / f"{version}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["v3x"], "unknown version 'v3x'"),
        (["v2", "--input", "640"], "'640' is not a size"),
        (["v2", "--input", "0x480"], "'0x480' is not a size"),
        (["v2", "--input", "100x480"], "each side needs at least 127 px"),
        (["v2", "--plot", "x.xyz"], "x.xyz: a structure is drawn to a file that ends in one of .png, .svg, .pdf"),
        (["v2", "--plot", "x"], "ends in one of .png"),
        (["v2", "--plot", "no/such/folder/x.png"], "no/such/folder/x.png: No such file or directory"),
        (["v2", "--json", "no/such/folder/x.json"], "no/such/folder/x.json: No such file or directory"),
    ],
)
def test_wrong_requests_end_with_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(("flag", "name"), [("--plot", "photo.png"), ("--json", "notes.json")])
def test_files_of_the_user_are_not_replaced(
    flag: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_text("mine")
    assert _run("v2", flag, str(path)) == 2
    assert f"{path} was not made by this command" in capsys.readouterr().err
    assert path.read_text() == "mine"
    path.unlink()
    assert [_run("v2", flag, str(path)) for _ in range(2)] == [0, 0]
