from __future__ import annotations

import json
from pathlib import Path

import pytest

from accuracy_evaluation.output_files import RUN_RECORD, claim_output_folder, write_json
from lffd.errors import DataError, UsageError

RUN = {"model": "net", "selection": {"top_k": 5}, "ranges": (1, 2)}


def test_a_new_folder_is_claimed_and_the_same_run_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "new/results"
    claim_output_folder(folder, RUN, [], overwrite=False)
    (folder / "result.txt").touch()
    claim_output_folder(folder, RUN, [folder / "result.txt"], overwrite=False)
    assert (folder / "result.txt").exists()
    assert json.loads((folder / RUN_RECORD).read_text())["selection"] == {"top_k": 5}


def test_another_run_is_refused_with_the_difference_until_told_to_overwrite(tmp_path: Path) -> None:
    claim_output_folder(tmp_path, RUN, [], overwrite=False)
    result, foreign = tmp_path / "result.txt", tmp_path / "notes.txt"
    result.touch()
    foreign.touch()
    other = {**RUN, "selection": {"top_k": 6}}
    with pytest.raises(UsageError, match=r"selection was \{'top_k': 5\}, now \{'top_k': 6\}"):
        claim_output_folder(tmp_path, other, [result], overwrite=False)
    claim_output_folder(tmp_path, other, [result, tmp_path / "missing.txt"], overwrite=True)
    assert not result.exists()
    assert foreign.exists()
    claim_output_folder(tmp_path, other, [result], overwrite=False)


def test_files_of_unknown_origin_and_damaged_records_are_refused(tmp_path: Path) -> None:
    (tmp_path / "result.txt").touch()
    with pytest.raises(UsageError, match=r"not empty and has no run\.json"):
        claim_output_folder(tmp_path, RUN, [], overwrite=False)
    for content in ("", "[1]", "{"):
        (tmp_path / RUN_RECORD).write_text(content)
        with pytest.raises(DataError, match=r"run\.json: is damaged"):
            claim_output_folder(tmp_path, RUN, [], overwrite=False)


def test_json_has_no_nan_and_unwritable_places_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        write_json(tmp_path / "file/a.json", {})
