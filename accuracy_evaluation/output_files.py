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


def refuse_other_results(folder: str | os.PathLike[str], run: Mapping[str, Any]) -> None:
    """Make sure that an output folder is new, or holds results of this run, which may then go on where it stopped.

    Args:
        folder: may be missing.
        run: what decides the results: model, its digest, options. Plain JSON values.

    Raises:
        UsageError: when the folder holds results of another run, or of an unknown one; the differences are named.
    """
    root = Path(folder)
    record = root / RUN_RECORD
    if record.is_file():
        _refuse_other_run(record, json.loads(json.dumps(run)))
    elif root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UsageError(
            f"{root} is not an empty folder and has no {RUN_RECORD} that says what made its files: choose another "
            "folder, or replace the results that are there with --overwrite"
        )


def start_run(folder: str | os.PathLike[str], run: Mapping[str, Any], old_results: Iterable[Path]) -> None:
    """Delete results that shall not be kept, and record the run in its folder, which is made when missing."""
    for path in old_results:  # before the record changes: a stop in between must not leave a mixture
        path.unlink(missing_ok=True)
    write_json(Path(folder) / RUN_RECORD, run)


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
