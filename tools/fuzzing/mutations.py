"""How a good file becomes a bad one: as bytes, as text, as JSON. Equal random numbers make equal files."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

Form = Literal["bytes", "text", "json"]
Mutation = Callable[[bytes, bytes, np.random.Generator], bytes]
"""`(file, another good file, random numbers) -> damaged file`."""

INTEGERS = (0, 1, 2, 3, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
NUMBERS = (
    *("0", "-1", "-0.0", "1_0", "0x10", "007", "1e308", "-1e308", "1e-320", "1e999", "nan", "inf", "-inf", "0.1", "²"),
    *("65536", "1000000", "2147483648", "4294967296", "18446744073709551616", "9" * 400, "9" * 5000, "", " ", "1 2"),
)
WORDS = (
    *("", "\0", "\n", "\\ud800", "\ufeff", "×", "é" * 100, "n" * 300, "n" * 9000, "null", "None", "data", "a.jpg"),
    *("../a.jpg", "/dev/zero", "/dev/full", "/etc/hostname", "pipe.jpg", ".", "..", "a.jpg/", "%s%n", "{0}", "&x;"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 0.5, -0.0, 1e308, 10**30, float("nan"), float("inf"), "", "\0", "\ud800", "data"),
    *([], {}, [0], [[0, 0, 0]], {"": None}, "9" * 400, "n" * 9000, [1, [2, [3]]], ["a"] * 300, "(3, 3)", "(0,)", "-1"),
)
NUMBER, WORD = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"), re.compile(rb"[A-Za-z_][\w./-]*")
DEEP = (b"[", b'{"a":', b"<a>", b"(", b"\x28")


def mutate(data: bytes, others: Sequence[bytes], form: Form, rng: np.random.Generator) -> bytes:
    """Return a damaged file: one to three mutations of its form, or of the more general ones.

    Args:
        data: a good file.
        others: good files to take pieces from.
        form: what its structure is.
        rng: decides everything.
    """
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        forms = {"bytes": ["bytes"], "text": ["bytes", "text", "text"], "json": ["bytes", "text", "json", "json"]}[form]
        mutations = MUTATIONS[forms[int(rng.integers(len(forms)))]]
        other = others[int(rng.integers(len(others)))]
        data = mutations[int(rng.integers(len(mutations)))](data, other, rng)
    return data


def _span(data: bytes, rng: np.random.Generator, most: int = 1 << 16) -> tuple[int, int]:
    """Return a random stretch of the file."""
    start = int(rng.integers(len(data) + 1))
    length = int(min(most, 2 ** rng.uniform(0, 16)))
    return start, min(len(data), start + length)


def _flip_bits(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for bit in rng.integers(0, 8 * max(1, len(data)), int(rng.integers(1, 9))).tolist() if data else []:
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _noise(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    start, end = _span(data, rng, 64)
    return data[:start] + rng.bytes(end - start) + data[end:]


def _truncate(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(len(data) + 1))]


def _remove(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    start, end = _span(data, rng)
    return data[:start] + data[end:]


def _repeat(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    start, end = _span(data, rng, 4096)
    return data[:end] + data[start:end] * int(rng.choice([1, 2, 16, 300])) + data[end:]


def _swap(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    first, second, third = sorted(rng.integers(0, len(data) + 1, 3).tolist())
    return data[:first] + data[second:third] + data[first:second] + data[third:]


def _splice(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    start, end = _span(data, rng)
    taken = slice(*_span(other, rng))
    return data[:start] + other[taken] + data[end if rng.integers(2) else start :]


def _length_field(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Put a number in the place of one that may count or point at something, or move it a little."""
    width = int(rng.choice([1, 2, 4, 8]))
    start, order = int(rng.integers(max(1, len(data) - width))), "little" if rng.integers(2) else "big"
    # Lengths mostly stand at the start of a file, and on multiples of their own width.
    start = (start if rng.integers(2) else start % 256) // width * width
    number = INTEGERS[int(rng.integers(len(INTEGERS)))]
    if rng.integers(2):
        number = int.from_bytes(data[start : start + width], order) + int(rng.integers(-4, 5))  # type: ignore[arg-type]
    return data[:start] + (number % 256**width).to_bytes(width, order) + data[start + width :]


def _replace(pattern: re.Pattern[bytes], data: bytes, new: bytes, rng: np.random.Generator) -> bytes:
    """Put something in the place of one find of a pattern."""
    found = [match.span() for match in pattern.finditer(data)]
    if not found:
        return data + new
    start, end = found[int(rng.integers(len(found)))]
    return data[:start] + new + data[end:]


def _number(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return _replace(NUMBER, data, NUMBERS[int(rng.integers(len(NUMBERS)))].encode(), rng)


def _word(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return _replace(WORD, data, WORDS[int(rng.integers(len(WORDS)))].encode(), rng)


def _other_word(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Put a number or a name of another place, or of another file, in the place of one."""
    pattern = NUMBER if rng.integers(2) else WORD
    found = pattern.findall(other if rng.integers(2) else data) or [b"0"]
    return _replace(pattern, data, found[int(rng.integers(len(found)))], rng)


def _lines(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Drop, double or move a line, or take one of another file."""
    lines, foreign = data.splitlines(keepends=True) or [b""], other.splitlines(keepends=True) or [b""]
    at, to = rng.integers(0, len(lines), 2).tolist()
    new = [lines[:at], lines[: at + 1] + lines[at:], lines[:at] + foreign[:1] + lines[at:], [*lines]]
    chosen = new[int(rng.integers(4))]
    if len(chosen) == len(lines):
        chosen[at], chosen[to] = chosen[to], chosen[at]
    return b"".join(chosen)


def _nest(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(len(data) + 1)) if rng.integers(2) else 0
    return data[:at] + DEEP[int(rng.integers(len(DEEP)))] * int(rng.choice([60, 2000, 100_000])) + data[at:]


def _edit_json(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Remove, replace or copy one part of a JSON document, however deep it lies."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return _number(data, other, rng)
    places = list(_places(document))
    if not places:
        return data
    holder, key = places[int(rng.integers(len(places)))]
    source, name = places[int(rng.integers(len(places)))]
    action = int(rng.integers(4))
    if action == 0:
        del holder[key]
    elif action == 1:
        holder[key] = copy.deepcopy(source[name])
    else:
        holder[key] = VALUES[int(rng.integers(len(VALUES)))]
    return json.dumps(document).encode()


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Return container and key of every value in a document."""
    found, waiting = list[tuple[Any, Any]](), [document]
    while waiting:
        part = waiting.pop()
        keys = list(part) if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
        found += [(part, key) for key in keys]
        waiting += [part[key] for key in keys]
    return found


MUTATIONS: dict[str, tuple[Mutation, ...]] = {
    "bytes": (_flip_bits, _noise, _truncate, _remove, _repeat, _swap, _splice, _length_field, _length_field),
    "text": (_number, _number, _word, _word, _other_word, _other_word, _lines, _nest),
    "json": (_edit_json,),
}
"""What can be done to a file of a form."""
