"""The commands that are killed, each small enough for dozens of runs, and how to see that their files are whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_provider_farm.drawn_faces.pictures import synthetic_records
from lffd.errors import LffdError, UsageError
from lffd.graphs.model import CARD_FILE, PARAMS_FILE, load_model
from lffd.records import Record
from lffd.training.checkpoint import read_checkpoint

PROJECT = Path(__file__).resolve().parent.parent.parent
PICTURES, SIDE = 12, 160
"""Drawn pictures, and their side in pixels."""


def draw_inputs(folder: Path) -> None:
    """Write what the commands read: pictures in the layout of WIDER FACE, their annotations and ground truth."""
    from scipy.io import savemat

    event, records = "0--Drawn", synthetic_records(PICTURES, SIDE, 0)
    (folder / "images" / event).mkdir(parents=True)
    lines = list[str]()
    for number, record in enumerate(records):
        name = f"{event}/{number:02d}.jpg"
        (folder / "images" / name).write_bytes(record.image)
        rows = [f"{' '.join(map(str, row))} 0 0 0 0 0 0" for row in _corner_and_sides(record).tolist()]
        lines += [name, str(len(rows)), *(rows or ["0 0 0 0 0 0 0 0 0 0"])]
    (folder / "annotations.txt").write_text("\n".join(lines) + "\n")
    names, boxes = (_column([values]) for values in (_column([f"{n:02d}" for n in range(PICTURES)]), _boxes(records)))
    every = _column([_column([np.arange(1, len(record.boxes) + 1.0)[:, None] for record in records])])
    content = {"event_list": _column([event]), "file_list": names, "face_bbx_list": boxes, "gt_list": every}
    for name in ("wider_face", "wider_easy", "wider_medium", "wider_hard"):
        savemat(folder / f"{name}_val.mat", content)


def _corner_and_sides(record: Record) -> np.ndarray:
    return np.concatenate([record.boxes[:, :2], record.boxes[:, 2:] - record.boxes[:, :2]], axis=1).astype(float)


def _boxes(records: Sequence[Record]) -> np.ndarray:
    return _column([_corner_and_sides(record) for record in records])


def _column(cells: Sequence[object]) -> np.ndarray:
    """Return an n×1 MATLAB cell array."""
    array = np.empty((len(cells), 1), object)
    for number, cell in enumerate(cells):
        array[number, 0] = cell
    return array


@dataclass(frozen=True)
class Job:
    """One command.

    Attributes:
        words: the command behind the interpreter; it runs in the project's folder.
        results: patterns of the files, below the folder `out`, that must be equal at the end.
        again: further words when it is given again.
        whole: says of a file that lies there under its own name after a kill whether it is whole; by default it must
            be one of the undisturbed run's, to the byte.
        read: what of a result is compared; everything by default.
    """

    words: Callable[[Path], Sequence[str]]
    results: tuple[str, ...]
    again: tuple[str, ...] = ()
    whole: Callable[[Path], bool] = lambda path: False
    read: Callable[[Path], bytes] = Path.read_bytes


def _loads(path: Path) -> bool:
    """Say whether a checkpoint, or a model of which this is a file, can be read whole."""
    try:
        if path.suffix == ".npz":
            read_checkpoint(path)
        elif (path.parent / CARD_FILE).exists():
            load_model(path.parent)
    except LffdError:
        return False
    return True


def _card_without_times(path: Path) -> bytes:
    """Return a file's bytes; of a card, only the facts that two equal runs share."""
    if path.name != CARD_FILE:
        return path.read_bytes()
    card = json.loads(path.read_bytes())
    for fact in ("minutes", "seconds", "experiment", "origin"):
        card.get("training", {}).pop(fact, None)
    return json.dumps(card).encode()


def _train(engine: str) -> Job:
    words = ["config_farm/configuration_demo.py", "--engine", engine, "--train-data", "synthetic:16", "--val-data"]
    words += ["synthetic:2", "--iterations", "6", "--batch-size", "2", "--input-size", "96", "--checkpoint-every", "2"]
    words += ["--validate-every", "3", "--val-pictures", "0", "--threads", "1", "--output-dir"]
    results = (f"model/{PARAMS_FILE}", f"model/{CARD_FILE}", f"best/{PARAMS_FILE}")
    return Job(lambda at: [*words, str(at / "out")], results, ("--resume",), _loads, _card_without_times)


def _predict(at: Path) -> list[str]:
    given = ["accuracy_evaluation/predict.py", str(at / "images"), "--model", "face_light", "--engine", "onnxruntime"]
    out = at / "out"
    return [*given, "--output-dir", str(out), "--json", str(out / "found.json"), "--csv", str(out / "found.csv")]


def _evaluate(at: Path) -> list[str]:
    given = ["accuracy_evaluation/evaluation_on_widerface.py", "--model", "face_light", "--engine", "onnxruntime"]
    return [*given, "--images", str(at / "images"), "--ground-truth", str(at), "--output-dir", str(at / "out")]


def _pack(at: Path) -> list[str]:
    given = ["-m", "data_provider_farm.pack", "--format", "widerface", "--max-side", "100", "--images"]
    annotations = ["--annotations", str(at / "annotations.txt")]
    return [*given, str(at / "images"), *annotations, "--workers", "1", "--output", str(at / "out" / "x.rec")]


def _quantize(at: Path) -> list[str]:
    given = ["deployment/quantize.py", "--model", "face_light", "--images", "3", "--calibration", str(at / "images")]
    return [*given, "--output-dir", str(at / "out" / "int8")]


JOBS: dict[str, Job] = {
    "pack": Job(_pack, ("x.rec", "x.idx")),
    "train-mxnet": _train("mxnet"),
    "train-torch": _train("torch"),
    "evaluate": Job(_evaluate, ("0--Drawn/*.txt", "branches/0--Drawn/*.txt", "report.json")),
    "predict": Job(_predict, ("**/*.jpg", "found.json", "found.csv")),
    "quantize": Job(_quantize, ("int8/*",), whole=_loads),
}
"""Every command by name."""


def command(name: str, folder: Path, again: bool = False) -> list[str]:
    """Return the words of a job's command, for its first run or a later one; raises `UsageError` for no such job."""
    if name not in JOBS:
        raise UsageError(f"unknown job {name!r}: choose of {', '.join(JOBS)}")
    return [sys.executable, *JOBS[name].words(folder), *(JOBS[name].again if again else ())]
