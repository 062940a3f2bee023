"""Files that the evaluations leave: JSON figures, and the record that keeps one output folder to one model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from detection.load import DetectorOptions
from lffd.errors import DataError, LffdError, UsageError
from lffd.files import RECORD, write_atomic
from lffd.untrusted import read_file

RUN_RECORD = "run.json"

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(DetectorOptions):
    """The options of every command that runs a detector over a test set and goes on where it stopped."""

    images: Path
    """Folder of the test set's images, with its own folders below it (0--Parade or 2002/08/11/big and so on)."""
    output_dir: Path
    """Result files, report.json and the plots go here."""
    json: Path | None = None
    """Write the figures to this file too."""
    overwrite: bool = False
    """Replace results in the output folder instead of going on from them."""


def write_json(path: str | os.PathLike[str] | None, value: Any, indent: int | None = 2) -> None:
    """Write plain JSON values, whole or not at all, on one line without `indent`; folders on the way are made.

    Without a path, nothing is written: every command's `--json` may be left out.

    Raises:
        ValueError: for nan or infinity, which JSON does not have.
    """
    if path is None:
        return
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.encode())


def without_results(
    options: EvaluationOptions, run: Mapping[str, Any], items: Sequence[Item], read: Callable[[Item], object], what: str
) -> list[Item]:
    """Return the items of a test set that still have to be done: those whose results cannot be read; else all.

    Raises:
        UsageError: when the output folder holds results of another run.
    """
    refuse_other_results(options.output_dir, None if options.overwrite else run)
    if options.overwrite:
        return list(items)
    todo = []
    for item in items:
        try:
            read(item)
        except (LffdError, OSError):
            todo.append(item)
    if len(todo) < len(items):
        done = len(items) - len(todo)
        print(f"{done:,} of {len(items):,} {what} already have results in {options.output_dir}")
    return todo


def refuse_other_results(folder: str | os.PathLike[str], run: Mapping[str, Any] | None) -> None:
    """Make sure that an output folder is new, or holds results of this run, which may then go on where it stopped.

    `run` is what decides the results: model, its digest, options, as plain JSON values; None for any run.

    Raises:
        UsageError: when the folder holds results of another run, or of an unknown one; the differences are named.
    """
    root = Path(folder)
    record = root / RUN_RECORD
    if not record.is_file():
        if root.exists() and (not root.is_dir() or any(entry.name != RECORD for entry in root.iterdir())):
            what = f"is not an empty folder and has no {RUN_RECORD} that says what made its files"
            raise UsageError(f"{root} {what}: choose another folder")
        return
    if run is None:
        return
    wanted = json.loads(json.dumps(run))
    try:
        found = json.loads(read_file(record))
        keys = [key for key in dict.fromkeys([*found, *wanted]) if found.get(key) != wanted.get(key)]
        differences = [f"{key} was {found.get(key)!r}, now {wanted.get(key)!r}" for key in keys]
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{record}: is damaged; choose another folder, or start again with --overwrite") from error
    if differences:
        raise UsageError(
            f"{root} holds results of another run: {'; '.join(differences)}. Choose another folder, or replace them "
            "with --overwrite"
        )


def start_run(folder: str | os.PathLike[str], run: Mapping[str, Any], old_results: Iterable[Path]) -> None:
    """Delete results that shall not be kept, and record the run in its folder, which is made when missing."""
    for path in old_results:  # before the record changes: a stop in between must not leave a mixture
        path.unlink(missing_ok=True)
    write_json(Path(folder) / RUN_RECORD, run)
