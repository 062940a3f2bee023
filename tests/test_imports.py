"""What may import what, and what an import may do."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT

PACKAGES = [
    "lffd",
    "symbol_farm",
    "config_farm",
    "data_provider_farm",
    "data_iterator_farm",
    "metric_farm",
    "accuracy_evaluation",
    "inference_speed_evaluation",
    "deployment",
]
MODULES = [path for package in PACKAGES for path in sorted((PROJECT / package).rglob("*.py"))]
TORCH = [path for path in MODULES if path.parts[-2] == "engines" and path.name.startswith("torch_")]
"""The PyTorch engine, which imports PyTorch itself; the factory imports it only when it is asked for."""

PROBE = """
import importlib, json, sys
import numpy
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
heavy = ("mxnet", "torch", "matplotlib", "scipy", "onnxruntime", "openvino", "ncnn")
found = {}
for name in sys.argv[1:]:
    before, opened[:] = set(sys.modules), []
    importlib.import_module(name)
    found[name] = {"opened": list(opened), "heavy": [n for n in heavy if n in sys.modules and n not in before]}
print(json.dumps(found))
"""


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_lffd_imports_no_farm_and_files_stay_short(path: Path) -> None:
    if path.is_relative_to(PROJECT / "lffd"):
        assert not _imports(path) & set(PACKAGES[1:])
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_farms_meet_only_in_commands(path: Path) -> None:
    """A farm's library modules use lffd and their own farm; modules that are commands assemble farms."""
    package = path.relative_to(PROJECT).parts[0]
    others = (_imports(path) & set(PACKAGES)) - {"lffd", package}
    if others - ALLOWED.get(package, set()):
        assert 'if __name__ == "__main__":' in path.read_text(), f"imports {sorted(others)}"


ALLOWED: dict[str, set[str]] = {
    "accuracy_evaluation": {"symbol_farm"},
    "inference_speed_evaluation": {"symbol_farm", "accuracy_evaluation"},
    "deployment": {"symbol_farm", "accuracy_evaluation"},
    "config_farm": set(PACKAGES),
}
"""Farms that stand above others: what evaluates and deploys needs models by name."""


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_is_silent_and_touches_nothing(package: str) -> None:
    """One process per package imports all of its modules; each answers for what it is the first to load."""
    paths = [path for path in MODULES if path.is_relative_to(PROJECT / package) and path not in TORCH]
    names = [".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    command = [sys.executable, "-c", PROBE, *names]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=True)
    assert done.stderr == ""
    found = json.loads(done.stdout)  # a module that prints would break this
    libraries = (str(PROJECT), sys.prefix, sys.base_prefix, "/usr/lib", "/lib", "/proc", "/sys/devices", "/etc/ld")
    assert list(found) == names
    for name, facts in found.items():
        assert facts["heavy"] == [], name
        foreign = [file for file in facts["opened"] if not file.startswith(libraries) and not file.isdigit()]
        assert foreign == [], name
