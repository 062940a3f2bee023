"""Start one training on several processes or machines with MXNet's parameter server, and stop all when one fails.

On one machine the processes meet at sockets in `/tmp` that (by the usual umask) only their own user can open, and no
port listens. Between machines MXNet has no authentication, a few kilobytes that are no message end the run, and it
listens on the first network interface whatever address it is given, so the interface is always set here
(`DMLC_INTERFACE`); use it inside a trusted network only. When a worker dies, the others would wait for ever: the
launcher watches the processes of its machine and ends them all. It cannot see those of other machines: stop their
launchers by hand when one has failed. On Linux a launcher that is killed takes its processes with it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Annotated

import tyro

from lffd import cli
from lffd.engines.factory import installed_kind
from lffd.errors import UsageError
from lffd.farms import child_environment
from lffd.limits import check_limits

SERVE = "from lffd.engines.mxnet_engine import import_mxnet; import_mxnet()"
"""MXNet serves at its import when the environment says that this process is a server or scheduler, then exits."""

GRACE_SECONDS = 10.0

PR_SET_PDEATHSIG = 1
"""Of Linux's `prctl`: the signal that a process gets when its parent dies."""


@dataclass(frozen=True)
class Options:
    """What to start here, and who else takes part."""

    command: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="-- COMMAND")]
    """After --: the config script and its flags, with --kvstore dist_sync."""
    workers: int = 2
    """Workers of the whole run."""
    servers: int = 1
    """Parameter servers of the whole run; they and the scheduler run on the main machine."""
    local_workers: int | None = None
    """Workers to start on this machine; all of them by default."""
    main: bool = True
    """Whether this is the main machine; --no-main on the others."""
    address: str = "127.0.0.1"
    """The main machine's address, as the others reach it."""
    port: int | None = None
    """The scheduler's port on the main machine; a free one by default (needed with several machines)."""
    interface: str = "lo"
    """Network interface of this machine that reaches the others."""


def start_all(options: Options) -> dict[str, subprocess.Popen[bytes]]:
    """Start this machine's processes, by name; a `UsageError` says which numbers do not fit."""
    installed_kind("mxnet")
    check_limits(options, "workers", "servers", "local_workers", "port")
    local = options.workers if options.local_workers is None else options.local_workers
    if local > options.workers:
        raise UsageError("--local-workers must be at most --workers")
    if options.port is None and (not options.main or local < options.workers):
        raise UsageError("with several machines give the same --port on each of them")
    if options.interface == "lo" and not options.address.startswith(("127.", "localhost")):
        raise UsageError(f"--interface lo reaches no other machine: name the one that reaches {options.address}")
    if not options.command:
        raise UsageError("give the training command after --, such as: -- lffd train v2 …")
    alone = options.main and local == options.workers
    shared = {
        "DMLC_PS_ROOT_URI": options.address,
        "DMLC_PS_ROOT_PORT": str(options.port or _free_port()),
        "DMLC_NUM_WORKER": str(options.workers),
        "DMLC_NUM_SERVER": str(options.servers),
        "DMLC_INTERFACE": options.interface,
        "DMLC_LOCAL": str(int(alone)),  # sockets in /tmp, named by the ports' numbers, in place of ports
    }
    serving = ["scheduler", *(f"server {i}" for i in range(options.servers))] if options.main else []
    processes: dict[str, subprocess.Popen[bytes]] = {}
    tie = _tie_to(os.getpid()) if sys.platform == "linux" else None  # no thread runs here yet
    for name in [*serving, *(f"worker {i}" for i in range(local))]:
        role = name.split()[0]
        apart = role != "worker"  # a Ctrl-C is for the workers, which still need scheduler and servers to stop cleanly
        command = [sys.executable, "-c", SERVE] if apart else options.command
        env = {**(child_environment() if apart else os.environ), **shared, "DMLC_ROLE": role}
        try:
            processes[name] = subprocess.Popen(command, env=env, start_new_session=apart, preexec_fn=tie)  # noqa: PLW1509
        except OSError as error:
            _end(processes)
            raise UsageError(f"{command[0]}: cannot be started: {error.strerror}") from error
    return processes


def _free_port() -> int:
    """Return a port that nobody listens at, neither on the network nor at MXNet's socket of that number in `/tmp`."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            number: int = probe.getsockname()[1]
        if not os.path.lexists(f"/tmp/{number}"):
            return number


def _tie_to(launcher: int) -> Callable[[], None]:
    """Return what makes a new process end when its launcher is killed; Linux alone can promise that."""
    system = ctypes.CDLL(None)

    def tie() -> None:
        system.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != launcher:  # it was killed before the line above
            os.kill(os.getpid(), signal.SIGKILL)

    return tie


def watch(processes: dict[str, subprocess.Popen[bytes]]) -> int:
    """Wait for this machine's workers; end everything when one fails.

    The first Ctrl-C or SIGTERM goes on to the workers, which save and stop; the second ends everything. Returns 0 when
    all workers finished, otherwise the code of the first that did not.
    """
    workers = {name: process for name, process in processes.items() if name.startswith("worker")}
    asked = False

    def pass_on(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        for process in workers.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    try:
        while True:
            codes = {name: process.poll() for name, process in processes.items()}
            failed = {name: code for name, code in codes.items() if code}
            if failed and not asked:
                name, code = next(iter(failed.items()))
                print(f"error: {name} ended with code {code}; stopping the others", file=sys.stderr)
                return code if code > 0 else 128 - code
            if all(codes[name] is not None for name in workers):
                return next((code for code in codes.values() if code), 0)
            time.sleep(0.1)
    finally:
        _end(processes)


def _end(processes: dict[str, subprocess.Popen[bytes]]) -> None:
    """Ask every process to stop, and kill what has not after a while."""
    deadline = time.monotonic() + GRACE_SECONDS
    for process in processes.values():
        if process.poll() is None:
            process.terminate()
    for process in processes.values():
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main(options: Options) -> int:
    """Train on several workers: every batch is the one that a single worker would see with their batches together.

    One machine: lffd launch --workers 2 -- lffd train v2 --train-data train.rec --kvstore dist_sync

    Several: the same command on each, with --workers N for all of them, --local-workers for this one, the main one's
    --address, the same --port, this machine's --interface, and --no-main on all but the main one. The pack must be on
    each, and the output directory shared by all: the first worker writes it, and every worker resumes from it.
    """
    return watch(start_all(options))


if __name__ == "__main__":
    cli.run(main)
