"""One process per engine, so that each gets its own number of threads and its own memory count.

MXNet and NumPy read their number of threads once, when they start; two OpenMP libraries in one process disturb each
other. The process reads one JSON order per line and answers with one JSON line: `load`, then any number of `pass`,
then `end`. `peak` measures matrix products instead.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np

from detection.load import parse_peer
from detection.selection import Selection
from inference_speed_evaluation.machine import matrix_peak
from inference_speed_evaluation.subjects import NetworkSubject, PeerSubject, Subject
from lffd.errors import LffdError, UsageError
from lffd.model import load_model


def load_subject(order: dict[str, Any]) -> Subject:
    """Return what an order describes: `model` (directory or peer), `images` (a `.npy` file), and the options."""
    images = np.load(order["images"], allow_pickle=False)
    selection = Selection(**order["selection"])
    options = {"device": order["device"], "threads": order["threads"]}
    peer = parse_peer(order["model"])
    if peer is not None:
        return PeerSubject(peer[0], Path(peer[1]), images, selection, **options)
    model = load_model(order["model"])
    return NetworkSubject(model, images, selection, engine=order["engine"], precision=order["precision"], **options)


def peak_memory() -> float:
    """Return the most memory that this process has held, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


class Answers(Protocol):
    """What answers the orders of a process."""

    def answer(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out one order; raises an `LffdError` when it cannot be met."""
        ...


class Worker:
    """Answers orders, one after the other."""

    def __init__(self) -> None:
        self._subject: Subject | None = None

    def answer(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out one order.

        Raises:
            LffdError: when it cannot be met.
        """
        if order["do"] == "peak":
            return {"gflops": matrix_peak()}
        if order["do"] == "load":
            self._subject = load_subject(order)
            return {}
        if self._subject is None:
            raise UsageError("the first order must be load")
        if order["do"] == "pass":
            return {**vars(self._subject.run()), "memory_mb": peak_memory()}
        raise UsageError(f"unknown order {order['do']!r}")


def serve(orders: TextIO, answers: TextIO, worker: Answers | None = None) -> None:
    """Answer orders until there are no more; what a user has to know is answered as `error`."""
    worker = worker or Worker()
    for line in orders:
        try:
            answer = worker.answer(json.loads(line))
        except LffdError as error:
            answer = {"error": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def run_worker(worker: Answers) -> None:
    """Answer the orders on standard input."""
    # Libraries print to standard output, which would break the protocol: theirs goes to standard error.
    private = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.stdin, private, worker)


if __name__ == "__main__":
    run_worker(Worker())
