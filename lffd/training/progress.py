"""What a run remembers besides its engine's state, and the signals that ask it to stop."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
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
        return {**self.facts, **{name: getattr(self, name) for name in _PROGRESS}}


_PROGRESS = ("iteration", "best_score", "best_iteration", "without_gain", "validation_owed", "seconds")


def restore_progress(facts: Mapping[str, Any]) -> Progress:
    """Return the progress that a checkpoint's facts describe.

    Raises:
        ModelError: when they are not those of a run.
    """
    if missing := [name for name in _PROGRESS if name not in facts]:
        raise ModelError(f"the checkpoint's facts lack {', '.join(missing)}")
    rest = {name: value for name, value in facts.items() if name not in _PROGRESS}
    return Progress(**{name: facts[name] for name in _PROGRESS}, facts=rest)


class StopRequest:
    """Notes SIGINT and SIGTERM so that the loop can stop at a whole iteration; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
