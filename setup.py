"""How the clone becomes a wheel that installs one name: every package as a part of `lffd`, and the models with them.

In a clone, also where it is installed editable, the packages stand side by side (`symbol_farm`, `detection`, …) and
import each other by these names. Such names would collide with other projects' in an environment, and a user's own
folder `deployment` would hide ours. So the wheel holds them as `lffd.symbol_farm`, `lffd.detection`, …, and their
imports of each other are changed to these names, within their lines, so that tracebacks show the same lines.
Everything else about the project stands in pyproject.toml.
"""

from __future__ import annotations

import ast
import shutil
from collections.abc import Sequence
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = "lffd"
MODELS = "models"


def moved(source: str, packages: Sequence[str]) -> str:
    """Return a module's text with its absolute imports of `packages` pointing into `lffd`, line for line.

    Raises:
        SyntaxError: for `import detection.load` without `as`, which binds a name that would be another one here.
    """
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            keyword, names = "from", [node.module]
        elif isinstance(node, ast.Import):
            keyword, names = "import", [alias.name for alias in node.names]
        else:
            continue
        if not any(name.partition(".")[0] in packages for name in names):
            continue
        if keyword == "import" and (len(names) > 1 or node.names[0].asname is None):
            raise SyntaxError(f"write 'from PACKAGE import …' instead of line {node.lineno}: {lines[node.lineno - 1]}")
        at = node.lineno - 1
        lines[at] = lines[at].replace(f"{keyword} {names[0]}", f"{keyword} {ROOT}.{names[0]}", 1)
    return "".join(lines)


class BuildInside(build_py):
    """Puts every package below `lffd`, and the models that ship beside them; editable installs stay as the clone is."""

    def run(self) -> None:
        """Build into an empty folder, so that nothing of an earlier build gets into the wheel; then move."""
        if self.editable_mode:
            super().run()
            return
        built = Path(self.build_lib)
        shutil.rmtree(built, ignore_errors=True)
        super().run()
        packages = sorted({name.partition(".")[0] for name in self.packages} - {ROOT})
        for package in packages:
            shutil.move(built / package, built / ROOT / package)
        for path in built.rglob("*.py"):
            path.write_text(moved(path.read_text(encoding="utf-8"), packages), encoding="utf-8")
        shutil.copytree(MODELS, built / ROOT / MODELS)


class WheelOfOneName(bdist_wheel):
    """Names in the wheel's metadata what the wheel holds, and not the packages of the clone."""

    def egg2dist(self, egginfo_path: str, distinfo_path: str) -> None:
        """Write the metadata."""
        super().egg2dist(egginfo_path, distinfo_path)
        Path(distinfo_path, "top_level.txt").write_text(f"{ROOT}\n", encoding="utf-8")


if __name__ == "__main__":
    setup(cmdclass={"build_py": BuildInside, "bdist_wheel": WheelOfOneName})
