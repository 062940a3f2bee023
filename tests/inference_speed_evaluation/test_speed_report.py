"""Tables, CSV and plot."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from inference_speed_evaluation.speed_report import cell, detail_table, latency_tables, plot_latency, to_csv
from inference_speed_evaluation.sweep import Row
from lffd.errors import UsageError

FAST = Row(
    model="v1",
    weights="shipped",
    engine="mxnet",
    precision="fp32",
    resolution="160x140",
    batch=1,
    threads=1,
    device="cpu",
    total_ms=12.94,
    total_p95_ms=14.0,
    forward_ms=12.5,
    forward_p95_ms=13.5,
    decode_ms=0.3,
    suppression_ms=0.1,
    other_ms=0.04,
    fps=1000 / 12.94,
    ratio_to_mxnet=1.0,
    ratio_low=1.0,
    ratio_high=1.0,
    gmac=0.5,
    gflops=80.0,
    peak_share=0.8,
    peak_memory_mb=200.0,
    rounds=9,
)
LARGE = replace(FAST, resolution="320x240", total_ms=33.66, fps=1000 / 33.66)
OTHER = replace(FAST, engine="ncnn", weights="random weights", ratio_to_mxnet=0.75, ratio_low=0.7, ratio_high=0.8)
FAILED = Row("v1", "shipped", "openvino", "bf16", "160x140", 1, 1, "cpu", error="no bf16 here")


def test_cells_look_like_the_published_ones() -> None:
    assert cell(FAST) == "12.94ms(77.28FPS)"
    assert cell(FAILED) == "-"


def test_models_in_rows_and_sizes_in_columns() -> None:
    table = latency_tables([FAST, OTHER, FAILED, LARGE])
    assert "batch 1, 1 CPU thread\n" in table
    assert "Model | 160×140 | 320×240 |\n---|---|---|\n" in table
    assert "\nv1 mxnet fp32 | 12.94ms(77.28FPS) | 33.66ms(29.71FPS) |\n" in table
    assert "\nv1 (random weights) ncnn fp32 | 12.94ms(77.28FPS) | - |\n" in table
    assert table.endswith("v1 openvino bf16 | - | - |")


def test_settings_get_tables_of_their_own() -> None:
    table = latency_tables([FAST, replace(FAST, threads=2), replace(FAST, batch=4, device="gpu:0")])
    assert table.count("Model |") == 3
    assert "2 CPU threads" in table
    assert "batch 4, gpu:0" in table


def test_details_and_failures() -> None:
    table = detail_table([FAST, OTHER, FAILED])
    assert "12.50 (13.50) | 0.30 | 0.10 | 0.04 | 1.000 (1.000–1.000) | 80 (80 %) | 200 |" in table
    assert "0.750 (0.700–0.800)" in table
    assert "v1 openvino bf16 at 160x140: no bf16 here" in table


def test_csv_reads_back() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv([FAST, FAILED]))))
    assert rows[0]["total_ms"] == "12.94"
    assert rows[1]["total_ms"] == ""
    assert rows[1]["error"] == "no bf16 here"
    assert to_csv([]).count("\n") == 1


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_plot(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"speed.{ending}"
    plot_latency([FAST, LARGE, OTHER, FAILED, replace(FAST, threads=2)], "a machine", path)
    assert path.stat().st_size > 5000


def test_plots_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="nothing was timed"):
        plot_latency([FAILED], "a machine", "x.png")
    with pytest.raises(UsageError, match=r"use \.png"):
        plot_latency([FAST], "a machine", "x.bmp")
