"""The series of kills: what it finds, and one kill of a command that is quick."""

from __future__ import annotations

from pathlib import Path

import pytest

from lffd import cli
from lffd.errors import DataError
from tools import kill_series
from tools.killing.jobs import JOBS, Job, command, draw_inputs

WRITER = """
import sys, time
from pathlib import Path
out = Path(sys.argv[1]) / "out"
out.mkdir(exist_ok=True)
stream = (out / "found.txt").open("w")
stream.write("half")
stream.flush()
time.sleep(2)
stream.write("whole")
"""


def test_half_written_files_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "writer.py"
    script.write_text(WRITER)
    monkeypatch.setitem(JOBS, "writer", Job(lambda at: [str(script), str(at)], ("found.txt",)))
    options = kill_series.Options(jobs=("writer",), kills=1)
    series = kill_series.kill_job("writer", options, tmp_path / "first")
    assert series.kills == 1
    assert len(series.faults) == 1
    assert "not whole: found.txt" in series.faults[0]


def test_a_command_that_fails_by_itself_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(JOBS, "broken", Job(lambda at: ["-c", "raise SystemExit('no')"], ("x",)))
    with pytest.raises(DataError, match="broken fails undisturbed: no"):
        kill_series.kill_job("broken", kill_series.Options(), tmp_path)


@pytest.mark.parametrize("name", ["pack"])
def test_a_killed_command_goes_on(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.run(kill_series.main, ["--jobs", name, "--kills", "2"])
    said = capsys.readouterr().out
    assert stop.value.code == 0, said
    assert said.splitlines()[-1].split()[-2:] == ["2", "0"]


def test_every_job_has_its_words(tmp_path: Path) -> None:
    draw_inputs(tmp_path)
    assert len(list((tmp_path / "images").rglob("*.jpg"))) == 12
    for name, job in JOBS.items():
        assert set(job.again) <= set(command(name, tmp_path, again=True))
        assert str(tmp_path / "out") in " ".join(command(name, tmp_path))
