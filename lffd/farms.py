"""The farms by name, for the entry points that stand on the ground: the command `lffd`, and `from lffd import …`.

In a clone the farms lie beside this package, in an installed wheel inside it (`setup.py` puts them there). Everything
else imports them directly, from above.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path
from types import ModuleType


def load(module: str) -> ModuleType:
    """Import a module of a farm, such as `detection.detector`, or of this package, such as `graphs.network`."""
    return importlib.import_module(f"{__package__}.{module}" if _inside(module) else module)


def from_wheel() -> bool:
    """Say whether this is an installed wheel, not a clone."""
    return _inside("symbol_farm")


def child_environment() -> dict[str, str]:
    """Return the environment for a Python process that runs modules of ours: it finds a clone's from any folder."""
    if from_wheel():
        return dict(os.environ)
    paths = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _inside(module: str) -> bool:
    return importlib.util.find_spec(f"{__package__}.{module.partition('.')[0]}") is not None
