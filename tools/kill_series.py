"""Kill commands with SIGKILL at random moments, give them again, and compare with runs that nothing disturbed.

python -m tools.kill_series --kills 20 --seed 0

After each kill no file may lie under its own name that is not whole, and the same command (a training with --resume)
must end well, whatever the killed one left behind, with results equal to the byte.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lffd import cli
from lffd.errors import DataError
from tools.killing.jobs import JOBS, PROJECT, Job, command, draw_inputs

LOGS = ("log.txt", "metrics.jsonl", "curves.png", "experiment.json", "run.json", "precision_recall.png")
"""Files that may differ: they hold times, or are written line by line."""

UNFINISHED = (".partial", ".journal")
"""Endings under which a command keeps what is not whole."""


@dataclass(frozen=True)
class Options:
    """Which commands, how often."""

    jobs: tuple[str, ...] = tuple(JOBS)
    """Commands to kill; all by default."""
    kills: int = 20
    """Of each command, each in a new folder."""
    seed: int = 0
    """Of the moments."""


@dataclass
class Series:
    """What the kills of one command gave.

    Attributes:
        first, seconds: when it makes its first file, and how long it takes; a run that ends earlier shortens both.
        kills: how often it was killed; runs that ended before are not counted.
        faults: what was wrong.
    """

    first: float
    seconds: float
    kills: int = 0
    faults: list[str] = field(default_factory=list)


def start(words: list[str]) -> subprocess.Popen[bytes]:
    """Start a command in a group of its own; its messages go to the standard error of the process object."""
    environment, nowhere = {**os.environ, "PYTHONPATH": str(PROJECT)}, subprocess.DEVNULL
    return subprocess.Popen(
        words,
        cwd=PROJECT,
        env=environment,
        start_new_session=True,
        stdin=nowhere,
        stdout=nowhere,
        stderr=subprocess.PIPE,
    )


def results(job: Job, out: Path) -> dict[str, bytes]:
    """Return what is compared, by name."""
    paths = sorted({path for pattern in job.results for path in out.glob(pattern) if path.is_file()})
    return {str(path.relative_to(out)): job.read(path) for path in paths}


def undisturbed(name: str, folder: Path) -> Series:
    """Run a command to its end; return when it made its first file, and how long it took."""
    seen, began = set(folder.rglob("*")), time.monotonic()
    process, first = start(command(name, folder)), 0.0
    while process.poll() is None:
        if not first and set(folder.rglob("*")) - seen:
            first = time.monotonic() - began
        time.sleep(0.005)
    if process.returncode:
        assert process.stderr is not None
        raise DataError(f"{name} fails undisturbed: {process.stderr.read().decode()[-2000:]}")
    return Series(first, time.monotonic() - began)


def halves(job: Job, out: Path, whole: dict[str, bytes]) -> list[str]:
    """Return the files under their own names that are not whole."""
    found = []
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        hidden = any(part.startswith(".") for part in path.relative_to(out).parts)
        if not path.is_file() or hidden or path.name in LOGS or path.name.endswith(UNFINISHED):
            continue
        if not job.whole(path) and job.read(path) != whole.get(name):
            found.append(name)
    return found


def kill_once(name: str, folder: Path, moment: float, whole: dict[str, bytes], series: Series) -> None:
    """Kill a command at a moment, give it again, and note what is wrong."""
    job, out = JOBS[name], folder / "out"
    process, began = start(command(name, folder)), time.monotonic()
    try:
        process.wait(moment)
        shorter = (time.monotonic() - began) / series.seconds
        series.first, series.seconds = series.first * shorter, series.seconds * shorter
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        series.kills += 1
    process.communicate()
    if left := halves(job, out, whole):
        series.faults.append(f"killed after {moment:.2f} s: not whole: {', '.join(left)}")
    again = start(command(name, folder, again=True))
    said = again.communicate()[1].decode()
    finished = name == "pack" and "exists already" in said
    if again.returncode and not finished:
        series.faults.append(f"killed after {moment:.2f} s: again: exit code {again.returncode}: {said[-500:]}")
    found = results(job, out)
    if different := sorted(key for key in whole.keys() | found.keys() if whole.get(key) != found.get(key)):
        series.faults.append(f"killed after {moment:.2f} s: other results: {', '.join(different)}")


def kill_job(name: str, options: Options, folder: Path) -> Series:
    """Run a command undisturbed, then kill it again and again, each time in a copy of the same folder."""
    given, place = folder / "given", folder / "work"
    draw_inputs(given)
    shutil.copytree(given, place)
    series = undisturbed(name, place)
    whole = results(JOBS[name], place / "out")
    if not whole:
        raise DataError(f"{name} leaves no result to compare")
    rng = np.random.default_rng(options.seed)
    for _ in range(3 * options.kills):
        if series.kills < options.kills:
            shutil.rmtree(place)  # always the same names: they stand in some results
            shutil.copytree(given, place)
            kill_once(name, place, float(rng.uniform(series.first, series.seconds)), whole, series)
    return series


def main(options: Options) -> int:
    """Kill commands at random moments, give them again, and compare; the exit code is 1 when anything differed."""
    for name in options.jobs:
        command(name, PROJECT)
    faults = 0
    print(f"{'command':14}{'s':>7}{'kills':>7}{'faults':>8}")
    for name in options.jobs:
        with tempfile.TemporaryDirectory(prefix="lffd_kill_") as folder:
            series = kill_job(name, options, Path(folder))
        row = f"{series.seconds:7.1f}{series.kills:7}{len(series.faults):8}"
        print(f"{name:14}{row}", *(f"  {fault}" for fault in series.faults), sep="\n", flush=True)
        faults += len(series.faults)
    return 1 if faults else 0


if __name__ == "__main__":
    cli.run(main)
