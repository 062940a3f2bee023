"""What is said of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference_speed_evaluation.machine import describe_card, describe_machine, matrix_peak
from lffd.errors import EngineError


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for `nvidia-smi` that knows one card."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        '  "--id=0 --query-gpu="*) echo "Card X, 8192 MiB, 555.1, 2100 MHz, 200.00 W";;\n'
        '  *) echo "No devices were found"; exit 6;;\n'
        "esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return program


def test_the_processor_is_named_and_measured() -> None:
    facts = describe_machine("cpu")
    assert facts["cpu"]
    assert facts["cores"] >= 1
    assert "numpy" in facts["packages"]
    assert "card" not in facts
    assert matrix_peak(0.05) > 0.1


def test_the_card_is_reported(nvidia_smi: Path) -> None:
    assert describe_machine("gpu:0")["card"] == {
        "name": "Card X",
        "memory.total": "8192 MiB",
        "driver_version": "555.1",
        "clocks.max.sm": "2100 MHz",
        "power.limit": "200.00 W",
    }
    with pytest.raises(EngineError, match="gpu:3: nvidia-smi says: No devices were found"):
        describe_card(3)


def test_no_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="no NVIDIA driver; use --device cpu"):
        describe_machine("gpu:0")
