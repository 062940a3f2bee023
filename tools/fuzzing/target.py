"""What is fuzzed: a kind of file, good examples of it, and what the commands do with one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.fuzzing.mutations import Form


@dataclass(frozen=True)
class Target:
    """One kind of file that comes from outside.

    Attributes:
        name: of the target.
        examples: makes good files, always the same ones; called once in each process.
        read: does with one file's bytes what the commands do with the file, in an empty folder. An `LffdError` is a
            refusal, everything else that is raised a fault.
        form: what structure the mutations know of.
        mend: puts right checksums into a damaged file, where there are any; done to every other one.
    """

    name: str
    examples: Callable[[], Sequence[bytes]]
    read: Callable[[bytes, Path], object]
    form: Form = "bytes"
    mend: Callable[[bytes], bytes] = bytes
