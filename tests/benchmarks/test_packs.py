"""The benchmark measures what it says, on a tiny dataset."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.packs import FEW, Options, append_files, copy_files, main, plain_parse
from lffd.errors import UsageError
from tests.data_provider_farm.samples import jpeg


def dataset(tmp_path: Path, count: int) -> Options:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.jpg").write_bytes(jpeg())
    annotations = tmp_path / "gt.txt"
    annotations.write_text("a.jpg\n2\n1 2 30 40 0 0 0 0 0 0\n1 2 3 4 0 0 0 0 0 0\n" * count)
    return Options(tmp_path / "images", annotations, repeats=1, json=tmp_path / "out.json")


def test_the_plain_programs_do_all_the_work(tmp_path: Path) -> None:
    options = dataset(tmp_path, 3)
    parsed = list(plain_parse(options.annotations))
    assert [name for name, _ in parsed] == ["a.jpg"] * 3
    assert parsed[0][1].tolist() == [[1, 2, 30, 40], [1, 2, 3, 4]]
    folder = tmp_path / "copies"
    folder.mkdir()
    assert copy_files(options, folder) == 3
    assert [path.read_bytes() for path in sorted(folder.iterdir())] == [jpeg()] * 3
    assert append_files(options, tmp_path) == 3
    assert (tmp_path / "all.bin").read_bytes() == 3 * jpeg()


def test_every_figure_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = dataset(tmp_path, FEW + 20)
    main(options)
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["open_records"] == 1_000_000
    assert all(value > 0 for value in found.values())
    assert found["pack_over_copy_files"] == pytest.approx(found["pack_images_per_s"] / found["copy_files_images_per_s"])
    printed = capsys.readouterr().out
    assert all(key in printed for key in found)


def test_a_dataset_that_is_too_small_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 300 images"):
        main(dataset(tmp_path, 2))
