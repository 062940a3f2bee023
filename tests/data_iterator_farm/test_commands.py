"""The commands as a user runs them, on a small pack."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from data_provider_farm.pack_format.packed_file import PackWriter
from tests.data_iterator_farm.made_up import make_source

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pack") / "small.rec"
    with PackWriter(path) as writer:
        for record in make_source(6, background=2):
            writer.add(record)
    return path


def run(project: Path, module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize(("version", "preset"), [("v2", "ours"), ("head", "published")])
def test_preview_draws_a_row_per_crop_and_a_column_per_branch(
    project: Path, pack: Path, tmp_path: Path, version: str, preset: str
) -> None:
    output = tmp_path / "preview.png"
    done = run(
        project,
        "data_iterator_farm.preview",
        pack,
        "--version",
        version,
        "--output",
        output,
        "--preset",
        preset,
        "--crops",
        3,
    )
    assert done.returncode == 0, done.stderr
    assert str(output) in done.stdout
    image = cv2.imread(str(output))
    assert image.shape[1] > 1400
    assert image.std() > 20


def test_benchmark_reports_rates_and_shares(project: Path, pack: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    options = (
        "--version",
        "head",
        "--threads",
        1,
        2,
        "--processes",
        1,
        "--batch-size",
        4,
        "--batches",
        2,
        "--repeats",
        2,
    )
    done = run(project, "benchmarks.batches", pack, *options, "--json", report)
    assert done.returncode == 0, done.stderr
    values = json.loads(report.read_text())
    assert values["images_per_second"] > 0
    assert values["decode_images_per_second"] > 0
    assert values["ratio_low"] <= values["ratio"] <= values["ratio_high"]
    measured = [(entry["workers"], entry["count"]) for entry in values["results"]]
    assert measured == [("threads", 1), ("threads", 2), ("processes", 1)]
    assert sum(values["stages"].values()) == pytest.approx(1)
    assert min(values["stages"][name] for name in ("decode", "resize", "jitter", "labels")) > 0
    for word in (
        "1 thread ",
        "2 threads",
        "1 process ",
        "decode",
        "resize",
        "jitter",
        "labels",
        "ratio",
        "record with most boxes",
    ):
        assert word in done.stdout


@pytest.mark.parametrize("module", ["data_iterator_farm.preview", "benchmarks.batches"])
@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("nowhere.rec",), "nowhere"),
        (("PACK", "--version", "v9"), "unknown version 'v9'"),
        (("PACK", "--input-size", "20"), "too small"),
    ],
)
def test_mistakes_end_in_one_line(
    project: Path, pack: Path, tmp_path: Path, module: str, arguments: tuple[str, ...], what: str
) -> None:
    given = [pack if argument == "PACK" else argument for argument in arguments]
    output = ["--output", tmp_path / "a.png"] if module == "data_iterator_farm.preview" else []
    done = run(project, module, *given, *output)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    assert what in done.stderr
