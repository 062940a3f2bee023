"""Every command under conditions that machines without a terminal have: ASCII output alone, no standard input."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.data_provider_farm.samples import mixed_records, write_pack

STARTS = ("cli.run(main", "SCRIPT.start()", "cli.finish(")
FOLDERS = sorted({path.parent.name for path in PROJECT.glob("*/__init__.py")} | {"tools"})
FILES = [path for folder in FOLDERS for path in sorted((PROJECT / folder).glob("*.py"))]
COMMANDS = [
    ".".join(path.relative_to(PROJECT).with_suffix("").parts)
    for path in FILES
    if '__name__ == "__main__"' in (text := path.read_text()) and any(start in text for start in STARTS)
]

HELP = """
import runpy, sys, traceback
for name in sys.argv[1:]:
    sys.argv = [name, "--help"]
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
        code = "no exit"
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
        code = "an exception"
    print(f"\\n@{name} {code}")
"""


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python with ASCII streams and a closed standard input."""
    words = ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, *map(str, arguments)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(PROJECT), "COLUMNS": "100"}
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=PROJECT, env=environment, timeout=250)


def test_every_command_helps() -> None:
    assert len(COMMANDS) > 25
    done = run("-c", HELP, *COMMANDS)
    assert done.returncode == 0, done.stderr
    codes = [line.rpartition(" ")[::2] for line in done.stdout.splitlines() if line.startswith("@")]
    assert codes == [(f"@{name}", "0") for name in COMMANDS], done.stderr
    assert done.stdout.count("usage:") >= len(COMMANDS)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "letter"), [(("symbol_farm.describe", "v2"), "\\xd7"), (("data_provider_farm.inspect",), "\\u2013")]
)
def test_reports_with_other_letters_are_written_in_ascii(words: tuple[str, ...], letter: str, tmp_path: Path) -> None:
    given = () if len(words) > 1 else (write_pack(tmp_path / "x.rec", mixed_records()),)
    done = run("-m", *words, *given)
    assert done.returncode == 0, done.stderr
    assert letter in done.stdout
    assert done.stdout.isascii()


def test_a_command_that_reads_standard_input_finds_it_empty() -> None:
    done = run("accuracy_evaluation/predict.py", "-", "--json", "/dev/null")
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is nothing to look at")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--threads", "99999"), "threads must be at least 1 and at most 1,024, not 99999"),
        (("--sampling.mosaic", "7"), "SamplingPolicy.mosaic must lie in 0–1, not 7"),
        (("--schedule.learning-rate", "-1"), "schedule.learning_rate must be above 0"),
        (("--loss.focal-gamma", "nan"), "focal_gamma"),
        (("--output-dir", "x", "--train-data", "no.rec"), "no.rec: cannot be read: it does not exist"),
    ],
)
def test_config_scripts_refuse_in_one_line(
    flags: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from config_farm.configuration_demo import SCRIPT

    with pytest.raises(SystemExit) as stop:
        SCRIPT.start(flags)
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.startswith("error: ")
    assert message in said
    assert len(said.splitlines()) == 1
