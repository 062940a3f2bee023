"""The kinds of ONNX detectors that are known by name: how an image enters the network and what comes out.

To add a kind: write its decoder in `decoders.py` and one entry of `KINDS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from detection.peers import decoders
from lffd.errors import ModelError, UsageError
from lffd.hints import unknown

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class PeerKind:
    """How a family of detectors is fed and read.

    Attributes:
        outputs: for each output that `decode` takes, in its order: the name, or "" for any, and the shape without the
            batch axis; None stands for any size. Outputs without a name are told apart by shape.
        mean, scale: subtracted from each channel, in `color_order`; what the difference is then divided by.
        multiple: images are padded with black at the right and bottom to a multiple of this.
        input_size: fixed width and height to which images are stretched; None where the file is free to choose.
        has_landmarks: whether `decode` gives landmarks.
    """

    outputs: tuple[tuple[str, Shape], ...]
    decode: decoders.Decoder
    color_order: Literal["RGB", "BGR"]
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0
    multiple: int = 1
    input_size: tuple[int, int] | None = None
    has_landmarks: bool = True

    def padded(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of an image after padding."""
        return -(-width // self.multiple) * self.multiple, -(-height // self.multiple) * self.multiple


def _per_stride(fields: tuple[tuple[str, int], ...]) -> tuple[tuple[str, Shape], ...]:
    """Return outputs `field_stride` of shape `(A, width)`, field by field, for strides 8, 16, 32."""
    return tuple((f"{name}_{stride}", (None, width)) for name, width in fields for stride in decoders.STRIDES)


_ULTRA_LIGHT = PeerKind(
    outputs=(("scores", (4420, 2)), ("boxes", (4420, 4))),
    decode=decoders.decode_ultra_light,
    color_order="RGB",
    mean=(127.0, 127.0, 127.0),
    scale=128.0,
    input_size=(320, 240),
    has_landmarks=False,
)

KINDS: dict[str, PeerKind] = {
    "slim-320": _ULTRA_LIGHT,
    "rfb-320": _ULTRA_LIGHT,
    "retinaface": PeerKind(
        outputs=(("", (None, 4)), ("", (None, 2)), ("", (None, 10))),
        decode=decoders.decode_retinaface,
        color_order="BGR",
        mean=(104.0, 117.0, 123.0),
    ),
    "retinaface-maps": PeerKind(
        outputs=tuple(("", (channels, None, None)) for _ in decoders.STRIDES for channels in (4, 8, 20)),
        decode=decoders.decode_retinaface_maps,
        color_order="RGB",
        multiple=32,
    ),
    "yunet": PeerKind(
        outputs=_per_stride((("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))),
        decode=decoders.decode_yunet,
        color_order="BGR",
        multiple=32,
    ),
    "scrfd": PeerKind(
        outputs=_per_stride((("score", 1), ("bbox", 4), ("kps", 10))),
        decode=decoders.decode_scrfd,
        color_order="RGB",
        mean=(127.5, 127.5, 127.5),
        scale=128.0,
        multiple=32,
    ),
}
"""Every kind by name."""


def peer_kind(name: str) -> PeerKind:
    """Return a kind by name; for an unknown one, UsageError names the nearest."""
    if name not in KINDS:
        raise UsageError(unknown(name, KINDS, "kind of peer"))
    return KINDS[name]


def check_input(session: Any, kind: PeerKind) -> tuple[str, tuple[int, int] | None]:
    """Return the name of a session's input, and its width and height where the file fixes them.

    Raises:
        ModelError: when the input is not what the kind needs.
    """
    inputs = session.get_inputs()
    found = ", ".join(f"{entry.name} {entry.type} {entry.shape}" for entry in inputs)
    shape = _sizes(inputs[0].shape)
    if [entry.type for entry in inputs] != ["tensor(float)"] or len(shape) != 4 or not _fits(shape, (3, None, None)):
        raise ModelError(f"it must have one float input of shape (1, 3, H, W), but has: {found}")
    height, width = shape[2:]
    if kind.input_size and not _fits(shape, (3, kind.input_size[1], kind.input_size[0])):
        raise ModelError(f"its input must be {kind.input_size[0]}×{kind.input_size[1]}, but is: {found}")
    if height is None or width is None:
        return inputs[0].name, None
    if height % kind.multiple or width % kind.multiple:
        raise ModelError(f"the sides of its input must be multiples of {kind.multiple}, but are: {found}")
    return inputs[0].name, (width, height)


def match_outputs(session: Any, kind: PeerKind) -> list[str]:
    """Return the names of a session's outputs that the decoder takes, in its order.

    Outputs are found by name; in a file with other names by shape, in the file's order.

    Raises:
        ModelError: when the session has no such outputs.
    """
    left = {entry.name: _sizes(entry.shape) for entry in session.get_outputs()}
    found = ", ".join(f"{name} {_text(sizes)}" for name, sizes in left.items())
    by_name = all(name in left for name, _ in kind.outputs)
    chosen = []
    for name, shape in kind.outputs:
        fitting = [other for other in left if _fits(left[other], shape) and (other == name or not by_name)]
        if not fitting:
            wanted = ", ".join(f"{name or '(any name)'} {_text(shape)}" for name, shape in kind.outputs)
            raise ModelError(f"its outputs must end in {wanted}; it has {found}")
        chosen.append(fitting[0])
        del left[fitting[0]]
    return chosen


def _sizes(shape: Sequence[Any]) -> Shape:
    """Return a declared shape with None for every size that is not fixed."""
    return tuple(size if isinstance(size, int) else None for size in shape)


def _fits(found: Shape, wanted: Shape) -> bool:
    """Say whether a declared shape ends in the wanted one."""
    pairs = list(zip(reversed(found), reversed(wanted), strict=False))
    return len(pairs) == len(wanted) and all(None in pair or pair[0] == pair[1] for pair in pairs)


def _text(shape: Shape) -> str:
    return "×".join("?" if size is None else str(size) for size in shape)
