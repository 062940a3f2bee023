"""The layer functions in which a network is declared; together they make its one graph.

```python
net = Layers()
x = net.conv(net.image(), 16, stride=2)          # 3×3, batch normalisation while training, ReLU
x = net.separable(x, 32)                          # depthwise 3×3, then 1×1
y = net.add(net.conv(x, 64, kernel=1, relu=False), net.enlarge(deeper))
```

Every function takes maps and returns a map, which is nothing but its node's position in the graph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NewType

from lffd.graphs.graph import Graph, parameter_node
from lffd.graphs.operators import OPERATORS, Node, Place

Map = NewType("Map", int)
"""A layer's result: a position in the graph."""

PIXEL_CENTER = 127.5
"""LFFD maps pixels of 0–255 to −1–1: `(data − 127.5) / 127.5`."""


class Layers:
    """Collects the nodes of one graph; unnamed ones are numbered as MXNet does.

    Attributes:
        gains: name of each convolution that is followed by batch normalisation while training, and the gain that it
            starts with.
    """

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._places: list[Place] = []
        self._unnamed: Counter[str] = Counter()
        self.gains: dict[str, float] = {}

    def image(self, center: float | tuple[float, float, float] = PIXEL_CENTER, scale: float = PIXEL_CENTER) -> Map:
        """Return the input `data` `(B, 3, H, W)`, BGR, 0–255, as `(data − center) / scale`.

        A center may be one number, or one for each of blue, green and red. Exports fold this into the convolutions that
        read it; with a center that needs them to be unpadded, since the zeros around the image would stand for another
        grey.
        """
        x = self._append("data", "null", {}, ())
        if isinstance(center, tuple):
            return self._append(
                self._next("normalize"), "_image_normalize", {"mean": center, "std": (scale,) * 3}, (x,)
            )
        if center:
            x = self._append(self._next("_minusscalar"), "_minus_scalar", {"scalar": center}, (x,))
        return self._append(self._next("_divscalar"), "_div_scalar", {"scalar": scale}, (x,))

    def conv(
        self,
        x: Map,
        channels: int,
        kernel: int = 3,
        stride: int = 1,
        pad: int | None = None,
        *,
        groups: int = 1,
        dilate: int = 1,
        relu: bool = True,
        slope: float = 0.0,
        gain: float | None = 1.0,
        bias: bool = True,
        name: str | None = None,
        weights_of: str | None = None,
    ) -> Map:
        """Return a square convolution, ReLU behind it.

        Args:
            x: what it reads.
            channels: of its result.
            kernel: side of its window.
            stride: of its window.
            pad: zeros on each side; half of what the window covers when None.
            groups: into which the channels are cut; as many as channels makes it depthwise.
            dilate: distance of the window's taps.
            relu: end with a ReLU.
            slope: of that ReLU below 0.
            gain: with which batch normalisation starts, while training; None for no normalisation.
            bias: whether it has one; a normalised one must, as that is where the normalisation goes.
            name: prefix of its parameters; numbered when None.
            weights_of: name of an earlier convolution whose parameters it uses; it has none of its own then, and
                neither of the two is normalised.
        """
        name = name or f"conv{self._number('conv')}"
        attrs: dict[str, Any] = {"kernel": (kernel,) * 2, "num_filter": channels, "stride": (stride,) * 2}
        attrs["pad"] = (dilate * (kernel // 2) if pad is None else pad,) * 2
        if groups > 1:
            attrs["num_group"] = groups
        if dilate > 1:
            attrs["dilate"] = (dilate,) * 2
        if not bias:
            attrs["no_bias"] = True
        if gain is not None:
            self.gains[name] = gain
        result = self._append(name, "Convolution", attrs, (x,), weights_of)
        if relu and slope:
            return self.leaky_relu(result, slope)
        return self.relu(result, f"relu_{name}") if relu else result

    def depthwise(self, x: Map, *, relu: bool = False, gain: float | None = None, name: str | None = None) -> Map:
        """Return a padded 3×3 convolution of every channel by itself; plain, as the 1×1 behind it normalises."""
        channels = self.channels(x)
        return self.conv(x, channels, groups=channels, relu=relu, gain=gain, name=name)

    def separable(self, x: Map, channels: int, *, relu: bool = True, gain: float = 1.0, name: str | None = None) -> Map:
        """Return a depthwise 3×3 and a 1×1 convolution, the latter normalised while training."""
        name = name or f"conv{self._number('conv')}"
        return self.conv(self.depthwise(x, name=f"{name}_dw"), channels, 1, relu=relu, gain=gain, name=name)

    def add(self, x: Map, y: Map) -> Map:
        """Return the sum of two maps."""
        return self._append(self._next("_plus"), "elemwise_add", {}, (x, y))

    def concat(self, *maps: Map) -> Map:
        """Return the channels of several maps, one after the other."""
        return self._append(self._next("concat"), "Concat", {"dim": 1, "num_args": len(maps)}, maps)

    def relu(self, x: Map, name: str | None = None) -> Map:
        """Return what is positive, and 0 for the rest."""
        return self._append(name or self._next("relu"), "Activation", {"act_type": "relu"}, (x,))

    def leaky_relu(self, x: Map, slope: float = 0.1) -> Map:
        """Return what is positive, and the rest times `slope`."""
        return self._append(self._next("leaky"), "LeakyReLU", {"act_type": "leaky", "slope": slope}, (x,))

    def max_pool(self, x: Map, kernel: int = 3, stride: int = 2) -> Map:
        """Return the maximum of each window; padded by half the kernel when that is odd, so that cells stay in line."""
        sides: dict[str, Any] = {"kernel": (kernel,) * 2, "stride": (stride,) * 2, "pad": ((kernel - 1) // 2,) * 2}
        return self._append(self._next("pool"), "Pooling", {**sides, "pool_type": "max"}, (x,))

    def enlarge(self, x: Map) -> Map:
        """Return the map twice as large both ways, each cell repeated (nearest neighbour)."""
        attrs = {"num_args": 1, "sample_type": "nearest", "scale": 2}
        return self._append(self._next("upsampling"), "UpSampling", attrs, (x,))

    def probability(self, x: Map, branch: int, predictions: int = 1) -> Map:
        """Return the object probability of a branch's score map, as `score_<branch>`.

        That is the softmax over two channels, the object first, or a sigmoid for each prediction of a cell. Of several
        predictions with two channels each, all objects first, it is the sigmoid of their difference, which is the same.
        """
        if self.channels(x) == 2 * predictions > 2:
            halves = [
                self._append(f"{part}_{branch}", "slice_axis", {"axis": 1, "begin": at, "end": at + predictions}, (x,))
                for part, at in (("object", 0), ("background", predictions))
            ]
            x = self._append(self._next("_minus"), "elemwise_sub", {}, tuple(halves))
        if (self.channels(x), predictions) != (2, 1):
            return self._append(f"score_{branch}", "Activation", {"act_type": "sigmoid"}, (x,))
        soft = self._append(f"probability_{branch}", "softmax", {"axis": 1}, (x,))
        return self._append(f"score_{branch}", "slice_axis", {"axis": 1, "begin": 0, "end": 1}, (soft,))

    def channels(self, x: Map) -> int:
        """Return how many channels a map has."""
        return self._places[x].channels

    def graph(self, outputs: Sequence[Map]) -> Graph:
        """Return the graph with these outputs."""
        return Graph(tuple(self._nodes), tuple(outputs))

    def _append(
        self, name: str, op: str, attrs: dict[str, Any], inputs: tuple[Map, ...], parameters_of: str | None = None
    ) -> Map:
        """Append a node, after variables for the parameters that its operator has; attributes become MXNet's text.

        With `parameters_of`, it reads those of the node of that name instead.
        """
        written = {key: str(attrs[key]) for key in sorted(attrs)}
        roles = OPERATORS[op].parameters[: -1 if attrs.get("no_bias") else None]
        parameters = [] if parameters_of else [parameter_node(name, role, written) for role in roles]
        places = tuple(range(len(self._nodes), len(self._nodes) + len(parameters)))
        if parameters_of:
            places = next(other.inputs[1:] for other in self._nodes if other.name == parameters_of)
        node = Node(name, op, written, (*inputs, *places))
        place = OPERATORS[op].place(node, [self._places[x] for x in inputs])
        self._nodes += [*parameters, node]
        self._places += [*(Place(0) for _ in parameters), place]
        return Map(len(self._nodes) - 1)

    def _next(self, prefix: str) -> str:
        """Return `prefix` with the next number, as MXNet names what the caller does not."""
        return f"{prefix}{self._number(prefix)}"

    def _number(self, prefix: str) -> int:
        self._unnamed[prefix] += 1
        return self._unnamed[prefix] - 1
