"""Made-up data sets and detectors for the tests of this folder, and a way to run commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lffd import cli

Truth = Mapping[str, Mapping[str, tuple[Sequence[Sequence[float]], Sequence[Sequence[int]]]]]
"""Event → image → (boxes as x, y, width, height; 1-based indices evaluated in easy, medium, hard)."""


def run_command(
    capsys: pytest.CaptureFixture[str], main: Callable[[Any], int | None], *arguments: str | Path
) -> tuple[int, str, str]:
    """Run a command line in this process; return exit code, standard output, standard error."""
    with pytest.raises(SystemExit) as stop:
        cli.run(main, [str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out, captured.err


def _column(cells: Sequence[Any]) -> np.ndarray:
    """Return an n×1 MATLAB cell array."""
    array = np.empty((len(cells), 1), object)
    array[:, 0] = list(cells)
    return array


def write_truth(folder: Path, truth: Truth) -> Path:
    """Write the four official WIDER FACE files into a folder."""
    from scipy.io import savemat

    folder.mkdir(parents=True, exist_ok=True)
    images = [list(event.values()) for event in truth.values()]
    boxes = [_column([np.array(boxes, float).reshape(-1, 4) for boxes, _ in rows]) for rows in images]
    content = {
        "event_list": _column(list(truth)),
        "file_list": _column([_column(list(event)) for event in truth.values()]),
        "face_bbx_list": _column(boxes),
    }
    savemat(folder / "wider_face_val.mat", content, do_compression=True)  # as the official files are
    for subset, name in enumerate(("easy", "medium", "hard")):
        lists = [_column([np.array(chosen[subset], float).reshape(-1, 1) for _, chosen in rows]) for rows in images]
        savemat(folder / f"wider_{name}_val.mat", {"gt_list": _column(lists)}, do_compression=True)
    return folder


def write_onnx(path: Path, outputs: Mapping[str, np.ndarray], shape: Sequence[int | str], name: str = "input") -> Path:
    """Write an ONNX file whose outputs are constants, whatever its input of the given shape holds."""
    import onnx

    helper, kinds = onnx.helper, onnx.TensorProto
    nodes = [
        # ONNX Runtime drops an input that nothing reads: its largest number, times nothing, is added to all outputs
        helper.make_node("ReduceMax", [name], ["top"], keepdims=0),
        helper.make_node("Mul", ["top", "nothing"], ["zero"]),
    ]
    infos = []
    for output, values in outputs.items():
        tensor = onnx.numpy_helper.from_array(values.astype(np.float32))
        nodes.append(helper.make_node("Constant", [], [f"{output}_constant"], value=tensor))
        nodes.append(helper.make_node("Add", [f"{output}_constant", "zero"], [output]))
        infos.append(helper.make_tensor_value_info(output, kinds.FLOAT, list(values.shape)))
    nothing = onnx.numpy_helper.from_array(np.zeros((), np.float32), "nothing")
    source = helper.make_tensor_value_info(name, kinds.FLOAT, list(shape))
    graph = helper.make_graph(nodes, "made-up", [source], infos, [nothing])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path
