"""The command `lffd`: every row of its table, what it lists, and how it is called in help and errors."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lffd
from lffd.__main__ import COMMANDS, main
from tests.conftest import PROJECT


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    said = capsys.readouterr()
    return int(stop.value.code or 0), said.out, said.err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_by_its_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *name.split(), "--help")
    assert code == 0
    assert re.match(rf"usage: lffd {name}\b", out)


def test_every_module_with_a_command_line_is_a_command() -> None:
    """But for measurements of our own parts, configurations, which `lffd train` knows, and workers."""
    packages = [
        path.parent for path in PROJECT.glob("*/__init__.py") if path.parent.name not in ("tests", "benchmarks")
    ]
    mains = {
        ".".join(path.relative_to(PROJECT).with_suffix("").parts)
        for package in packages
        for path in package.rglob("*.py")
        if 'if __name__ == "__main__":' in path.read_text() and not path.name.startswith("configuration_")
    }
    listed = {module for module, _ in COMMANDS.values()}
    assert mains - listed == {"lffd.__main__", "inference_speed_evaluation.worker"}
    assert listed - mains == {"config_farm.train"}


def test_alone_it_lists_all_and_a_group_lists_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 0
    assert [line.split("  ")[1] for line in out.splitlines()[2:]] == list(COMMANDS)
    code, out, _ = run(capsys, "evaluate")
    assert code == 0
    assert [line.split()[1] for line in out.splitlines()[2:]] == ["widerface", "fddb", "pack", "landmarks"]
    assert run(capsys, "--version")[:2] == (0, f"lffd {lffd.__version__}\n")


@pytest.mark.parametrize(("given", "message"), [
    (("predit",), "unknown command 'predit': did you mean predict?"),
    (("evaluate", "coco"), "unknown command 'evaluate coco': did you mean evaluate "),
    (("train", "plat"), "unknown version 'plat': did you mean plate?"),
])  # fmt: skip
def test_what_is_no_command_is_one_line(
    given: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *given)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


def test_wrong_flags_are_answered_in_the_name_that_was_typed(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "evaluate", "pack", "--packk", "x")
    assert code == 2
    assert "lffd evaluate pack --help" in err
    code, _, err = run(capsys, "train", "v2", "--batch-sze", "3")
    assert code == 2
    assert "lffd train v2 --help" in err


def test_listing_loads_no_library() -> None:
    code = "import sys; from lffd.__main__ import main\ntry: main([])\nexcept SystemExit: pass\n"
    code += "print(sorted({'numpy', 'tyro', 'cv2', 'onnxruntime'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", sorted(set(lffd.__all__) - {"__version__"}))
def test_names_that_the_package_hands_on(name: str) -> None:
    assert getattr(lffd, name).__name__ == name
    assert name in dir(lffd)


def test_other_names_are_missing_as_anywhere() -> None:
    with pytest.raises(AttributeError, match="module 'lffd' has no attribute 'Detectr'"):
        lffd.Detectr  # noqa: B018
    assert importlib.import_module("lffd.cli").__name__ == "lffd.cli"


LINES = """
if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
"""

STARTED_BY_PATH = [
    *(path.relative_to(PROJECT).as_posix() for path in sorted((PROJECT / "config_farm").glob("configuration_*.py"))),
    "accuracy_evaluation/predict.py",
    "accuracy_evaluation/evaluation_on_widerface.py",
    "accuracy_evaluation/evaluation_on_fddb.py",
    "accuracy_evaluation/evaluation_on_pack.py",
    "inference_speed_evaluation/inference_speed_eval.py",
    "deployment/export_onnx.py",
    "deployment/export_ncnn.py",
    "deployment/quantize.py",
    "deployment/trim.py",
    "tools/pack_for_bare_machine.py",
    "lffd/__main__.py",
]


@pytest.mark.parametrize("script", STARTED_BY_PATH)
def test_scripts_that_are_started_by_their_path_find_the_clone(script: str) -> None:
    assert (PROJECT / script).read_text().count(LINES) == 1


@pytest.mark.parametrize("script", [
    "config_farm/configuration_demo.py",
    "accuracy_evaluation/predict.py",
    "inference_speed_evaluation/inference_speed_eval.py",
    "tools/pack_for_bare_machine.py",
    "lffd",
])  # fmt: skip
def test_scripts_of_a_clone_start_from_any_folder(
    script: str, bare_python: Path, outside: dict[str, str], tmp_path: Path
) -> None:
    """With the dependencies alone: nothing of the project is installed, and no path is set."""
    command = [str(bare_python), str(PROJECT / script), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=outside, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


def test_processes_of_a_clone_find_it_from_any_folder(
    bare_python: Path, outside: dict[str, str], tmp_path: Path
) -> None:
    script = PROJECT / "inference_speed_evaluation" / "inference_speed_eval.py"
    command = [str(bare_python), str(script), "--model", "v3", "--engines", "onnxruntime"]
    command += ["--resolutions", "160x140", "--seconds", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=outside, timeout=120)
    assert "v3 onnxruntime fp32 |" in done.stdout, done.stderr
