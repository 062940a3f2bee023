"""What an error says to do next: install a package, or take the name that was probably meant."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from typing import Any

from lffd.errors import EngineError
from lffd.farms import from_wheel


def require(package: str, extra: str) -> Any:
    """Import an optional package and return its module.

    Args:
        package: the module's name, such as `onnxruntime` or `cuda.bindings.runtime`.
        extra: the project's extra that installs it; empty where the project itself does.

    Raises:
        EngineError: when it cannot be imported, with the reason and the install command.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        command = pip_command(extra)
        raise EngineError(f"the package {package} cannot be imported ({error}); install it with: {command}") from error


def pip_command(extra: str) -> str:
    """Return the command that installs an extra; for a clone it is to be run in the clone's folder."""
    where = "lffd" if from_wheel() else "."
    return f"pip install {'' if from_wheel() else '-e '}" + (f"'{where}[{extra}]'" if extra else where)


def unknown(name: str, known: Iterable[str], what: str, choices: str | None = None) -> str:
    """Return the text of an error about a name that is none of the known ones, with the nearest of these.

    Args:
        name: what was given.
        known: every name that is right.
        what: sort of thing, such as `engine`.
        choices: says what there is to choose from, instead of the list of the known names.
    """
    names = list(known)
    lowered = {other.lower(): other for other in names}
    near = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.4)
    hint = f"did you mean {lowered[near[0]]}? " if near else ""
    return f"unknown {what} {name!r}: {hint}{choices or 'Choose one of ' + ', '.join(names)}"
