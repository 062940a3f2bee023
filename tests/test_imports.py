"""What may import what, and what an import may do."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT

FLOORS = (
    ("lffd",),
    ("symbol_farm", "data_provider_farm", "data_iterator_farm", "metric_farm"),
    ("detection",),
    ("accuracy_evaluation",),
    ("deployment",),
    ("inference_speed_evaluation",),
    ("config_farm",),
    ("benchmarks",),
)
"""The packages from the ground up: each imports what lies below it, never its neighbours or what lies above."""
PACKAGES = [package for floor in FLOORS for package in floor]
MODULES = [path for package in PACKAGES for path in sorted((PROJECT / package).rglob("*.py"))]
TORCH = [
    path
    for path in MODULES
    if (path.parts[-2] == "engines" and path.name.startswith("torch_")) or path.parts[-3:-1] == ("training", "torch")
]
"""The PyTorch engines, which import PyTorch itself; they are imported only when they are asked for."""

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
def test_packages_import_only_what_lies_below(path: Path) -> None:
    """Modules of the farms' floor that are commands may put their neighbours together."""
    package = path.relative_to(PROJECT).parts[0]
    level = next(number for number, floor in enumerate(FLOORS) if package in floor)
    below = {name for floor in FLOORS[:level] for name in floor}
    if level == 1 and 'if __name__ == "__main__":' in path.read_text():
        below |= set(FLOORS[1])
    assert (_imports(path) & set(PACKAGES)) - {package} <= below


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
