"""MATLAB 5 files (`.mat`) of texts, numbers and cells, as WIDER FACE's ground truth is published.

SciPy's reader ends the process at some damaged files, and unpacks whatever size a file asks for; this one does neither.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from lffd.errors import DataError
from lffd.untrusted import read_file

MAX_BYTES, MAX_DEPTH = 1 << 28, 8
COMPRESSED, MATRIX = 15, 14
CELL, CHAR, NUMBERS = 1, 4, range(6, 16)
NUMBER_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
TEXT_TYPES = {1: "latin1", 2: "latin1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}


def read_matlab(path: str | os.PathLike[str], names: Iterable[str]) -> dict[str, Any]:
    """Return those variables of a MATLAB 5 file that have one of the names.

    Returns:
        Name to array: numbers in the file's shape, texts as `(1,)` of `str`, cells as arrays of objects.

    Raises:
        DataError: when the file is of another version, damaged, too large, or holds a variable of another kind.
    """
    data, found, left = read_file(path, most=MAX_BYTES), dict[str, Any](), MAX_BYTES
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        raise DataError(f"{path}: is not a MATLAB 5 file")
    try:
        position = 128
        while position < len(data):
            kind, body, position = _element(data, position, order)
            if kind == COMPRESSED:
                inflater = zlib.decompressobj()
                data_inside = inflater.decompress(body, left)
                left -= len(data_inside)
                if inflater.unconsumed_tail or not inflater.eof:
                    raise ValueError(f"its tables are cut short or hold more than {MAX_BYTES:,} bytes")
                kind, body, _ = _element(data_inside, 0, order)
            if kind == MATRIX:
                name, value = _matrix(body, order, names, 0)
                if name in names:
                    found[name] = value
    except (ValueError, LookupError, struct.error, zlib.error) as error:
        raise DataError(f"{path}: the MATLAB 5 file is damaged: {error}") from error
    return found


def _element(data: bytes, position: int, order: str) -> tuple[int, bytes, int]:
    """Return the type and the bytes of an element, and where the next one begins."""
    kind, length = struct.unpack_from(order + "II", data, position)
    start = position + 8
    if kind >> 16:  # up to four bytes stand in the second word
        kind, length, start = kind & 0xFFFF, kind >> 16, position + 4
    end = start + length
    if end > len(data) or (start == position + 4 and length > 4):
        raise ValueError(f"an element of {length:,} bytes at byte {position:,} is cut short")
    after = position + 8 if start == position + 4 else end if kind == COMPRESSED else end + -length % 8
    return kind, data[start:end], after


def _matrix(data: bytes, order: str, names: Iterable[str], depth: int) -> tuple[str, Any]:
    """Return a variable's or a cell's name and its value; of a variable of no interest, only the name."""
    if not data:
        return "", np.zeros((0, 0))
    if depth > MAX_DEPTH:
        raise ValueError("its cells are nested too deeply")
    _, flags, position = _element(data, 0, order)
    _, sizes, position = _element(data, position, order)
    _, name_bytes, position = _element(data, position, order)
    name = name_bytes.decode("latin1")
    if depth == 0 and name not in names:
        return name, None
    kind = struct.unpack_from(order + "I", flags)[0] & 0xFF
    shape = np.frombuffer(sizes, order + "i4").tolist()
    count = math.prod(shape)
    if min(shape, default=-1) < 0 or count > len(data) or len(shape) > 8:
        raise ValueError(f"an array of shape {shape} in {len(data):,} bytes")
    if kind == CELL:
        cells = np.empty(count, object)
        for index in range(count):
            _, body, position = _element(data, position, order)
            cells[index] = _matrix(body, order, names, depth + 1)[1]
        return name, cells.reshape(shape, order="F")
    code, body, _ = _element(data, position, order)
    if kind == CHAR:
        codec = TEXT_TYPES[code]
        suffix = ("-le" if order == "<" else "-be") if codec not in {"latin1", "utf-8"} else ""
        return name, np.array([body.decode(codec + suffix)])
    if kind not in NUMBERS:
        raise ValueError(f"{name or 'a cell'} is neither text, numbers nor cells")
    return name, np.frombuffer(body, order + NUMBER_TYPES[code]).reshape(shape, order="F")
