"""The command `lffd train`: the run of a version, or of one of your own from a file, by name."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType

from config_farm.run.script import Script
from lffd import cli
from lffd.errors import UsageError
from symbol_farm.own_version import is_version_file, run_version_file
from symbol_farm.versions import VERSIONS, full_name

DEMO = "demo"

USAGE = f"""usage: {{prog}} VERSION …        ({{prog}} VERSION --help lists the options of a run)

VERSION is {", ".join(VERSIONS)}, a full name,
{DEMO} (a small network on drawn faces), or a file of your own such as my_version.py."""


def find_script(name: str) -> Script:
    """Return the run that a version's name or file means.

    A file declares a network as `NETWORK`; it may say more of the run with a `SCRIPT`.

    Raises:
        UsageError: for an unknown name, or a file without a version in it.
    """
    if is_version_file(name):
        found = run_version_file(name)
        script = found.get("SCRIPT") or Script(found["NETWORK"], found.get("__doc__") or name)
        if not isinstance(script, Script):
            raise UsageError(f"{name}: its SCRIPT is a {type(script).__name__}; make it with lffd.Script")
        return script
    full = DEMO if name == DEMO else full_name(name)
    module: ModuleType = importlib.import_module(f".configuration_{full}", __package__)
    declared: Script = module.SCRIPT
    return declared


def start(arguments: Sequence[str], prog: str) -> None:
    """Train what the first argument names; the others are the flags of its run."""

    def work() -> None:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(USAGE.format(prog=prog))
            return
        name, *flags = arguments
        find_script(name).start(flags, f"{prog} {name}")

    cli.finish(work)
