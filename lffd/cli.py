"""One way to start every command: typed options in, one clear error or an exit code out."""

from __future__ import annotations

import inspect
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, get_type_hints

from lffd.errors import LffdError, UsageError


def run(main: Callable[[Any], int | None], arguments: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Parse the command line into the dataclass that `main` takes, call it, and exit with its code.

    Args:
        main: takes one argument annotated with a dataclass; its docstring is the command's help. It returns an exit
            code, or None for success.
        arguments: instead of those of the process.
        prog: the command as the user typed it; told from the process when None.

    An `LffdError` or an `OSError` ends the command with `error: …` on standard error and code 2; Ctrl-C with code 130.
    """
    import tyro

    parameter = next(iter(inspect.signature(main).parameters))
    options_type = get_type_hints(main)[parameter]
    prog, description = prog or command_name(main.__module__), inspect.getdoc(main)
    finish(lambda: main(tyro.cli(options_type, prog=prog, args=arguments, description=description)))


def finish(work: Callable[[], int | None]) -> None:
    """Do the work of a command and exit: 0 or its own code, 2 after a printed error, 130 after Ctrl-C.

    Printed are `LffdError`, and `OSError` (a file that cannot be read or written) as its file and reason. Letters that
    standard output does not have are written as escapes, and a closed standard input is an empty one.
    """
    if sys.stdin is None:
        sys.stdin = open(os.devnull)  # noqa: SIM115 - for the rest of the process
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = work()
    except LffdError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except BrokenPipeError:  # the reader of our output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        print(f"error: {reason if error.filename is None else f'{error.filename}: {reason}'}", file=sys.stderr)
        code = 2
    except MemoryError as error:
        print(f"error: this needs more memory than there is ({error or 'an allocation failed'})", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code or 0)


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end the work inside as Ctrl-C does, so that what is done so far is kept: a `Terminated` is raised."""

    def stop(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM."""


def command_name(module: str = "__main__") -> str:
    """Return how the user started this program: `python -m package.module` or `python path/to/script.py`."""
    if module != "__main__":
        return f"python -m {module}"
    spec = sys.modules["__main__"].__spec__
    return f"python -m {spec.name}" if spec else f"python {sys.argv[0]}"


def parse_size(text: str) -> tuple[int, int]:
    """Return `(width, height)` in pixels from text such as `640x480`.

    Raises:
        UsageError: when the text is not two whole numbers above 0.
    """
    match = re.fullmatch(r"(\d{1,9})\s*[xX×]\s*(\d{1,9})", text.strip())
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    if not width or not height:
        raise UsageError(f"{text!r} is not a size: write WIDTHxHEIGHT in pixels, such as 640x480")
    return width, height
