"""Files that the evaluations leave: JSON figures, and the record that keeps one output folder to one model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lffd.errors import DataError, UsageError
from lffd.files import write_atomic

RUN_RECORD = "run.json"


def write_json(path: str | os.PathLike[str], value: Any, indent: int | None = 2) -> None:
    """Write a value as JSON, whole or not at all; folders on the way are made.

    Args:
        path: the file.
        value: plain JSON values.
        indent: spaces per level; None writes one line, for long lists of numbers.

    Raises:
        ValueError: for nan or infinity, which JSON does not have.
        UsageError: when the place cannot be written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, (json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise UsageError(f"{target}: cannot be written ({error.strerror})") from error


def claim_output_folder(
    folder: str | os.PathLike[str], run: Mapping[str, Any], results: Iterable[Path], overwrite: bool
) -> None:
    """Make sure that an output folder holds results of this run alone, so that work can go on where it stopped.

    Args:
        folder: made when missing.
        run: what decides the results: model, its digest, options. Plain JSON values.
        results: the files that the run will write.
        overwrite: delete those of them that are there, and start again.

    Raises:
        UsageError: when the folder holds results of another run, or of an unknown one; the differences are named.
    """
    root = Path(folder)
    record = root / RUN_RECORD
    wanted = json.loads(json.dumps(run))
    if overwrite:
        for path in results:  # before the record changes: a stop in between must not leave a mixture
            path.unlink(missing_ok=True)
    elif record.is_file():
        _refuse_other_run(record, wanted)
        return
    elif root.is_dir() and any(root.iterdir()):
        raise UsageError(
            f"{root} is not empty and has no {RUN_RECORD} that says what made its files: choose another folder, "
            "or replace the results that are there with --overwrite"
        )
    write_json(record, wanted)


def _refuse_other_run(record: Path, wanted: Mapping[str, Any]) -> None:
    """Raise when a record differs from the run that is wanted."""
    try:
        found = json.loads(record.read_bytes())
        differences = [
            f"{key} was {found.get(key)!r}, now {wanted.get(key)!r}"
            for key in dict.fromkeys([*found, *wanted])
            if found.get(key) != wanted.get(key)
        ]
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{record}: is damaged; choose another folder, or start again with --overwrite") from error
    if differences:
        raise UsageError(
            f"{record.parent} holds results of another run: {'; '.join(differences)}. Choose another folder, or "
            "replace them with --overwrite"
        )
