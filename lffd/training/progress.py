"""What a run remembers besides its engine's state, and the signals that ask it to stop."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import FrameType
from typing import Any

from lffd.errors import ModelError


@dataclass
class Progress:
    """What a run remembers besides the engine's state; it travels in the checkpoint's facts."""

    iteration: int = 0
    best_score: float | None = None
    best_iteration: int = 0
    without_gain: int = 0
    validation_owed: bool = False
    seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)

    def to_facts(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return {**self.facts, **{name: getattr(self, name) for name in _NAMES}}


_NAMES = tuple(entry.name for entry in fields(Progress) if entry.name != "facts")
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("iteration", "best_iteration", "without_gain"), (int,)),
    **{"best_score": (float, int, type(None)), "validation_owed": (bool,), "seconds": (float, int)},
}
"""What each of them may be in a checkpoint, which may be damaged."""


def restore_progress(facts: Mapping[str, Any]) -> Progress:
    """Return the progress that a checkpoint's facts describe; a `ModelError` when they are not those of a run."""
    if missing := [name for name in _NAMES if name not in facts]:
        raise ModelError(f"the checkpoint's facts lack {', '.join(missing)}")
    odd = [name for name, kinds in _KINDS.items() if type(facts[name]) not in kinds]
    if odd or facts["iteration"] < 0:
        raise ModelError(f"the checkpoint's facts are not those of a run: {', '.join(odd) or 'iteration'}")
    rest = {name: value for name, value in facts.items() if name not in _NAMES}
    return Progress(**{name: facts[name] for name in _NAMES}, facts=rest)


class StopRequest:
    """Notes SIGINT and SIGTERM so that the loop can stop at a whole iteration; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __enter__(self) -> StopRequest:
        self._previous = {n: signal.signal(n, self._note) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
