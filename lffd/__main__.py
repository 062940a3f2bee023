"""The command `lffd`: every command of the project under one name. In a bare clone it is `python lffd`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lffd import __version__, cli
from lffd.errors import UsageError
from lffd.farms import load
from lffd.hints import unknown

COMMANDS: dict[str, tuple[str, str]] = {
    "predict": ("accuracy_evaluation.predict", "find objects in images, videos and cameras"),
    "models": ("symbol_farm.models", "list the models that come with the project, and the versions"),
    "pack": ("data_provider_farm.pack", "turn annotated images into one packed file"),
    "label": ("detection.label", "let detectors annotate pictures, or complete a pack"),
    "inspect": ("data_provider_farm.inspect", "show what is in a pack, and whether a network fits it"),
    "edit": ("data_provider_farm.edit", "merge, split and shuffle packs, rebuild an index"),
    "suggest-ranges": ("data_provider_farm.suggest_ranges", "propose object ranges of branches for a pack"),
    "preview": ("data_iterator_farm.preview", "draw what a network is taught: crops and the cells of each branch"),
    "describe": ("symbol_farm.describe", "print and draw the structure of a version"),
    "record-teacher": ("detection.record_teacher", "let a teacher look at a pack once, for train --distill"),
    "overfit": ("config_farm.overfit", "check new data or a new version: learn one image by heart"),
    "train": ("config_farm.train", "train a version, or one of your own from a file"),
    "launch": ("config_farm.launch", "train on several processes or machines with MXNet"),
    "evaluate widerface": ("accuracy_evaluation.evaluation_on_widerface", "WIDER FACE by the official protocol"),
    "evaluate fddb": ("accuracy_evaluation.evaluation_on_fddb", "FDDB by the official protocol"),
    "evaluate pack": ("accuracy_evaluation.evaluation_on_pack", "average precision on any pack"),
    "evaluate landmarks": ("accuracy_evaluation.landmark_error", "error of the five points of faces on any pack"),
    "score widerface": ("accuracy_evaluation.widerface_ap", "score anyone's WIDER FACE result files"),
    "score fddb": ("accuracy_evaluation.fddb_roc", "score anyone's FDDB result file"),
    "speed": ("inference_speed_evaluation.inference_speed_eval", "latency by engine, size, precision and threads"),
    "compare": ("inference_speed_evaluation.comparison", "accuracy, size and latency of detectors in one table"),
    "export onnx": ("deployment.export_onnx", "write a model as ONNX, run and compared first"),
    "export ncnn": ("deployment.export_ncnn", "write a model for ncnn, run and compared first"),
    "serve": ("deployment.serve", "offer models to a browser and over HTTP"),
    "export page": ("deployment.export_page", "write the browser's page as static files"),
    "quantize": ("deployment.quantize", "make an int8, bf16 or fp16 model, with what it costs"),
    "trim": ("deployment.trim", "cut off branches that a task cannot need"),
}
"""Each command: the module whose `main(options)` it runs, and what it does. A module that reads its arguments itself
has `start(arguments, prog)` instead."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the first words name, with the rest of them; without any, list the commands."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = next((words for words in (" ".join(given[:2]), *given[:1]) if words in COMMANDS), None)
    if name is None:
        cli.finish(lambda: without_command(given))
        return
    module = load(COMMANDS[name][0])
    start = getattr(module, "start", None) or partial(cli.run, module.main)
    start(given[len(name.split()) :], prog=f"lffd {name}")


def without_command(given: Sequence[str]) -> None:
    """Print the version, or the commands that go on from `given`; a `UsageError` for what is none."""
    words = [word for word in given if word not in ("-h", "--help")]
    if words == ["--version"]:
        print(f"lffd {__version__}")
        return
    rows = {name: about for name, (_, about) in COMMANDS.items() if name.split()[: len(words)] == words}
    if not rows:
        raise UsageError(unknown(" ".join(words[:2]), COMMANDS, "command", "lffd alone lists them all"))
    print(f"usage: lffd {' '.join([*words, 'COMMAND'])} …        (lffd COMMAND --help explains one)\n")
    width = max(map(len, rows))
    print("\n".join(f"  {name:{width}}  {about}" for name, about in rows.items()))


if __name__ == "__main__":
    main()
