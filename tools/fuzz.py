"""Read damaged files of every kind that comes from outside, and count what is neither read nor refused.

python -m tools.fuzz --seed 0 --count 1000 --keep faults

A file is a good one after some mutations: flipped bits, cuts, pieces of other files, changed lengths, and in texts,
JSON and XML other numbers, names and parts; half of those with checksums get right ones. Every file must be read, or
refused with one line. Anything else is a fault: another exception, a crash, too much time, too much memory. A fault
comes again with the same --seed, --targets, --first N --count 1.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from lffd import cli
from lffd.errors import UsageError
from lffd.files import check_output, write_atomic
from lffd.hints import unknown
from tools.fuzzing.target import Target
from tools.fuzzing.watchdog import FAULTS, Limits, Result, Series, damaged, run


@dataclass(frozen=True)
class Options:
    """What to damage, how often, and what a file may take."""

    targets: tuple[str, ...] = ()
    """Kinds of file; all by default."""
    seed: int = 0
    """Of the damage."""
    first: int = 0
    """Number of the first damaged file of each kind."""
    count: int = 1000
    """Damaged files of each kind."""
    seconds: float = 10.0
    """Processor time for one file; more, or five times as much on the clock, is a hang."""
    mebibytes: float = 2048.0
    """Memory for one file, over what the process has before."""
    keep: Path | None = None
    """Folder for the files at fault."""
    json: Path | None = None
    """Write the counts and faults to this file."""


@cache
def all_targets() -> dict[str, Target]:
    """Return every target by name."""
    from tools.fuzzing.data_targets import data_targets
    from tools.fuzzing.model_targets import model_targets

    return {target.name: target for target in (*data_targets(), *model_targets())}


@dataclass
class Tally:
    """What became of the files of one target."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[Result] = field(default_factory=list)
    seconds: float = 0.0
    mebibytes: float = 0.0

    def add(self, result: Result) -> None:
        """Count one file; time and memory are those of the worst."""
        self.outcomes[result.outcome] += 1
        self.seconds, self.mebibytes = max(self.seconds, result.seconds), max(self.mebibytes, result.mebibytes)
        if result.outcome in FAULTS:
            self.faults.append(result)

    def row(self, name: str) -> str:
        """Return the target's line of the table."""
        counts = "".join(f"{self.outcomes[outcome]:10,}" for outcome in ("fine", "refused", *FAULTS))
        return f"{name:18}{self.outcomes.total():10,}{counts}{self.seconds:10.2f}{self.mebibytes:10.0f}"


def fuzz(options: Options, targets: Mapping[str, Target]) -> dict[str, Tally]:
    """Read the damaged files of the chosen targets, printing a line for each fault and each target."""
    limits, chosen = Limits(options.seconds, options.mebibytes), options.targets or tuple(targets)
    numbers = range(options.first, options.first + options.count)
    series = Series(all_targets, options.seed, tuple((name, number) for name in chosen for number in numbers))
    tallies = {name: Tally() for name in chosen}
    heads = ("files", "fine", "refused", *FAULTS, "s", "MiB")
    print(f"{'target':18}{''.join(f'{head:>10}' for head in heads)}")
    for result in run(series, limits):
        tally = tallies[result.target]
        tally.add(result)
        if result.outcome in FAULTS:
            print(f"  {result.target} {result.number}: {result.outcome}: {result.text}", flush=True)
            keep(options, targets[result.target], result)
        if tally.outcomes.total() == options.count:
            print(tally.row(result.target), flush=True)
    return tallies


def keep(options: Options, target: Target, result: Result) -> None:
    """Write a file at fault into the folder for these, if there is one."""
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        data = damaged(target, target.examples(), options.seed, result.number)
        write_atomic(options.keep / f"{target.name}_{options.seed}_{result.number}", data, durable=False)


def main(options: Options) -> int:
    """Read damaged files of every kind that comes from outside; the exit code is 1 when one was a fault."""
    targets = all_targets()
    if strange := [name for name in options.targets if name not in targets]:
        raise UsageError(unknown(strange[0], targets, "target"))
    check_output(options.json, marks=('{"seed":',))
    started = time.monotonic()
    tallies = fuzz(options, targets)
    total = sum((tally.outcomes for tally in tallies.values()), Counter[str]())
    faults = sum(total[outcome] for outcome in FAULTS)
    print(f"{total.total():,} files, {faults:,} faults, {time.monotonic() - started:,.0f} s, seed {options.seed}")
    if options.json is not None:
        rows: dict[str, Any] = {
            name: {**tally.outcomes, "faults": [asdict(result) for result in tally.faults]}
            for name, tally in tallies.items()
        }
        found = {"seed": options.seed, "first": options.first, "count": options.count, "targets": rows}
        write_atomic(options.json, (json.dumps(found, indent=2) + "\n").encode())
    return 1 if faults else 0


if __name__ == "__main__":
    cli.run(main)
