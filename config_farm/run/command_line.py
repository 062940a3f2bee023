"""The command line that every config script shares: presets first, then any field by name."""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Callable, Sequence

from config_farm.run.experiment import Experiment, Preset
from lffd import cli
from lffd.graphs.network import Network
from lffd.training.options import as_plain

Declare = Callable[[Preset], Experiment]


def start(network: Network, declare: Declare, arguments: Sequence[str] | None = None) -> None:
    """Run a config script: read the command line over its declaration, and train.

    Args:
        network: what is trained.
        declare: returns the script's experiment for a preset; flags override its fields.
        arguments: instead of those of the process.

    Exits with 0 when the run is finished, 2 after an error, 128 + N when signal N stopped it (after a checkpoint).
    """
    import tyro

    given = list(sys.argv[1:] if arguments is None else arguments)
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default="ours")
    first.add_argument("--print-config", action="store_true")
    early, rest = first.parse_known_args(given)

    def main() -> int:
        about = inspect.getdoc(inspect.getmodule(declare)) or f"Train {network.name}."
        flags = [*rest, "--preset", early.preset]  # tyro refuses a preset that there is not
        default = declare("published" if early.preset == "published" else "ours")
        experiment = tyro.cli(Experiment, args=flags, default=default, description=about, prog=cli.command_name())
        if early.print_config:
            print(json.dumps(as_plain(experiment), indent=2, ensure_ascii=False))
            return 0
        from config_farm.run.assembly import train

        return train(network, experiment)

    cli.finish(main)
