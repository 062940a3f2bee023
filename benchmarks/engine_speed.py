r"""How fast each engine trains, taken in turn; with a pack, also how fast batches come, and both together.

    python -m benchmarks.engine_speed --versions v2 --input-size 320 --batch-size 16
    python -m benchmarks.engine_speed --versions v1 v2 --input-size 640 --batch-size 32 --device cuda:0 \
        --train-data train.rec --processes 14 --subjects torch:bf16 torch:bf16:compiled

Every engine is a process of its own, because two would fight over the cores, and only one works at a time.
"""

from __future__ import annotations

import os
import re
import statistics
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accuracy_evaluation.output_files import write_json
from inference_speed_evaluation.machine import describe_machine
from inference_speed_evaluation.processes import WorkerProcess
from lffd import cli
from lffd.errors import EngineError, UsageError
from lffd.files import check_output
from lffd.limits import check_batch_memory, check_limits
from symbol_farm.versions import version_network

DRAWN = "synthetic:64"


@dataclass(frozen=True)
class Options:
    """What to measure."""

    versions: tuple[str, ...] = ("v2",)
    """Networks by short or full name."""
    subjects: tuple[str, ...] = ("mxnet:fp32", "torch:fp32", "torch:bf16")
    """Engine and precision, with :compiled for torch.compile; those that cannot run here are left out and named. The
    first one is what the others are compared with."""
    device: str = "cpu"
    """cpu, or a GPU such as cuda:0."""
    input_size: int = 320
    """Side of the crops in pixels."""
    batch_size: int = 16
    """Crops per step."""
    train_data: str | None = None
    """Pack; without one, only steps on a fixed batch of drawn faces are timed."""
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Threads of the CPU for the engine, and for making batches where there are no processes."""
    processes: int = 0
    """Processes that make batches."""
    cache_gib: float = 0.0
    """GiB of memory for images that stay decoded."""
    rounds: int = 5
    """How often each engine is measured, in turn."""
    steps: int = 10
    """Steps per measurement."""
    json: Path | None = None
    """Write the figures to this file."""

    def __post_init__(self) -> None:
        """Refuse counts that cannot be, and subjects that are not spelt as they must."""
        check_limits(self, "rounds", "steps", "batch_size", "input_size", "threads", "processes", "cache_gib")
        check_batch_memory(self.batch_size, self.input_size)
        if not self.versions or not self.subjects:
            raise UsageError("name a version and a subject")
        for subject in self.subjects:
            parse_subject(subject)


def parse_subject(text: str) -> dict[str, Any]:
    """Return the fields of an experiment that `ENGINE:PRECISION[:compiled]` means; raises `UsageError` for others."""
    found = re.fullmatch(r"(mxnet|torch):(fp32|bf16)(:compiled)?", text)
    if not found:
        raise UsageError(f"{text!r} is not ENGINE:PRECISION[:compiled], such as torch:bf16")
    return {"engine": found[1], "precision": found[2], "compiled": bool(found[3])}


@dataclass
class Rates:
    """Images per second of one subject, one value per round, and the GPU's busy percent where there is one."""

    subject: str
    steps: list[float] = field(default_factory=list)
    batches: list[float] = field(default_factory=list)
    loop: list[float] = field(default_factory=list)
    busy_steps: list[float] = field(default_factory=list)
    busy_loop: list[float] = field(default_factory=list)

    def add(self, kind: str, answer: dict[str, Any], images: int) -> None:
        """Take in one measurement of `steps`, `batches` or `loop`."""
        getattr(self, kind).append(images / answer["seconds"])
        if answer["busy"] is not None:
            getattr(self, f"busy_{kind}").append(answer["busy"])


def measure(options: Options, version: str) -> list[Rates]:
    """Return the rates of every subject that can run here, on one network."""
    images = options.steps * options.batch_size
    kinds = ("steps", "batches", "loop") if options.train_data else ("steps",)
    names = ("device", "input_size", "batch_size", "threads", "processes", "cache_gib")
    shared = {name: getattr(options, name) for name in names} | {"train_data": options.train_data or DRAWN}
    with ExitStack() as stack:
        workers: dict[str, WorkerProcess] = {}
        for subject in options.subjects:
            worker = stack.enter_context(WorkerProcess(options.threads, subject, f"{__package__}.engine_speed_worker"))
            try:
                worker.ask(do="load", version=version, **shared, **parse_subject(subject))
            except EngineError as error:
                print(f"  left out: {error}")
                worker.close()
                continue
            workers[subject] = worker
        found = {subject: Rates(subject) for subject in workers}
        for _ in range(options.rounds):
            for kind in kinds:
                for subject, worker in workers.items():
                    found[subject].add(kind, worker.ask(do=kind, count=options.steps), images)
    return list(found.values())


def describe(found: list[Rates]) -> str:
    """Return one line per subject: median rates, ratio to the first one round by round, and busy shares."""
    lines = []
    for rates in found:
        ratios = [mine / first for mine, first in zip(rates.steps, found[0].steps, strict=True)]
        line = f"  {rates.subject:20s} {statistics.median(rates.steps):8.1f} images/s"
        line += f"  {statistics.median(ratios):5.2f} × ({min(ratios):.2f}–{max(ratios):.2f})"
        if rates.busy_steps:
            line += f"  GPU busy {statistics.mean(rates.busy_steps):.0f} %"
        if rates.loop:
            share = statistics.median(loop / step for loop, step in zip(rates.loop, rates.steps, strict=True))
            line += f"  batches alone {statistics.median(rates.batches):.1f}, loop {statistics.median(rates.loop):.1f}"
            line += f" ({share:.2f} of steps)"
        if rates.busy_loop:
            line += f", GPU busy {statistics.mean(rates.busy_loop):.0f} %"
        lines.append(line)
    return "\n".join(lines) or "  nothing of this can run here"


def main(options: Options) -> None:
    """Measure how fast each engine trains: images per second, in turn, every engine in a process of its own.

    With --train-data also the rate of batches alone (the data path's ceiling) and of the whole training loop, with its
    share of the bare steps on one batch; on a GPU also the share of time in which it computed.
    """
    check_output(options.json, marks=('{"machine":',))
    machine = describe_machine(options.device)
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    results = {}
    for version in options.versions:
        print(f"{version_network(version).name}, {options.input_size} px, batch {options.batch_size}:", flush=True)
        found = measure(options, version)
        print(describe(found), flush=True)
        results[version] = [vars(rates) for rates in found]
    write_json(options.json, {"machine": machine, "rates": results})


if __name__ == "__main__":
    cli.run(main)
