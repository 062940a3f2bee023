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
        """Build into an empty folder, so that nothing of an earlier build gets into the wheel."""
        if self.editable_mode:
            super().run()
            return
        inside = Path(self.build_lib, ROOT)
        shutil.rmtree(inside, ignore_errors=True)
        super().run()
        shutil.copytree(MODELS, inside / MODELS)

    def get_module_outfile(self, build_dir: str, package: Sequence[str], module: str) -> str:
        """Return where a module of the clone goes."""
        apart = not self.editable_mode and package[0] != ROOT
        return str(super().get_module_outfile(build_dir, [*([ROOT] if apart else []), *package], module))

    def build_module(self, module: str, module_file: str, package: str | Sequence[str]) -> tuple[str, bool]:
        """Copy one module, with its imports changed."""
        outfile, copied = super().build_module(module, module_file, package)
        if not self.editable_mode:
            packages = {name.partition(".")[0] for name in self.packages} - {ROOT}
            path = Path(outfile)
            path.write_text(moved(path.read_text(encoding="utf-8"), sorted(packages)), encoding="utf-8")
        return outfile, copied


class WheelOfOneName(bdist_wheel):
    """Names in the wheel's metadata what the wheel holds, and not the packages of the clone."""

    def egg2dist(self, egginfo_path: str, distinfo_path: str) -> None:
        """Write the metadata."""
        super().egg2dist(egginfo_path, distinfo_path)
        Path(distinfo_path, "top_level.txt").write_text(f"{ROOT}\n", encoding="utf-8")


setup(cmdclass={"build_py": BuildInside, "bdist_wheel": WheelOfOneName})
