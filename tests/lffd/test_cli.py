"""How commands end: codes, and one line for each error that a user can do something about."""

from __future__ import annotations

import errno
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
