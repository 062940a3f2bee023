"""Cutting branches: which go, what stays, and that what stays says the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deployment import trim
from deployment.trim import Options, kept_branches, main, trim_model
from lffd.engines.factory import create_engine
from lffd.engines.runtime import Runtime
from lffd.errors import ModelError, UsageError
from lffd.files import OutputFolder
from lffd.graphs.cut import keep_branches
from lffd.graphs.model import Model, load_model, save_model
from symbol_farm.versions import version_network
from tests.factories import random_model


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((0, np.inf), [0, 1, 2, 3, 4]),
        ((20, np.inf), [1, 2, 3, 4]),
        ((19.9, np.inf), [0, 1, 2, 3, 4]),
        ((0, 160), [0, 1, 2, 3]),
        ((0, 161), [0, 1, 2, 3, 4]),
        ((50, 60), [2]),
    ],
)
def test_branches_that_share_only_an_edge_go(limits: tuple[float, float], expected: list[int]) -> None:
    assert kept_branches(version_network("v2"), *limits) == expected


@pytest.mark.parametrize(
    ("version", "limits", "kept"),
    [("v1", (20, 250), [2, 3, 4, 5]), ("plate_small", (0, 256), [0, 1]), ("v2", (20, 320), [1, 2, 3, 4])],
)
def test_kept_maps_are_equal(version: str, limits: tuple[float, float], kept: list[int]) -> None:
    model = random_model(version)
    trimmed = trim_model(model, *limits)
    images = np.random.default_rng(1).integers(0, 256, (2, 141, 163, 3), dtype=np.uint8)
    before, after = (create_engine(part, Runtime("mxnet")).run(images) for part in (model, trimmed))
    assert len(after) == len(kept)
    for maps, index in zip(after, kept, strict=True):
        assert np.array_equal(maps["score"], before[index]["score"])
        assert np.array_equal(maps["box"], before[index]["box"])
    assert trimmed.parameter_count < model.parameter_count


def test_the_card_tells_what_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = {"training": {"seed": 3}, "accuracy": [{"protocol": "p", "ap": 0.9}], "note": "kept"}
    model = replace(random_model("v2"), card=card, extra_files={"int8.onnx": b"of the whole"})
    save_model(model, tmp_path / "whole")
    main(Options(model=str(tmp_path / "whole"), output_dir=tmp_path / "cut", min_face=20, max_face=150))
    assert "GMAC" in capsys.readouterr().out
    main(Options(model=str(tmp_path / "cut"), output_dir=tmp_path / "again", max_face=80))
    once, twice = load_model(tmp_path / "cut"), load_model(tmp_path / "again")
    assert once.network.name == "10_320_20L_5scales_v2_branches_1_2_3"
    assert once.extra_files == {}
    assert once.card["training"] == {"seed": 3}
    assert once.card["note"] == "kept"
    assert "accuracy" not in once.card
    assert once.card["trimmed_from"]["accuracy"] == card["accuracy"]
    assert twice.network.name == "10_320_20L_5scales_v2_branches_1_2_3_branches_0_1"
    assert twice.card["trimmed_from"]["trimmed_from"]["version"] == "10_320_20L_5scales_v2"


def test_other_maps_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(model: Model, kept: Sequence[int]) -> Model:
        part = keep_branches(model, kept)
        return replace(part, params={**part.params, "conv7_bias": part.params["conv7_bias"] + 1})

    monkeypatch.setattr(trim, "keep_branches", wrong)
    with pytest.raises(ModelError, match=r"branch 0 of .* gives other maps after trimming"):
        trim_model(random_model("plate_small"), 0, 256)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ((0, np.inf), "nothing to cut"),
        ((600, np.inf), "its branches see 64–128, 128–256, 256–512"),
        ((200, 100), "below --max-face"),
        ((-1, 100), "at least 0"),
    ],
)
def test_limits_that_make_no_sense(limits: tuple[float, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        trim_model(random_model("plate_small"), *limits)


def test_two_runs_do_not_write_one_directory(tmp_path: Path) -> None:
    save_model(random_model("plate_small"), tmp_path / "whole")
    options = Options(model=str(tmp_path / "whole"), output_dir=tmp_path / "cut", max_face=256)
    with OutputFolder(options.output_dir, beside=True), pytest.raises(UsageError, match="another run is writing there"):
        main(options)
    main(options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "whole"], "no lock is left"
