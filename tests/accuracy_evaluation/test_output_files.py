from __future__ import annotations

import json
from pathlib import Path

import pytest

from accuracy_evaluation.output_files import RUN_RECORD, refuse_other_results, start_run, write_json
from lffd.errors import DataError, UsageError
from lffd.files import OutputFolder

RUN = {"model": "net", "selection": {"top_k": 5}, "ranges": (1, 2)}


def test_a_new_folder_is_taken_and_the_same_run_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "new/results"
    refuse_other_results(folder, RUN)
    assert not folder.exists()
    start_run(folder, RUN, [])
    (folder / "result.txt").touch()
    refuse_other_results(folder, RUN)
    assert json.loads((folder / RUN_RECORD).read_text())["selection"] == {"top_k": 5}


def test_another_run_is_refused_with_the_difference(tmp_path: Path) -> None:
    start_run(tmp_path, RUN, [])
    with pytest.raises(UsageError, match=r"selection was \{'top_k': 5\}, now \{'top_k': 6\}"):
        refuse_other_results(tmp_path, {**RUN, "selection": {"top_k": 6}})


def test_a_start_deletes_only_what_it_is_told(tmp_path: Path) -> None:
    result, foreign = tmp_path / "result.txt", tmp_path / "notes.txt"
    for path in (result, foreign):
        path.touch()
    start_run(tmp_path, RUN, [result, tmp_path / "missing.txt"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", RUN_RECORD]
    refuse_other_results(tmp_path, RUN)


def test_files_of_unknown_origin_and_damaged_records_are_refused(tmp_path: Path) -> None:
    refuse_other_results(tmp_path, RUN)
    (tmp_path / "result.txt").touch()
    for folder in (tmp_path, tmp_path / "result.txt"):
        with pytest.raises(UsageError, match=r"not an empty folder and has no run\.json"):
            refuse_other_results(folder, RUN)
    for content in ("", "[1]", "{"):
        (tmp_path / RUN_RECORD).write_text(content)
        with pytest.raises(DataError, match=r"run\.json: is damaged"):
            refuse_other_results(tmp_path, RUN)


def test_json_has_no_nan_and_unwritable_places_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="/file'"):
        write_json(tmp_path / "file/a.json", {})


def test_an_overwrite_needs_results_of_a_run_too(tmp_path: Path) -> None:
    """Otherwise a folder of photos with label files of the same names would lose them."""
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"not an empty folder and has no run\.json"):
        refuse_other_results(tmp_path, None)
    start_run(tmp_path, RUN, [])
    refuse_other_results(tmp_path, None)
    with OutputFolder(tmp_path / "new"):
        refuse_other_results(tmp_path / "new", RUN)
