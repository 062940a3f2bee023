"""Import of the published LFFD packs, which are pickles, without running anything that a pickle asks for.

A published pack is a dictionary from a number to `[image, 0]` (background) or `[image, 1, boxes]`, where `image` is an
encoded image file as a uint8 array or as bytes, and `boxes` is an `(N, 4)` array or nested list of x, y, width, height
in pixels. A list or tuple of such entries, and `[image, 0, boxes]` with no box, are taken too. Pickles of Python 2 are
fine.

A pickle is a program. This unpickler knows arrays of plain numbers, and plain containers; every other name that a file
asks for is refused before it is looked up. Arrays are rebuilt by code of this module, not by NumPy's own hooks, so
sizes are checked against the bytes that are there. A pack is held in memory whole: it needs about its file's size.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from data_provider_farm.readers.annotations import Listing, RawBox, SourceImage, build_source, xywh
from lffd.errors import DataError
from lffd.images.jpeg import is_jpeg
from lffd.untrusted import read_file, shown

NUMBER_CODES = frozenset({"b1", "f2", "f4", "f8", *(kind + size for kind in "iu" for size in "1248")})
ORDERS: dict[str, Literal["<", ">"]] = {"<": "<", ">": ">", "|": "<", "=": "<"}
_Steps: Any = pickle._Unpickler


class _RefusalError(Exception):
    """A pickle that asks for more than data."""


class _StandIn:
    """Takes the place of a NumPy function or class; nothing can be stored in it."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise _RefusalError("a change to a function")


class _Dtype:
    """Stands for a NumPy type of plain numbers."""

    def __init__(self, code: Any, *_: Any) -> None:
        name = _text(code)
        if name not in NUMBER_CODES:
            raise _RefusalError(f"an array of the type {name[:40]!r}, which is not plain numbers")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        order = _text(state[1]) if isinstance(state, tuple) and len(state) > 1 else ""
        if order not in ORDERS:
            raise _RefusalError("an array type with an unknown byte order")
        self.dtype = self.dtype.newbyteorder(ORDERS[order])


class _Array:
    """Stands for a NumPy array; its contents arrive through `__setstate__`."""

    def __init__(self, *_: Any) -> None:
        self.value: NDArray[Any] = np.zeros(0, np.uint8)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise _RefusalError("an array whose parts are not those NumPy writes")
        _, shape, dtype, fortran, data = state
        self.value = _rebuild(data, dtype, shape, "F" if fortran else "C")


def _rebuild(data: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    """Return the array of given parts, after checking that they belong together."""
    data = data.encode("latin1") if isinstance(data, str) else data
    counts = isinstance(shape, tuple) and all(isinstance(n, int) and 0 <= n < 1 << 40 for n in shape)
    if not isinstance(dtype, _Dtype) or not counts or not isinstance(data, bytes | bytearray) or len(shape) > 8:
        raise _RefusalError("an array whose parts are not those NumPy writes")
    if len(data) != math.prod(shape) * dtype.dtype.itemsize:
        raise _RefusalError(f"an array of shape {shape} with another number of bytes")
    flat = np.frombuffer(data, dtype.dtype)
    return flat.reshape(shape[::-1]).T if order == "F" else flat.reshape(shape)


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    """Take the place of `numpy.core.numeric._frombuffer`, which pickles of protocol 5 use."""
    array = _Array()
    array.value = _rebuild(data, dtype, shape, order)
    return array


def _scalar(dtype: Any, data: Any) -> Any:
    """Take the place of `numpy.core.multiarray.scalar`."""
    return _rebuild(data, dtype, (1,), "C")[0].item()


def _encode(text: Any = "", codec: Any = "latin1") -> bytes:
    """Take the place of `_codecs.encode`, `bytes` and `bytearray`, with which Python 3 writes bytes for Python 2."""
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
        raise _RefusalError("a text conversion other than to bytes")
    return text.encode("latin1")


def _text(value: Any) -> str:
    """Return a short name that may be bytes."""
    return value.decode("latin1") if isinstance(value, bytes) else value if isinstance(value, str) else ""


KNOWN: dict[tuple[str, str], _StandIn] = {
    (module, name): _StandIn(make)
    for make, name, *modules in (
        (_Dtype, "dtype", "numpy"),
        (_Array, "ndarray", "numpy"),
        (_Array, "_reconstruct", "numpy.core.multiarray", "numpy._core.multiarray"),
        (_scalar, "scalar", "numpy.core.multiarray", "numpy._core.multiarray"),
        (_from_buffer, "_frombuffer", "numpy.core.numeric", "numpy._core.numeric"),
        (_encode, "encode", "_codecs"),
        (_encode, "bytes", "builtins", "__builtin__"),
        (_encode, "bytearray", "builtins", "__builtin__"),
    )
    for module in modules
}
"""What a pickle may ask for, and what it gets."""


class _Unpickler(_Steps):
    """Finds the known names and nothing else, in memory and time bounded by the pickle's size.

    Python's own unpickler, not the one in C, because its steps can be replaced: its memo is a dictionary, so that no
    number in the file makes it reserve memory, and keys are looked at before they are hashed.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(_Steps.dispatch)

    def find_class(self, module: str, name: str) -> _StandIn:
        """Return the stand-in for a known name."""
        if (module, name) not in KNOWN:
            raise _RefusalError(f"{module[:40]}.{name[:40]}, which is not data")
        return KNOWN[module, name]

    def persistent_load(self, identifier: Any) -> Any:
        raise _RefusalError("an object that lies outside the file")

    def put(self, items: list[Any]) -> None:
        """Put keys and values that follow each other into the dictionary on top of the stack."""
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Hashing tuples that share tuples could go on for ever.
            if not isinstance(key, str | bytes | int | float):
                raise _RefusalError("a dictionary with keys other than numbers and texts")
            self.stack[-1][key] = value

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.put([key, value])

    def set_items(self) -> None:
        self.put(self.pop_mark())

    def make_dictionary(self) -> None:
        items = self.pop_mark()
        self.append({})
        self.put(items)

    def read_byte_array(self) -> None:
        """Read bytes; their number in the file reserves no memory."""
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    def refuse(self) -> None:
        raise _RefusalError("a set, which LFFD packs do not hold")

    dispatch |= {pickle.SETITEM[0]: set_item, pickle.SETITEMS[0]: set_items, pickle.DICT[0]: make_dictionary}
    dispatch |= {pickle.BYTEARRAY8[0]: read_byte_array}
    dispatch |= dict.fromkeys([pickle.EMPTY_SET[0], pickle.ADDITEMS[0], pickle.FROZENSET[0]], refuse)


def load_plain_pickle(data: bytes, where: str) -> Any:
    """Return what a pickle of plain containers and number arrays (as `_Array`) holds; DataError for any other."""
    try:
        return _Unpickler(io.BytesIO(data), encoding="latin1").load()
    except _RefusalError as refusal:
        raise DataError(f"{where}: refused: the pickle asks for {refusal}; nothing of it was run") from None
    except (pickle.UnpicklingError, ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:
        raise DataError(f"{where}: is not a readable pickle: {shown(str(error))}") from error
    except (EOFError, OverflowError, MemoryError, RecursionError, struct.error) as error:
        raise DataError(f"{where}: is a damaged pickle: {type(error).__name__}") from error


def read_lffd_pickle(path: Path) -> Listing:
    """Return every image of a published LFFD pack, in the order of its numbers."""
    content = load_plain_pickle(read_file(path), str(path))
    if isinstance(content, list | tuple):
        content = dict(enumerate(content))
    if not isinstance(content, dict):
        raise DataError(f"{path}: is not an LFFD pack, but a {type(content).__name__}")
    if not all(isinstance(key, int) for key in content):
        raise DataError(f"{path}: is not an LFFD pack: its keys are not numbers")
    entries = sorted(content.items())
    return Listing(len(entries), (_read_entry(path, number, entry) for number, entry in entries))


def _read_entry(path: Path, number: int, entry: Any) -> SourceImage:
    """Return one image of a pack."""
    where = f"{path}: entry {number}"
    if not isinstance(entry, list | tuple) or len(entry) not in (2, 3):
        raise DataError(f"{where}: expected [image, flag] or [image, flag, boxes]")
    image, flag = _image_bytes(entry[0], where), entry[1]
    if isinstance(flag, _Array):  # of a single number, or it is no flag
        flag = flag.value.item() if flag.value.size == 1 else flag.value.tolist()
    rows = _rows(entry[2], where) if len(entry) == 3 else []
    if flag not in (0, 1) or (flag == 0 and rows):
        raise DataError(f"{where}: the flag must be 1, or 0 for an image without boxes, not {shown(flag)}")
    boxes = [RawBox(xywh(*row), f"{where}, box {index}") for index, row in enumerate(rows)]
    name = f"{path.stem}/{number:07d}{'.jpg' if is_jpeg(image) else ''}"
    return build_source(path, name, where, boxes, data=image)


def _image_bytes(value: Any, where: str) -> bytes:
    """Return an encoded image given as bytes, as text of Python 2, or as a uint8 array."""
    if isinstance(value, _Array) and value.value.dtype == np.uint8:
        return value.value.tobytes()
    try:
        if isinstance(value, str | bytes | bytearray):
            return value.encode("latin1") if isinstance(value, str) else bytes(value)
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: the image is a text, not bytes") from error
    raise DataError(f"{where}: the image must be bytes or a uint8 array, not {type(value).__name__}")


def _rows(value: Any, where: str) -> list[list[float]]:
    """Return boxes as rows of four numbers."""
    if isinstance(value, _Array):
        value = value.value.reshape(-1, 4).tolist() if value.value.size % 4 == 0 else value.value.tolist()
    if not isinstance(value, list | tuple):
        raise DataError(f"{where}: boxes must be an (N, 4) array or list")
    rows = [row.value.tolist() if isinstance(row, _Array) else row for row in value]
    for row in rows:
        if not isinstance(row, list | tuple) or len(row) != 4 or not all(isinstance(v, int | float) for v in row):
            raise DataError(f"{where}: a box must be four numbers (x, y, width, height), not {shown(row)}")
    try:
        return [[float(v) for v in row] for row in rows]
    except OverflowError as error:
        raise DataError(f"{where}: a box has a number that is too large") from error
