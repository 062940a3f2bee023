"""The TCP ports at which processes listen (Linux), and what a stranger could send there."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from pathlib import Path


def family(number: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [number]
    for task in Path(f"/proc/{number}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += family(int(child))
    return found


def listening(processes: list[int]) -> set[int]:
    """Return the ports at which any of the processes listens."""
    sockets = {_target(link) for number in processes for link in Path(f"/proc/{number}/fd").iterdir()}
    ports = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and f"socket:[{fields[9]}]" in sockets:
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


LISTENING = "0A"
"""State of a listening socket in the kernel's tables (proc_pid_net(5))."""


def send_noise(port: int, seed: int = 0, count: int = 4096) -> None:
    """Send random bytes to a port of this machine; whether they are taken is the receiver's affair."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as stranger:
        stranger.sendall(random.Random(seed).randbytes(count))


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:  # closed meanwhile
        return ""
