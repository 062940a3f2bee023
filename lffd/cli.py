"""One way to start every command: typed options in, one clear error or an exit code out."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any, get_type_hints

from lffd.errors import LffdError


def run(main: Callable[[Any], int | None], arguments: Sequence[str] | None = None) -> None:
    """Parse the command line into the dataclass that `main` takes, call it, and exit with its code.

    Args:
        main: takes one argument annotated with a dataclass; its docstring is the command's help. It returns an exit
            code, or None for success.
        arguments: instead of those of the process.

    An `LffdError` ends the command with `error: …` on standard error and code 2; Ctrl-C with code 130.
    """
    import tyro

    parameter = next(iter(inspect.signature(main).parameters))
    options_type = get_type_hints(main)[parameter]
    options = tyro.cli(options_type, args=arguments, description=inspect.getdoc(main))
    try:
        code = main(options)
    except LffdError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code or 0)
