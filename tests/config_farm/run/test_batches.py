"""A run does not depend on who makes its batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lffd.training.checkpoint import newest_checkpoint
from tests.config_farm.test_configurations import run_config


def _parameters(folder: Path, *flags: str) -> dict[str, np.ndarray]:
    common = ("--iterations", "4", "--train-data", "synthetic:12", "--output-dir", str(folder))
    assert run_config("tiny", *common, *flags) == 0
    checkpoint, _ = newest_checkpoint(folder / "checkpoints")
    assert checkpoint is not None
    return checkpoint.arrays


@pytest.mark.parametrize(
    "flags", [("--processes", "2"), ("--cache-gib", "0.1"), ("--processes", "1", "--cache-gib", "0.1")]
)
def test_processes_and_caches_change_nothing(flags: tuple[str, ...], tmp_path: Path) -> None:
    expected = _parameters(tmp_path / "threads")
    found = _parameters(tmp_path / "other", *flags)
    assert all(np.array_equal(expected[name], found[name]) for name in expected)


def test_a_missing_pack_is_one_clear_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run_config("tiny", "--train-data", "missing.rec", "--processes", "2", "--output-dir", str(tmp_path)) == 2
    assert "missing." in capsys.readouterr().err
