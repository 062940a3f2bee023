"""A process that reads damaged files, and one that watches it: a hang, a crash or a memory hog costs one file.

The reading process says when it begins a file and when it is done. The watching one kills it when a file takes too
long or too much memory, notes how it died when it dies by itself, and starts another one behind that file.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import numpy as np

from lffd.errors import LONGEST_MESSAGE, LffdError, UsageError
from tools.fuzzing.mutations import mutate
from tools.fuzzing.target import Target

Outcome = Literal["fine", "refused", "traceback", "crash", "hang", "memory"]
FAULTS: tuple[Outcome, ...] = ("traceback", "crash", "hang", "memory")

PATIENCE = 5
"""Clock to processor time that a file may take, as other work shares the machine."""

_START_SECONDS, _LOOK_SECONDS = 300, 0.05


@dataclass(frozen=True)
class Limits:
    """What one file may take: seconds of the processor, and MiB over what the process had before.

    A process that waits for something uses no processor: `PATIENCE` times the seconds on the clock are a hang too.
    """

    seconds: float = 10.0
    mebibytes: float = 2048.0


@dataclass(frozen=True)
class Result:
    """What became of one file; `mebibytes` is what it took at its peak over what was there before."""

    target: str
    number: int
    outcome: Outcome
    text: str = ""
    seconds: float = 0.0
    mebibytes: float = 0.0


def damaged(target: Target, examples: Sequence[bytes], seed: int, number: int) -> bytes:
    """Return the damaged file of that number."""
    rng = np.random.default_rng((seed, zlib.crc32(target.name.encode()), number))
    data = mutate(examples[int(rng.integers(len(examples)))], examples, target.form, rng)
    return target.mend(data) if rng.integers(2) else data


@dataclass(frozen=True)
class Series:
    """Damaged files to read.

    Attributes:
        targets: a function of a module that returns targets by name; the reading process calls it.
        seed: of the damage.
        files: target and number of each.
    """

    targets: Callable[[], Mapping[str, Target]]
    seed: int
    files: tuple[tuple[str, int], ...]


def run(series: Series, limits: Limits) -> Iterator[Result]:
    """Yield what becomes of the files of a series, in order.

    Raises:
        UsageError: when the reading process cannot be started, or a target refuses one of its own good examples.
    """
    context, left = multiprocessing.get_context("spawn"), series.files
    while left:
        ours, theirs = context.Pipe()
        folder = Path(tempfile.mkdtemp(prefix="lffd_fuzz_"))
        process = context.Process(target=_read_files, args=(theirs, replace(series, files=left), folder))
        process.start()
        theirs.close()
        assert process.pid is not None
        begun = len(left)
        try:
            for result in _watch(ours, process.pid, limits):
                left = left[1:]
                if result.outcome == "crash":
                    process.join()
                    result = replace(result, text=_death(process.exitcode))  # noqa: PLW2901
                yield result
        finally:
            process.kill()
            process.join()
            ours.close()
            shutil.rmtree(folder, ignore_errors=True)
        if len(left) == begun:
            raise UsageError(f"target {left[0][0]}: the reading process ended at once: {_death(process.exitcode)}")


def _death(code: int | None) -> str:
    """Return how a process ended, in words."""
    return f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"


def _watch(reports: Connection, pid: int, limits: Limits) -> Iterator[Result]:
    """Yield the results of one reading process, until it is done, has died, or must be killed."""
    while True:
        try:
            if not reports.poll(_START_SECONDS):
                return
            target, number = reports.recv()
        except EOFError:
            return
        if number < 0:
            raise UsageError(target)
        started, worked, base = time.monotonic(), _processor_seconds(pid), _resident(pid)
        while not reports.poll(_LOOK_SECONDS):
            taken, waited = _resident(pid) - base, time.monotonic() - started
            seconds = max(_processor_seconds(pid) - worked, waited / PATIENCE)
            if seconds > limits.seconds:
                yield Result(target, number, "hang", f"over {limits.seconds:g} s", seconds, taken)
                return
            if taken > limits.mebibytes:
                yield Result(target, number, "memory", f"over {limits.mebibytes:g} MiB", seconds, taken)
                return
        try:
            result: Result = reports.recv()
        except EOFError:
            yield Result(target, number, "crash")
            return
        if result.mebibytes > limits.mebibytes:
            result = replace(result, outcome="memory", text=f"over {limits.mebibytes:g} MiB")
        yield result


def _processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int | str, entry: str = "VmRSS:") -> float:
    """Return the memory of a process in MiB; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(entry)), 0.0)


def _read_files(reports: Connection, series: Series, folder: Path) -> None:
    """Read the files of a series one after the other; what libraries print goes nowhere."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    quiet = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(quiet, descriptor)
    targets, examples = series.targets(), dict[str, Sequence[bytes]]()
    for name, number in series.files:
        target = targets[name]
        if name not in examples:
            examples[name] = target.examples()
            for place, example in enumerate(examples[name]):
                if (result := _outcome(target, place, example, folder)).outcome != "fine":
                    reports.send((f"target {name}: its good example {place} is not read: {result.text}", -1))
                    return
        data = damaged(target, examples[name], series.seed, number)
        reports.send((name, number))
        reports.send(_outcome(target, number, data, folder))


def _outcome(target: Target, number: int, data: bytes, folder: Path) -> Result:
    """Read one file in an empty folder."""
    place = folder / "input"
    place.mkdir()
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before, started = _resident("self"), time.process_time()
    outcome: Outcome = "fine"
    text = ""
    try:
        target.read(data, place)
    except LffdError as error:
        outcome, text = "refused", str(error)
        if len(text.splitlines()) != 1 or len(text) > LONGEST_MESSAGE:
            outcome, text = "traceback", f"a refusal of {len(text)} letters in several lines: {text[:200]!r}"
    except Exception as error:
        frame = traceback.extract_tb(sys.exc_info()[2])[-1]
        outcome, text = "traceback", f"{type(error).__name__}: {error!s:.200} ({frame.filename}:{frame.lineno})"
    seconds, peak = time.process_time() - started, _resident("self", "VmHWM:") - before
    shutil.rmtree(place, ignore_errors=True)
    return Result(target.name, number, outcome, text, seconds, peak)
