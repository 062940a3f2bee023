"""What a config script declares, and the command line that all of them share: presets first, then any field by name."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from config_farm.run.experiment import Experiment, recipe
from config_farm.run.start_points import FINE_TUNING
from data_iterator_farm.policies import PresetName
from lffd import cli
from lffd.graphs.landmarks import with_landmarks
from lffd.graphs.network import Network
from lffd.training.options import as_plain
from symbol_farm.versions import version_network

HELP = """
Data:      --train-data and --val-data take packs (lffd pack makes one).
Go on:     the same command with --resume; Ctrl-C stops at a whole step.
See all:   --print-config shows the whole run, --help lists every option.
Recipes:   --preset ours (default) or --preset published (the paper's losses, sampling and schedule).
"""


@dataclass(frozen=True)
class Script:
    """The run of one version, such as every `configuration_….py` declares; flags override its fields.

    Attributes:
        version: short or full name of a version, or the declaration of a network.
        about: the script's own docstring, which `--help` shows.
        both: fields in which the run differs from the recipe of either preset, by the name of their flag with `_` for
            `-`, such as `schedule.learning_rate`.
        ours, published: the same, under one preset only. Deep branches see fewer positives per crop; the
            `loss.branch_weights` of `ours` even that out in part.
    """

    version: str | Network
    about: str
    both: Mapping[str, Any] = field(default_factory=dict)
    ours: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, Any] = field(default_factory=dict)

    @property
    def network(self) -> Network:
        """What is trained, without the points that `--landmarks` adds."""
        return version_network(self.version) if isinstance(self.version, str) else self.version

    def declare(self, preset: PresetName) -> Experiment:
        """Return the run under a preset."""
        return changed(recipe(self.network, preset), {**self.both, **getattr(self, preset)})

    def start(self, arguments: Sequence[str] | None = None, prog: str | None = None) -> None:
        """Read the command line (or `arguments`, given to the command `prog`) over the declaration, and train.

        Exits with 0 when the run is finished, 2 after an error, 128 + N when signal N stopped it (after a checkpoint).
        """
        import tyro

        first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        first.add_argument("--preset", default="ours")
        first.add_argument("--print-config", action="store_true")
        early, rest = first.parse_known_args(sys.argv[1:] if arguments is None else arguments)

        def main() -> int:
            flags = [*rest, "--preset", early.preset]  # tyro refuses a preset that there is not
            default = self.declare("published" if early.preset == "published" else "ours")
            about, command = self.about.rstrip() + HELP, prog or cli.command_name()
            experiment = tyro.cli(Experiment, args=flags, default=default, description=about, prog=command)
            given = {flag.partition("=")[0].replace("_", "-") for flag in rest}
            if experiment.init_from and "--schedule.learning-rate" not in given:
                rate = FINE_TUNING * default.schedule.learning_rate
                experiment = changed(experiment, {"schedule.learning_rate": rate})
            if early.print_config:
                print(json.dumps(as_plain(experiment), indent=2, ensure_ascii=False))
                return 0
            from config_farm.run.assembly import train

            return train(with_landmarks(self.network) if experiment.landmarks else self.network, experiment)

        cli.finish(main)


def changed(experiment: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """Return an experiment with other values of some fields, named as in `Script`."""
    for name, value in changes.items():
        part, dot, inner = name.partition(".")
        whole = dataclasses.replace(getattr(experiment, part), **{inner: value}) if dot else value
        experiment = dataclasses.replace(experiment, **{part: whole})
    return experiment
