"""How commands end: codes, and one line for each error that a user can do something about."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lffd import cli
from lffd.errors import UsageError


def _raise(error: BaseException) -> int:
    raise error


def _missing() -> int:
    return len(Path("no/such/file").read_bytes())


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (UsageError("not so"), 2, "error: not so\n"),
        (PermissionError(errno.EACCES, "Permission denied", "card.json"), 2, "error: card.json: Permission denied\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "error: No space left on device\n"),
        (OSError("only words"), 2, "error: only words\n"),
        (OSError(), 2, "error: OSError\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_errors_end_with_one_line_and_a_code(
    error: BaseException, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.finish(lambda: _raise(error))
    assert stop.value.code == code
    assert capsys.readouterr().err == text


def test_a_real_missing_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.finish(_missing)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: no/such/file: No such file or directory\n"


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (143, 143)])
def test_codes_pass_through(returned: int | None, code: int) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.finish(lambda: returned)
    assert stop.value.code == code


def test_other_errors_are_bugs_and_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        cli.finish(lambda: _raise(ZeroDivisionError()))


def test_no_memory_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.finish(lambda: _raise(MemoryError("Unable to allocate 9 TiB")))
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: this needs more memory than there is (Unable to allocate 9 TiB)\n"


def test_sizes_of_any_length_are_refused() -> None:
    with pytest.raises(UsageError, match="is not a size"):
        cli.parse_size("9" * 5000 + "x1")


CODE = "import sys; from lffd import cli; cli.finish(lambda: print('×', sys.stdin.read(), '–'))"


def test_letters_that_standard_output_lacks_and_a_closed_standard_input(project: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(project)}
    command = ["sh", "-c", f'exec {sys.executable} -c "$0" <&-', CODE]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=project)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\xd7  \\u2013\n", "")


def test_sigterm_ends_the_work_as_ctrl_c_does() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(cli.Terminated), cli.terminable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before
