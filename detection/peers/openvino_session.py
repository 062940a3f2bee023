"""An OpenVINO file (IR, `.xml` with its `.bin`) with the few methods of an ONNX Runtime session that peers need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lffd.engines.base import telling
from lffd.errors import EngineError
from lffd.hints import require


class Entry(NamedTuple):
    """One input or output: sizes that are not fixed are None."""

    name: str
    type: str
    shape: list[int | None]


class OpenVinoSession:
    """Runs a file on the CPU; see `lffd.engines.onnxruntime_engine.open_session`.

    Raises:
        EngineError: when OpenVINO is missing, refuses the file, or is asked for another device.
    """

    def __init__(self, path: Path, device: str, threads: int | None) -> None:
        if device != "cpu":
            raise EngineError(f"{path}: OpenVINO files of other projects run on --device cpu only, not on {device}")
        core = require("openvino", "openvino").Core()
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        with telling("OpenVINO refuses it"):
            self._model = core.read_model(path)
            self._compiled = core.compile_model(self._model, "CPU", settings)
        self._request = self._compiled.create_infer_request()
        self._outputs = {_name(port): number for number, port in enumerate(self._compiled.outputs)}

    def get_inputs(self) -> list[Entry]:
        """Return what the file takes."""
        return [_entry(port) for port in self._compiled.inputs]

    def get_outputs(self) -> list[Entry]:
        """Return what the file gives."""
        return [_entry(port) for port in self._compiled.outputs]

    def run(self, names: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Return the outputs of these names for one input."""
        (tensor,) = feeds.values()
        self._request.infer({0: tensor}, share_inputs=True)
        return [self._request.get_output_tensor(self._outputs[name]).data.copy() for name in names]

    def shifts_image(self) -> bool:
        """Return whether the file itself subtracts something from its image, before anything else looks at it."""
        port = self._model.inputs[0]
        while len(readers := port.get_target_inputs()) == 1:
            node = next(iter(readers)).get_node()
            if node.get_type_name() in ("Add", "Subtract"):
                sources = (node.input_value(number).get_node() for number in range(node.get_input_size()))
                return any(source.get_type_name() in ("Constant", "Convert") for source in sources)
            if node.get_type_name() not in ("Multiply", "Divide", "Convert"):
                return False
            port = node.output(0)
        return False


def _name(port: Any) -> str:
    names = sorted(port.get_names())
    return str(names[0] if names else port.get_node().get_friendly_name())


def _entry(port: Any) -> Entry:
    kind = "float" if port.get_element_type().get_type_name() == "f32" else port.get_element_type().get_type_name()
    shape = [None if side.is_dynamic else side.get_length() for side in port.get_partial_shape()]
    return Entry(_name(port), f"tensor({kind})", shape)
