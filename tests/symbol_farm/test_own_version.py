"""Versions in files of the user's own, and that nobody else's file ever runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from config_farm.train import find_script
from detection.detector import Detector
from lffd.errors import ModelError, UsageError
from lffd.graphs.model import CARD_FILE, load_model, make_model, save_model
from lffd.params import pack_params
from lffd.training.initialization import initial_arrays
from symbol_farm.trained_models import resolve_model
from symbol_farm.versions import version_network

MINE = """
from lffd import Branch, Stage, lffd_network

NETWORK = lffd_network(name="mine", stem=(8,), stages=(Stage(8, pairs=1),), branches=(Branch("conv4", (8, 16)),),
                       head_channels=8, train_input=64)
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return str(path)


def _params(version: str) -> dict[str, np.ndarray]:
    start = initial_arrays(version_network(version), batch_norm=False, seed=0, style="prior")
    return {name.removeprefix("arg:"): value for name, value in start.items()}


def test_a_file_is_a_version(mine: str, tmp_path: Path) -> None:
    network = version_network(mine)
    assert (network.name, network.object_range) == ("mine", (8, 16))
    assert find_script(mine).network.name == "mine"
    (tmp_path / "theirs.params").write_bytes(pack_params(_params(mine)))
    assert resolve_model(f"{mine}={tmp_path / 'theirs.params'}").network.name == "mine"


def test_a_model_needs_its_file_no_more(mine: str, tmp_path: Path) -> None:
    save_model(make_model(version_network(mine), _params(mine)), tmp_path / "model")
    Path(mine).unlink()
    network = load_model(tmp_path / "model").network
    assert (network.name, network.object_range) == ("mine", (8, 16))
    Detector.load(tmp_path / "model")(np.zeros((64, 64, 3), np.uint8))


@pytest.mark.parametrize(("text", "message"), [
    ("x = 1\n", "declares no network"),
    ("NETWORK = 3\n", "declares no network"),
    ("x = 1\ny = x.z\n", r"bad\.py:2: AttributeError"),
    ("x = (\n", r"bad\.py:1: SyntaxError"),
    (MINE.replace('"conv4"', '"conv9"'), r"bad\.py:4: "),
])  # fmt: skip
def test_a_file_without_a_version_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(UsageError, match=message):
        version_network(str(tmp_path / "bad.py"))


def test_a_missing_file_and_a_wrong_script_are_named(mine: str) -> None:
    with pytest.raises(UsageError, match=r"no/such\.py: there is no such file"):
        version_network("no/such.py")
    Path(mine).write_text(f"{MINE}\nSCRIPT = 3\n")
    with pytest.raises(UsageError, match="its SCRIPT is a int"):
        find_script(mine)


def test_what_a_model_directory_names_never_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that calls its version a Python file, with that file beside it and in the current folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "model"
    save_model(resolve_model("face_light"), folder)
    trap = tmp_path / "trap.py"
    trap.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w').close()\n{MINE}")
    (folder / "trap.py").write_text(trap.read_text())
    card = json.loads((folder / CARD_FILE).read_text())
    card["version"] = card["network"]["name"] = "trap.py"
    card["training"]["experiment"]["version"] = "trap.py"
    (folder / CARD_FILE).write_text(json.dumps(card))
    model = resolve_model(folder)
    assert model.network.name == "trap.py"
    Detector(model)(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(ModelError, match="unknown model"):
        resolve_model("trap.py")
    assert not (tmp_path / "sprung").exists()


def test_names_are_still_names() -> None:
    assert find_script("v2").network.name == "10_320_20L_5scales_v2"
    assert find_script("demo").network.name == "demo_10_160"
    with pytest.raises(UsageError, match=r"did you mean nano\? Known: .* or a file of your own"):
        find_script("nanoo")
