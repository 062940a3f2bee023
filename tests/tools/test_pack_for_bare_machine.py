"""The archive for a machine without a network: what is in it, and that its start script starts."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from lffd.errors import UsageError
from tests.conftest import PROJECT
from tests.test_imports import PACKAGES


@pytest.fixture(scope="module")
def packer() -> ModuleType:
    path = PROJECT / "tools" / "pack_for_bare_machine.py"
    spec = importlib.util.spec_from_file_location("pack_for_bare_machine", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def make_wheel(folder: Path) -> None:
    """A wheel with one module, `carried`, such as pip accepts."""
    facts = "carried-1.0.dist-info"
    with zipfile.ZipFile(folder / "carried-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("carried.py", "ANSWER = 42\n")
        archive.writestr(f"{facts}/METADATA", "Metadata-Version: 2.1\nName: carried\nVersion: 1.0\n")
        archive.writestr(f"{facts}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{facts}/RECORD", "")


def test_what_is_packed_starts(packer: ModuleType, tmp_path: Path) -> None:
    make_wheel(tmp_path)
    output = tmp_path / "lffd_bare.tar"
    assert packer.write_archive(output, tmp_path) == output.stat().st_size
    with tarfile.open(output) as archive:
        names = archive.getnames()
        archive.extractall(tmp_path / "there", filter="data")
    assert "lffd_bare/lffd/training/torch/engine.py" in names
    assert not [name for name in names if "/tests/" in name or "__pycache__" in name]
    folder = tmp_path / "there" / "lffd_bare"
    code = "import carried, lffd, config_farm.run.validation, benchmarks.engine_speed_worker\n"
    code += "print(carried.ANSWER, lffd.__file__)"
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for _ in range(2):  # the second start finds the wheels unpacked
        done = subprocess.run(
            [folder / "start.sh", "-c", code],
            env={**plain, "PYTHON": sys.executable},
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["42", str(folder / "lffd" / "__init__.py")]


def test_a_folder_without_wheels_and_too_large_an_archive_are_refused(
    packer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="holds no wheels"):
        packer.write_archive(tmp_path / "a.tar", tmp_path)
    make_wheel(tmp_path)
    monkeypatch.setattr(packer, "LIMIT", 1000)
    with pytest.raises(UsageError, match="over the limit"):
        packer.write_archive(tmp_path / "a.tar", tmp_path)
    assert not (tmp_path / "a.tar").exists()


def test_every_requirement_is_one_of_the_project_or_of_its_own(packer: ModuleType) -> None:
    declared = (PROJECT / "pyproject.toml").read_text()
    ours = [text for text in packer.REQUIREMENTS if any(mark in text for mark in "=<>")]
    assert all(f'"{text}"' in declared for text in ours)
    assert {path.parts[0] for path in packer.source_files()} >= set(packer.PACKAGES)


def test_every_package_travels(packer: ModuleType) -> None:
    assert set(packer.PACKAGES) == set(PACKAGES)
