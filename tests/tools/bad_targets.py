"""Targets of the fuzzer that hang, crash or take memory without end; the fuzzer's process imports this module."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

from lffd.errors import DataError
from tools.fuzzing.target import Target

GOOD = b"good" * 100


def bad_targets() -> dict[str, Target]:
    return {
        name: Target(name, lambda: [GOOD], read)
        for name, read in (("sleeps", sleep), ("spins", spin), ("crashes", crash), ("eats", eat), ("raises", fail))
    }


def sleep(data: bytes, folder: Path) -> None:
    while data != GOOD:
        time.sleep(1)


def spin(data: bytes, folder: Path) -> None:
    while data != GOOD:
        pass


def crash(data: bytes, folder: Path) -> None:
    if data != GOOD:
        ctypes.string_at(0)


def eat(data: bytes, folder: Path) -> None:
    taken = []
    while data != GOOD:
        taken.append(bytearray(b"x" * (1 << 24)))


def fail(data: bytes, folder: Path) -> None:
    if len(data) > len(GOOD):
        raise ZeroDivisionError("a raw exception")
    if data != GOOD:
        raise DataError("refused\nin two lines")
