"""What is installed: one package and its command, built from the source archive, used elsewhere, without MXNet."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from setup import moved
from tests.conftest import PROJECT
from tests.test_imports import MODULES, PACKAGES

UNWANTED = (".git", ".venv", "runs", "build", "dist", "site", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")
BUILD = """
import sys
from setuptools import build_meta
print(build_meta.build_sdist(sys.argv[1]))
"""
IMPORT_ALL = """
import importlib, sys, warnings
from pathlib import Path
import lffd
root = Path(lffd.__file__).parent.parent
for path in sorted((root / "lffd").rglob("*.py")):
    module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
    if "torch" not in module:
        importlib.import_module(module)
print(len([name for name in sys.modules if name.startswith("lffd.")]), sorted(set(sys.argv[1:]) & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made from the source archive of a copy of the clone."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    shutil.copytree(PROJECT, source, ignore=shutil.ignore_patterns(*UNWANTED))
    run([sys.executable, "-c", BUILD, str(folder)], source)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        content.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run([*command, "--disable-pip-version-check", f"--wheel-dir={folder}", str(unpacked)], folder)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, bare_python: Path) -> Path:
    """The folder of programs of an environment that the wheel is installed in."""
    command = [sys.executable, "-m", "pip", f"--python={bare_python}", "install", "--quiet", "--no-deps", "--no-index"]
    run([*command, "--disable-pip-version-check", str(wheel)], wheel.parent)
    return bare_python.parent


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the clone that has folders of its own by the names of ours."""
    folder = tmp_path_factory.mktemp("workplace")
    for name in ("deployment", "tests", "detection"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise RuntimeError('a folder of the user was imported')\n")
    return folder


def run(command: list[str], folder: Path) -> str:
    done = run_any(command, folder)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_any(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=outside, timeout=200)


def test_one_name_is_installed(installed: Path) -> None:
    site = next(installed.parent.glob("lib/python*/site-packages"))
    names = {path.name for path in site.iterdir()} - {"libraries.pth"}
    assert {re.sub(r"-[\d.]+\.dist-info$", "-dist-info", name) for name in names} <= {"lffd", "lffd-dist-info"} | {
        name for name in names if name.startswith(("pip", "setuptools", "_distutils_hack", "distutils-precedence"))
    }
    assert "lffd" in names


def test_the_wheel_holds_every_module_the_models_and_the_page(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
        top = content.read(next(name for name in names if name.endswith("top_level.txt")))
    modules = {path.relative_to(PROJECT).as_posix() for path in MODULES}
    models = {path.relative_to(PROJECT).as_posix() for path in (PROJECT / "models").rglob("*") if path.is_file()}
    page = {path.relative_to(PROJECT).as_posix() for path in (PROJECT / "deployment/page").glob("*.[chj]*")}
    expected = {name if name.startswith("lffd/") else f"lffd/{name}" for name in modules | models | page}
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert top == b"lffd\n"


def test_every_module_imports_and_touches_no_other_of_its_name(installed: Path, workplace: Path) -> None:
    farms = sorted(set(PACKAGES) - {"lffd"})
    said = run([str(installed / "python"), "-c", IMPORT_ALL, *farms, "mxnet.base"], workplace).split(maxsplit=1)
    assert int(said[0]) > 150
    assert said[1].strip() == "[]"


def test_the_command_and_three_lines_of_python(installed: Path, workplace: Path) -> None:
    assert "face_light" in run([str(installed / "lffd"), "models"], workplace)
    photo = PROJECT / "docs" / "examples" / "group.jpg"
    run([str(installed / "lffd"), "predict", str(photo), "--output-dir", "out", "--json", "found.json"], workplace)
    entries = json.loads((workplace / "found.json").read_text())
    assert (workplace / "out" / "group.jpg").is_file()
    lines = f"from lffd import Detector\ndetector = Detector.load('face_light')\nprint(len(detector({str(photo)!r})))"
    assert int(run([str(installed / "python"), "-c", lines], workplace)) == len(entries[0]["detections"]) > 5


def test_hints_name_what_is_installed(installed: Path, workplace: Path) -> None:
    photo = str(PROJECT / "docs" / "examples" / "group.jpg")
    done = run_any([str(installed / "lffd"), "predict", photo, "--engine", "mxnet"], workplace)
    assert done.returncode == 2
    assert done.stderr == "error: engine mxnet is not installed; install it with: pip install 'lffd[mxnet]'\n"


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed, and it trains here")
def test_from_pictures_to_an_exported_model_without_mxnet(installed: Path, workplace: Path) -> None:
    """The example of docs/own_version.md, as it stands there."""
    text = (PROJECT / "docs" / "own_version.md").read_text()
    (workplace / "my_version.py").write_text(re.findall(r"```python\n(# my_version\.py\n.*?)```", text, re.DOTALL)[0])

    def lffd(*arguments: str) -> str:
        return run([str(installed / "lffd"), *arguments], workplace)

    lffd("pack", "--format", "synthetic", "--count", "12", "--size", "200", "--output", "train.rec")
    assert "16_128_faces" in lffd("describe", "my_version.py")
    assert "objects by branch of 16_128_faces" in lffd("inspect", "train.rec", "--version", "my_version.py")
    few = ("--iterations", "3", "--batch-size", "2", "--processes", "1", "--output-dir", "runs/mine")
    lffd("train", "my_version.py", "--engine", "torch", "--train-data", "train.rec", "--val-data", "train.rec", *few)
    (workplace / "theirs.params").write_bytes((workplace / "runs/mine/model/model.params").read_bytes())
    lffd("export", "onnx", "--model", "my_version.py=theirs.params", "--output", "theirs.onnx")
    (workplace / "my_version.py").unlink()
    said = lffd("export", "onnx", "--model", "runs/mine/model", "--output", "mine.onnx", "--decoded")
    assert "parity of mine.onnx with PyTorch" in said
    lffd("trim", "--model", "runs/mine/model", "--min-face", "32", "--output-dir", "from_32")
    lffd("evaluate", "pack", "--pack", "train.rec", "--model", "runs/mine/model", "--json", "figures.json")
    size = ("--resolutions", "160x140", "--engines", "onnxruntime", "--seconds", "0")
    assert "onnxruntime fp32 |" in lffd("speed", "--model", "runs/mine/model", *size)


@pytest.mark.parametrize(("line", "expected"), [
    ("from detection.load import x", "from lffd.detection.load import x"),
    ("from detection import load as y  # detection", "from lffd.detection import load as y  # detection"),
    ("import detection.load as z", "import lffd.detection.load as z"),
    ("if a:\n    from detection import (\n    x)", "if a:\n    from lffd.detection import (\n    x)"),
    ("from detections import x", "from detections import x"),
    ("from .detection import x", "from .detection import x"),
    ("'from detection.load import x'", "'from detection.load import x'"),
])  # fmt: skip
def test_imports_are_moved_within_their_lines(line: str, expected: str) -> None:
    assert moved(line, ["detection"]) == expected


@pytest.mark.parametrize("line", ["import detection.load", "import os, detection.load as x"])
def test_imports_that_cannot_be_moved_stop_the_build(line: str) -> None:
    with pytest.raises(SyntaxError, match="write 'from PACKAGE import …' instead of line 1"):
        moved(line, ["detection"])
