"""How a box is written in numbers that a network can learn, relative to the cell that predicts it.

A code works on corners `x0, y0, x1, y1` relative to the cell's centre, in units of the prediction (see
`network.Branch`). It is written once, in operators that NumPy, PyTorch, MXNet symbols and ONNX builders share, so that
training, prediction and exported graphs decode alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

CORNERS = "corners"


class BoxCode(Protocol):
    """One way to write a box."""

    @property
    def point_unit(self) -> float:
        """Unit of a point's offset from the cell's centre, as a share of the prediction's."""
        ...

    @property
    def initial(self) -> tuple[float, float, float, float]:
        """Code of a box that is a fair first guess, for the biases of an untrained network."""
        ...

    def encode(self, corners: NDArray[Any]) -> NDArray[Any]:
        """Return the codes `(N, 4)` of corners `(N, 4)`."""
        ...

    def corners(self, code: Sequence[Any], operators: Any) -> list[Any]:
        """Return four corners from the four channels of a code.

        Args:
            code: arrays or symbols, with `+`, `-` and `*` among themselves and with numbers.
            operators: offers `exp` for them: `numpy`, `torch`, `mx.sym`, …
        """
        ...


@dataclass(frozen=True)
class Corners:
    """LFFD's code (arXiv 1904.10633, section 3.2): cell centre minus corner, for each of the four."""

    initial: tuple[float, float, float, float] = (0.75, 0.75, -0.75, -0.75)
    point_unit: float = 1.0

    def encode(self, corners: NDArray[Any]) -> NDArray[Any]:
        """Return the codes of corners; see `BoxCode`."""
        return -corners

    def corners(self, code: Sequence[Any], operators: Any) -> list[Any]:
        """Return the corners of a code; see `BoxCode`."""
        return [-channel for channel in code]


@dataclass(frozen=True)
class CenterSize:
    """The code of SSD (arXiv 1512.02325) and RetinaFace: centre offset, and logarithm of the size, over variances.

    Attributes:
        center_variance, size_variance: what offsets and logarithms are divided by.
    """

    center_variance: float = 0.1
    size_variance: float = 0.2
    initial: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    @property
    def point_unit(self) -> float:
        """Unit of a point's offset; see `BoxCode`."""
        return self.center_variance

    def encode(self, corners: NDArray[Any]) -> NDArray[Any]:
        """Return the codes of corners; see `BoxCode`."""
        center, size = (corners[:, 2:] + corners[:, :2]) / 2, corners[:, 2:] - corners[:, :2]
        logarithm = np.log(np.maximum(size, 1e-6))
        return np.concatenate([center / self.center_variance, logarithm / self.size_variance], axis=1)

    def corners(self, code: Sequence[Any], operators: Any) -> list[Any]:
        """Return the corners of a code; see `BoxCode`."""
        x, y = (channel * self.center_variance for channel in code[:2])
        half_width, half_height = (operators.exp(channel * self.size_variance) * 0.5 for channel in code[2:])
        return [x - half_width, y - half_height, x + half_width, y + half_height]


CODES: dict[str, BoxCode] = {
    CORNERS: Corners(),
    "center-size": CenterSize(),
    "center-size-plain": CenterSize(center_variance=1.0, size_variance=1.0),
}
"""Every code by the name under which a network declares it."""
