"""The state of a training engine as a few vectors: written once for all engines, which provide the vectors.

Parameters, gradient, optimizer state and moving average lie in one vector each, parameters that weight decay acts on
first, so that an update is some operations however many layers there are.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from lffd.training.engine import check_state
from lffd.training.options import OptimizerOptions

Arrays = Mapping[str, NDArray[Any]]
FlatT = TypeVar("FlatT", bound="Flat")

_MOMENTS = {"sgd": ("momentum",), "adamw": ("mean", "variance")}
"""What each optimizer remembers of every parameter."""


class Flat(ABC):
    """Named float32 arrays that share memory with one vector on the device.

    Attributes:
        shapes: by name, in the order in which they lie in the vector.
        starts: where each begins there.
        size: of the vector.
        vector: all of them, with zeros between.
    """

    vector: Any

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], align: int = 1) -> None:
        """Lay the arrays out, each at a multiple of `align` elements."""
        self.shapes = dict(shapes)
        self.starts: dict[str, int] = {}
        self.size = 0
        for name, shape in shapes.items():
            self.starts[name] = self.size
            self.size += -(-math.prod(shape) // align) * align

    def fill(self, arrays: Arrays, prefix: str = "") -> None:
        """Copy host arrays in; that of `name` is `arrays[prefix + name]`."""
        for name in self.shapes:
            self._put(name, arrays[prefix + name])

    def read(self, prefix: str = "") -> dict[str, NDArray[np.float32]]:
        """Return host copies by `prefix` + name."""
        return {prefix + name: self._get(name) for name in self.shapes}

    @abstractmethod
    def _put(self, name: str, value: NDArray[Any]) -> None: ...

    @abstractmethod
    def _get(self, name: str) -> NDArray[np.float32]: ...


class FlatState(ABC, Generic[FlatT]):
    """The part of a `TrainingEngine` that knows its state; an engine adds gradients and the optimizer's arithmetic.

    Args:
        initial: `arg:NAME` and `aux:NAME` arrays.
        optimizer: how to update.
        make: returns zeros of these shapes on the device.
    """

    rank, workers = 0, 1

    def __init__(self, initial: Arrays, optimizer: OptimizerOptions, make: Callable[[dict[str, Any]], FlatT]) -> None:
        shapes = {
            kind: {name.removeprefix(kind): value.shape for name, value in initial.items() if name.startswith(kind)}
            for kind in ("arg:", "aux:")
        }
        decays_first = dict(sorted(shapes["arg:"].items(), key=lambda item: not _decays(item[0])))
        self._params, self._gradient = (make(decays_first) for _ in range(2))
        self._states = make(shapes["aux:"])
        self._optimizer, self._updates = optimizer, 0
        self._moments = {role: make(decays_first) for role in _MOMENTS[optimizer.name]}
        self._averages = {kind: make(part.shapes) for kind, part in self._learnt().items()} if optimizer.ema else {}
        end = next((start for name, start in self._params.starts.items() if not _decays(name)), self._params.size)
        self._decayed = slice(0, end)

    def _learnt(self) -> dict[str, FlatT]:
        return {"arg:": self._params, "aux:": self._states}

    def _start(self, initial: Arrays) -> None:
        """Take the initial arrays, rank 0's where there are several workers; the average starts from them too."""
        for kind, part in self._learnt().items():
            part.fill(initial, kind)
        self._join()
        for kind, average in self._averages.items():
            average.vector[:] = self._learnt()[kind].vector

    def _join(self) -> None:
        """Give all workers the parameters and running statistics of rank 0."""

    def _collect(self) -> None:
        """Bring running statistics that live elsewhere into their vector."""

    def _spread(self) -> None:
        """Bring parameters and running statistics to where steps read them."""

    @abstractmethod
    def _move(self, gradient: Any, rate: float) -> None:
        """Apply step number `_updates` of the optimizer to the parameters' vector, with a clipped gradient."""

    def _update(self, gradient: Any, rate: float) -> None:
        """Apply one optimizer step, and move the average along."""
        self._updates += 1
        self._move(gradient, rate)
        share = 1 - min(self._optimizer.ema, (1 + self._updates) / (10 + self._updates))
        for kind, average in self._averages.items():
            average.vector += share * (self._learnt()[kind].vector - average.vector)

    @abstractmethod
    def _sum_over_workers(self, what: str, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of all workers' counts."""

    def agree(self, code: int) -> int:
        """Return the largest code of all workers; see `TrainingEngine.agree`."""
        codes = np.zeros(self.workers)
        codes[self.rank] = code
        return int(self._sum_over_workers("codes", codes).max())

    def _stored(self) -> dict[str, FlatT]:
        """Return all state by the prefix of its names; see `TrainingEngine.state`."""
        averages = {f"ema:{kind}": average for kind, average in self._averages.items()}
        moments = {f"optimizer:{role}:": moment for role, moment in self._moments.items()}
        return {**self._learnt(), **averages, **moments}

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything that the next step depends on; see `TrainingEngine.state`."""
        self._collect()
        found: dict[str, NDArray[Any]] = {"optimizer:updates": np.array([self._updates], np.int64)}
        for prefix, part in self._stored().items():
            found |= part.read(prefix)
        return found

    def load_state(self, arrays: Arrays) -> None:
        """Take a state that `state` returned; see `TrainingEngine.load_state`."""
        stored = self._stored()
        shapes = {prefix + name: shape for prefix, part in stored.items() for name, shape in part.shapes.items()}
        check_state({**shapes, "optimizer:updates": (1,)}, arrays)
        for prefix, part in stored.items():
            part.fill(arrays, prefix)
        self._updates = int(arrays["optimizer:updates"][0])
        self._spread()

    def deployable(self) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Return parameters and running statistics to evaluate and save; see `TrainingEngine.deployable`."""
        self._collect()
        params, states = (part.read() for part in (self._averages or self._learnt()).values())
        return dict(params), dict(states)

    def nonfinite(self) -> list[str]:
        """Return the parameters whose gradient or value holds NaN or Inf."""
        gradients, values = self._gradient.read(), self._params.read()
        return [n for n in values if not (np.isfinite(gradients[n]).all() and np.isfinite(values[n]).all())]


def _decays(name: str) -> bool:
    """Return whether weight decay acts on a parameter: on convolution weights only."""
    return name.endswith("_weight")
