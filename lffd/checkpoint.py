"""Checkpoints: everything a run needs to go on, in one file that is either whole or absent.

A checkpoint is an uncompressed NumPy `.npz` of arrays plus the entry `facts.json`. It is written under a temporary
name and renamed, and every entry carries a checksum, so a half-written or damaged file is never chosen.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from lffd.errors import ModelError
from lffd.files import write_atomic

_FACTS = "facts.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as read.

    Attributes:
        path: its file.
        arrays: the engine's state by name.
        facts: plain JSON values: iteration, best score, the run's description.
    """

    path: Path
    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Any]


def write_checkpoint(
    folder: Path, iteration: int, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any], keep: int = 3
) -> Path:
    """Write the checkpoint of `iteration` and remove all but the newest `keep`.

    Returns:
        The file, `folder/iteration_XXXXXXXX.npz`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(_FACTS, json.dumps(dict(facts), allow_nan=False))
        for name, value in arrays.items():
            entry = io.BytesIO()
            npy.write_array(entry, np.asarray(value), allow_pickle=False)
            archive.writestr(name, entry.getvalue())
    path = folder / f"iteration_{iteration:08d}.npz"
    write_atomic(path, content.getvalue())
    for old in checkpoint_files(folder)[keep:]:
        old.unlink()
    return path


def checkpoint_files(folder: Path) -> list[Path]:
    """Return the checkpoint files of a run, newest first."""
    return sorted(folder.glob("iteration_*.npz"), reverse=True)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify one checkpoint.

    Raises:
        ModelError: when the file is not a whole checkpoint; nothing in it is executed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            facts = json.loads(archive.read(_FACTS))
            names = [info.filename for info in archive.infolist() if info.filename != _FACTS]
            arrays = {name: _array(archive.read(name)) for name in names}
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, EOFError, NotImplementedError) as error:
        raise ModelError(f"{path}: not a whole checkpoint: {error}") from error
    if not isinstance(facts, dict) or not isinstance(facts.get("iteration"), int):
        raise ModelError(f"{path}: not a checkpoint: its facts name no iteration")
    return Checkpoint(path, arrays, facts)


def _array(data: bytes) -> NDArray[Any]:
    """Return the array in the bytes of a `.npy` entry, sizes checked against the bytes that are there."""
    stream = io.BytesIO(data)
    version = npy.read_magic(stream)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, kind = read_header(stream)
    body = data[stream.tell() :]
    if kind.hasobject or fortran or math.prod(shape) * kind.itemsize != len(body):
        raise ValueError(f"an array of shape {shape} and type {kind} does not fit its {len(body)} bytes")
    return np.frombuffer(body, kind).reshape(shape).copy()


def newest_checkpoint(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest whole checkpoint of a run, if any, and a line for each damaged one passed over."""
    skipped: list[str] = []
    for path in checkpoint_files(folder):
        try:
            return read_checkpoint(path), skipped
        except ModelError as error:
            skipped.append(str(error))
    return None, skipped
