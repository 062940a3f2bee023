"""The made-up crowd is one, and the benchmark says what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.postprocessing import Options, crowd, crowded_maps, main
from detection.decoding import decode
from lffd.boxes import iou, suppress
from lffd.errors import UsageError
from symbol_farm.versions import version_network


def test_suppression_finds_the_faces_of_the_crowd_again() -> None:
    network, rng = version_network("v2"), np.random.default_rng(3)
    faces = crowd(640, 480, 300, 10, rng)
    assert len(faces) == 300
    overlaps = iou(faces, faces)
    assert overlaps[~np.eye(len(faces), dtype=bool)].max() < 0.3
    maps = crowded_maps(network, 640, 480, faces, rng)
    found = decode(maps, network.branch_geometry, 0.5, 10_000)
    assert found.scores.size > 1000
    kept = suppress(found.boxes, found.scores, 0.4)
    assert np.count_nonzero(iou(faces, found.boxes[kept]).max(axis=1) > 0.5) > 295


def test_the_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = Options(
        version="plate_small", size="400x320", faces=4, engine="mxnet", rounds=2, json=tmp_path / "f.json"
    )
    main(options)
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["faces"] > 0
    assert figures["candidates"] >= figures["detections"] > 0
    spent = figures["decoding_ms"] + figures["suppression_ms"]
    assert figures["share"] == pytest.approx(spent / figures["forward_ms"])
    assert "of the forward pass" in capsys.readouterr().out


def test_nothing_to_measure() -> None:
    with pytest.raises(UsageError, match="must be at least 1"):
        main(Options(rounds=0))
