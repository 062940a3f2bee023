"""Checkpoints: everything a run needs to go on, in one file that is either whole or absent.

A checkpoint is an uncompressed NumPy `.npz` of arrays plus the entry `facts.json`: `facts`, and `arrays`, which lists
every array's shape and type. It is written under a temporary name and renamed, every entry carries a checksum, and the
list tells of an entry that is gone, so a half-written or damaged file is never chosen.
"""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from lffd.errors import ModelError
from lffd.files import write_atomic
from lffd.untrusted import open_file

FACTS_FILE = "facts.json"
_DAMAGE = (
    *(OSError, EOFError, KeyError, TypeError, ValueError, OverflowError, RuntimeError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
"""What `zipfile`, `json` and NumPy raise for damaged files; RuntimeError is encryption or nesting without end."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as read: the engine's state by name, and facts: iteration, best score, the run's description."""

    path: Path
    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Any]


def write_checkpoint(
    folder: Path, iteration: int, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any], keep: int = 3
) -> Path:
    """Write the checkpoint of `iteration`, and remove what it makes needless.

    Removed are older checkpoints but the newest `keep - 1`, and what writers that were killed left. Checkpoints of
    later iterations stay: a run that goes back to write this one has passed them over, and will replace them.

    Args:
        folder: made when missing; one run writes to it.
        iteration: gives the file its name, `iteration_XXXXXXXX.npz`.
        arrays: the engine's state by name.
        facts: plain JSON values; `iteration` is one of them.
        keep: how many to keep, this one included.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    rows = {name: np.asarray(value, order="C") for name, value in arrays.items()}
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(FACTS_FILE, json.dumps({"facts": dict(facts), "arrays": _listed(rows)}, allow_nan=False))
        for name, value in rows.items():
            entry = io.BytesIO()
            npy.write_array(entry, value, allow_pickle=False)
            archive.writestr(name, entry.getvalue())
    path = folder / f"iteration_{iteration:08d}.npz"
    write_atomic(path, content.getvalue())
    not_later = [file for file in checkpoint_files(folder) if file.name <= path.name]
    for needless in (*not_later[max(1, keep) :], *folder.glob(".iteration_*.npz.*.tmp")):
        needless.unlink(missing_ok=True)
    return path


def _listed(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return the list of arrays that goes into the facts: what each is, by name."""
    return {name: {"shape": list(value.shape), "dtype": value.dtype.str} for name, value in arrays.items()}


def checkpoint_files(folder: Path) -> list[Path]:
    """Return the checkpoint files of a run, newest first."""
    return sorted(folder.glob("iteration_*.npz"), reverse=True)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify one checkpoint.

    Raises:
        ModelError: when the file is not a whole checkpoint; nothing in it is executed.
    """
    try:
        with open(open_file(path, ModelError), "rb") as stream, zipfile.ZipFile(stream) as archive:
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise ValueError("an entry is compressed")
            content = json.loads(archive.read(FACTS_FILE))
            facts, listed = content["facts"], content["arrays"]
            arrays = {name: _array(archive.read(name)) for name in archive.namelist() if name != FACTS_FILE}
    except _DAMAGE as error:
        raise ModelError(f"{path}: not a whole checkpoint: {type(error).__name__}: {error}") from error
    if listed != _listed(arrays):
        raise ModelError(f"{path}: not a whole checkpoint: its arrays are not those that its facts list")
    if not isinstance(facts, dict) or type(facts.get("iteration")) is not int:
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
