"""The fuzzer: what its watchdog sees, and a short run over everything that comes from outside."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lffd import cli
from lffd.errors import UsageError
from tests.tools.bad_targets import GOOD, bad_targets
from tools import fuzz
from tools.fuzzing.mutations import MUTATIONS, Form, mutate
from tools.fuzzing.target import Target
from tools.fuzzing.watchdog import Limits, Series, run

LIMITS = Limits(seconds=0.5, mebibytes=200)


@pytest.mark.parametrize(
    ("name", "outcome", "text"),
    [
        ("sleeps", "hang", "over 0.5 s"),
        ("spins", "hang", "over 0.5 s"),
        ("crashes", "crash", "signal SIGSEGV"),
        ("eats", "memory", "over 200 MiB"),
    ],
)
def test_the_watchdog_sees_what_kills_a_process_and_goes_on(name: str, outcome: str, text: str) -> None:
    results = list(run(Series(bad_targets, 0, ((name, 0), (name, 1), ("raises", 0))), LIMITS))
    assert [(result.target, result.number) for result in results] == [(name, 0), (name, 1), ("raises", 0)]
    assert [(result.outcome, result.text) for result in results[:2]] == [(outcome, text)] * 2


def test_refusals_and_raw_exceptions_are_told_apart() -> None:
    results = list(run(Series(bad_targets, 0, tuple(("raises", number) for number in range(30))), LIMITS))
    assert {result.outcome for result in results} >= {"refused", "traceback"}  # some mutations change nothing
    raw = {result.text.partition(" (")[0] for result in results if result.outcome == "traceback"}
    assert raw == {"ZeroDivisionError: a raw exception"}
    assert {result.text for result in results if result.outcome == "refused"} == {"refused\\nin two lines"}


def test_a_target_that_refuses_a_good_file_is_no_target() -> None:
    with pytest.raises(UsageError, match="its good example 0 is not read: it is bad"):
        list(run(Series(strict_targets, 0, (("strict", 0),)), LIMITS))


def strict_targets() -> dict[str, Target]:
    def refuse(data: bytes, folder: Path) -> None:
        raise UsageError("it is bad")

    return {"strict": Target("strict", lambda: [GOOD], refuse)}


@pytest.mark.parametrize("form", ["bytes", "text", "json"])
def test_equal_seeds_damage_alike_and_every_mutation_takes_every_file(form: Form) -> None:
    files = [b"", b"x", b'{"a": [1, {"b": "c"}], "d": 2.5}', bytes(range(256))]
    for number in range(200):
        first, second = (mutate(files[number % 4], files, form, np.random.default_rng(number)) for _ in range(2))
        assert first == second
    for mutation in (mutation for group in MUTATIONS.values() for mutation in group):
        changed = [mutation(data, files[2], np.random.default_rng(seed)) for data in files for seed in range(20)]
        assert len({*changed}) > 4


def test_everything_from_outside_is_read_or_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx")
    report = tmp_path / "report.json"
    with pytest.raises(SystemExit) as stop:
        cli.run(fuzz.main, ["--count", "12", "--first", "100000", "--json", str(report), "--keep", str(tmp_path)])
    assert stop.value.code == 0, capsys.readouterr().out
    targets = json.loads(report.read_text())["targets"]
    assert set(targets) == set(fuzz.all_targets())
    assert all(tally.get("fine", 0) + tally.get("refused", 0) == 12 for tally in targets.values())
    assert sum(tally.get("refused", 0) for tally in targets.values()) > 100


def test_an_unknown_target_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.run(fuzz.main, ["--targets", "imagse"])
    assert stop.value.code == 2
    assert "did you mean image?" in capsys.readouterr().err
