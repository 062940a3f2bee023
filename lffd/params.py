"""MXNet `.params` files in plain NumPy: named arrays, read with every size checked before it is trusted.

The format (MXNet 1.x, `NDArray::Save`), little-endian: the list magic 0x112 and a reserved word, 64 bits each; a
64-bit count and the arrays; a 64-bit count and the names, each a 64-bit length and UTF-8 bytes. An array is a 32-bit
magic, then (version 2 and 3) a 32-bit storage type, a 32-bit rank, 64-bit dimensions, two 32-bit words of device, a
32-bit element type, and the elements. Names carry the prefix `arg:` (parameters) or `aux:` (running statistics).
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lffd.errors import ModelError
from lffd.untrusted import read_file

_LIST_MAGIC = 0x112
_ARRAY_V1, _ARRAY_V2, _ARRAY_V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_TYPES = {0: np.float32, 1: np.float64, 2: np.float16, 3: np.uint8, 4: np.int32, 5: np.int8, 6: np.int64}
_MAX_RANK = 32
_MAX_NAME = 4096
_MAX_BYTES = 2**63 - 1


class _Cursor:
    """A position in a file's bytes; reading past the end is an error that names the place."""

    def __init__(self, data: bytes, path: Path) -> None:
        self.data, self.path, self.at = memoryview(data), path, 0

    def take(self, count: int, what: str) -> memoryview:
        if count > len(self.data) - self.at:
            left = len(self.data) - self.at
            raise ModelError(f"{self.path}: truncated: {what} needs {count} bytes at byte {self.at}, {left} are left")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, code: str, what: str) -> int:
        layout = struct.Struct(f"<{code}")
        return int(layout.unpack(self.take(layout.size, what))[0])

    def fail(self, problem: str) -> ModelError:
        return ModelError(f"{self.path}: not a readable MXNet parameter file: {problem} at byte {self.at}")


def read_params(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Read a `.params` file.

    Returns:
        Parameters (`arg:` names, or names without a prefix) and auxiliary states (`aux:`), prefixes removed.

    Raises:
        ModelError: when the file is missing, truncated, or not dense named arrays of a known type.
    """
    file = Path(path)
    return parse_params(read_file(file, refusal=ModelError), file)


def parse_params(data: bytes, path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Read the bytes of a `.params` file; `path` is only named in errors. Returns and raises as `read_params`."""
    cursor = _Cursor(data, path)
    if cursor.number("Q", "the file's magic number") != _LIST_MAGIC:
        raise cursor.fail("wrong magic number")
    cursor.number("Q", "the reserved word")
    arrays = [_read_array(cursor, i) for i in range(_count(cursor, "the number of arrays"))]
    names = [_read_name(cursor, i) for i in range(_count(cursor, "the number of names"))]
    if len(names) != len(arrays) or len(set(names)) != len(names):
        raise cursor.fail(f"{len(arrays)} arrays but {len(set(names))} distinct names")
    if cursor.at != len(data):
        raise cursor.fail(f"{len(data) - cursor.at} bytes too many")
    parameters: dict[str, NDArray[Any]] = {}
    states: dict[str, NDArray[Any]] = {}
    for name, array in zip(names, arrays, strict=True):
        (states if name.startswith("aux:") else parameters)[name.removeprefix("arg:").removeprefix("aux:")] = array
    return parameters, states


def _count(cursor: _Cursor, what: str) -> int:
    """Read a count of entries of at least eight bytes each, which bounds it by the file's size."""
    count = cursor.number("Q", what)
    if count > len(cursor.data) // 8:
        raise cursor.fail(f"{what} is {count}, more than the file can hold")
    return count


def _read_array(cursor: _Cursor, index: int) -> NDArray[Any]:
    what = f"array {index}"
    magic = cursor.number("I", what)
    if magic in (_ARRAY_V2, _ARRAY_V3) and (storage := cursor.number("i", what)) != 0:
        raise cursor.fail(f"{what} is stored sparse (type {storage}); only dense arrays are read")
    modern = magic in (_ARRAY_V1, _ARRAY_V2, _ARRAY_V3)
    rank = cursor.number("I", what) if modern else magic  # the oldest files start with the rank itself
    if rank > _MAX_RANK:
        raise cursor.fail(f"{what} has rank {rank}")
    shape = tuple(cursor.number("q" if modern else "I", what) for _ in range(rank))
    if rank == 0 or min(shape) < 0:
        raise cursor.fail(f"{what} has shape {shape}")
    cursor.take(8, what)  # the device it lived on
    code = cursor.number("i", what)
    if code not in _TYPES:
        raise cursor.fail(f"{what} has the unknown element type {code}")
    kind = np.dtype(_TYPES[code])
    # An empty array takes no bytes, whatever its other dimensions claim; NumPy cannot shape them beyond this.
    if math.prod(side for side in shape if side) * kind.itemsize > _MAX_BYTES:
        raise cursor.fail(f"{what} has shape {shape}")
    raw = cursor.take(math.prod(shape) * kind.itemsize, f"{what} of shape {shape}")
    return np.frombuffer(raw, kind).reshape(shape).copy()


def _read_name(cursor: _Cursor, index: int) -> str:
    length = cursor.number("Q", f"name {index}")
    if length > _MAX_NAME:
        raise cursor.fail(f"name {index} is {length} bytes long")
    try:
        return bytes(cursor.take(length, f"name {index}")).decode()
    except UnicodeDecodeError as error:
        raise cursor.fail(f"name {index} is not UTF-8") from error


def misfits(expected: Mapping[str, tuple[int, ...]], arrays: Mapping[str, NDArray[Any]]) -> list[str]:
    """Return what makes arrays differ from the names and shapes expected: missing, extra or misshapen ones."""
    problems = [f"missing {name}" for name in expected if name not in arrays]
    problems += [f"extra {name}" for name in arrays if name not in expected]
    shapes = {name: arrays[name].shape for name in expected if name in arrays}
    return problems + [f"{n} has shape {s} instead of {expected[n]}" for n, s in shapes.items() if s != expected[n]]


def pack_params(parameters: Mapping[str, NDArray[Any]], states: Mapping[str, NDArray[Any]] | None = None) -> bytes:
    """Return the bytes of a `.params` file, as `mx.nd.save` writes them, sorted by name: equal content, equal bytes.

    Args:
        parameters: arrays of a type in the format (float16/32/64, uint8, int8/32/64), without the `arg:` prefix.
        states: auxiliary states, without the `aux:` prefix.
    """
    codes = {np.dtype(kind): code for code, kind in _TYPES.items()}
    entries = [(f"arg:{name}", parameters[name]) for name in sorted(parameters)]
    entries += [(f"aux:{name}", states[name]) for name in sorted(states or {})] if states else []
    parts = [struct.pack("<QQQ", _LIST_MAGIC, 0, len(entries))]
    for name, value in entries:
        array = np.ascontiguousarray(value)
        if array.dtype not in codes:
            raise ModelError(f"parameter {name} has type {array.dtype}, which a .params file cannot hold")
        parts.append(struct.pack("<IiI", _ARRAY_V2, 0, array.ndim))
        parts.append(struct.pack(f"<{array.ndim}q", *array.shape))
        parts.append(struct.pack("<iii", 1, 0, codes[array.dtype]))  # device type 1 is the CPU
        parts.append(array.tobytes())
    parts.append(struct.pack("<Q", len(entries)))
    for name, _ in entries:
        encoded = name.encode()
        parts += [struct.pack("<Q", len(encoded)), encoded]
    return b"".join(parts)
