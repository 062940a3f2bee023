"""Worker processes: starting, asking and stopping them, and how they answer.

A worker reads one JSON order per line and answers with one JSON line.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any, TextIO, cast

from lffd.errors import EngineError, LffdError
from lffd.farms import child_environment

ANSWER_SECONDS = 600.0
"""A worker that does not answer for so long is stopped."""

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Answer = Callable[[dict[str, Any]], dict[str, Any]]
"""Carries out one order; raises an `LffdError` when it cannot be met."""


class WorkerProcess:
    """A process that answers orders, with so many CPU threads for its libraries; a context manager that always ends it.

    Its `name` says in errors which one it is; `module` is what it runs, by `run_worker`.
    """

    def __init__(self, threads: int, name: str, module: str = f"{__package__}.worker") -> None:
        self.name = name
        environment = {**child_environment(), **dict.fromkeys(_THREAD_VARIABLES, str(threads))}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._log}
        self._process = subprocess.Popen([sys.executable, "-m", module], **pipes, env=environment)  # type: ignore[call-overload]
        self._orders, self._answers = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def ask(self, **order: Any) -> dict[str, Any]:
        """Send an order and return the answer.

        Raises:
            EngineError: when the worker says why it cannot, dies, or does not answer in time.
        """
        try:
            self._orders.write(json.dumps(order).encode() + b"\n")
            self._orders.flush()
        except BrokenPipeError as error:
            raise self._died() from error
        if not select.select([self._answers], [], [], ANSWER_SECONDS)[0]:
            self.close()
            raise EngineError(f"{self.name}: no answer in {ANSWER_SECONDS:g} s")
        line = self._answers.readline()
        if not line:
            raise self._died()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EngineError(f"{self.name}: {answer['error']}")
        return answer

    def _died(self) -> EngineError:
        """Return the error that says how it ended."""
        code = self._process.wait()
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip().splitlines()
        killed = " (killed, probably for memory)" if code == -9 else ""
        return EngineError(f"{self.name}: its process ended with code {code}{killed}: {said[-1] if said else 'silent'}")

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._orders, self._answers, self._log):
            with suppress(BrokenPipeError):
                stream.close()


def serve(orders: TextIO, answers: TextIO, answer: Answer) -> None:
    """Answer orders until there are no more; what a user has to know is answered as `error`."""
    for line in orders:
        try:
            found = answer(json.loads(line))
        except LffdError as error:
            found = {"error": str(error)}
        answers.write(json.dumps(found) + "\n")
        answers.flush()


def run_worker(answer: Answer) -> None:
    """Answer the orders on standard input."""
    # Libraries print to standard output, which would break the protocol: theirs goes to standard error.
    private = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.stdin, private, answer)
