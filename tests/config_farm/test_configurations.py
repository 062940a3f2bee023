"""Every config script: builds, trains two iterations on drawn faces, resumes; and its command line."""

from __future__ import annotations

import importlib
import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config_farm.run.experiment import FREE_ON_RESUME, Experiment, recipe
from lffd.errors import UsageError
from lffd.graphs.model import Model, load_model, make_model, save_model
from lffd.training.checkpoint import newest_checkpoint, write_checkpoint
from lffd.training.initialization import initial_arrays
from lffd.training.progress import Progress
from symbol_farm.versions import VERSIONS, version_network
from tests.config_farm import tiny_config
from tests.config_farm.tiny_config import SCRIPT
from tests.conftest import PROJECT
from tests.factories import random_model


def run_config(short: str, *arguments: str) -> int:
    module: Any = (
        tiny_config if short == "tiny" else importlib.import_module(f"config_farm.configuration_{VERSIONS[short]}")
    )
    with pytest.raises(SystemExit) as stop:
        module.SCRIPT.start(arguments)
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.mark.parametrize("preset", ["ours", "published"])
@pytest.mark.parametrize("short", VERSIONS)
def test_every_script_trains_and_resumes(short: str, preset: str, tmp_path: Path) -> None:
    side = str(version_network(short).minimum_input + 64)  # two cells either way at the deepest branch
    common = ["--preset", preset, "--train-data", "synthetic:2", "--batch-size", "1", "--input-size", side]
    flags = [*common, "--checkpoint-every", "1", "--output-dir", str(tmp_path), "--threads", "1", "--log-every", "1"]
    assert run_config(short, *flags, "--iterations", "2") == 0
    checkpoint, _ = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.facts["iteration"] == 2
    network = load_model(tmp_path / "model").network
    assert network.to_dict() == version_network(short).to_dict()
    assert network.graph.to_json() == version_network(short).graph.to_json()
    (tmp_path / "checkpoints" / "iteration_00000002.npz").unlink()
    first = (tmp_path / "model" / "model.params").read_bytes()
    assert run_config(short, *flags, "--iterations", "2", "--resume") == 0
    assert (tmp_path / "model" / "model.params").read_bytes() == first


@pytest.mark.parametrize("short", VERSIONS)
def test_scripts_are_declarations(short: str) -> None:
    path = PROJECT / "config_farm" / f"configuration_{VERSIONS[short]}.py"
    text = path.read_text()
    assert len(text.splitlines()) <= 25
    for heading in ("Train:", "Run time:", "Score:"):
        line = next(line for line in text.splitlines() if line.startswith(heading))
        assert re.search(r"\d|not measured|not trained", line) or heading == "Train:", line
    assert f"lffd train {short} " in text


def test_print_config_shows_the_whole_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_config("v2", "--print-config", "--loss.box", "iou", "--iterations", "7") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["loss"]["box"] == "iou"
    assert shown["iterations"] == 7
    assert shown["batch_size"] == 16
    assert shown["sampling"]["mosaic"] > 0
    assert run_config("v2", "--print-config", "--preset", "published") == 0
    published = json.loads(capsys.readouterr().out)
    assert published["loss"]["negatives_per_positive"] == 5
    assert published["optimizer"]["name"] == "sgd"
    assert published["schedule"]["milestones"] == [0.25, 0.5, 0.75]
    assert published["iterations"] == 2_000_000
    assert not published["batch_norm"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--iteratons", "5"], "--iterations"),
        (["--iterations", "five"], "invalid literal"),
        (["--loss.box", "giou"], "giou"),
        (["--batch-size", "0"], "batch_size must be at least 1"),
        (["--loss.focal-alpha", "7"], "focal_alpha must lie in 0–1"),
        (["--train-data", "none.rec"], "none."),
        (["--precision", "bf16", "--engine", "mxnet"], "torch"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--input-size", "20"], "20"),
        (["--init-from", "nothing"], "unknown model 'nothing'"),
    ],
)
def test_wrong_options_end_with_what_is_wrong(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_config("tiny", "--output-dir", str(tmp_path / "run"), *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_run_is_not_overwritten_and_not_mixed_with_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--output-dir", str(tmp_path), "--iterations", "2"]
    assert run_config("tiny", *flags, "--resume") == 0  # nothing there yet: starts from zero
    assert run_config("tiny", *flags) == 2
    assert "holds a run at iteration 2: add --resume" in capsys.readouterr().err
    assert run_config("tiny", *flags, "--resume", "--batch-size", "3", "--seed", "4") == 2
    assert "it differs in batch_size: 4 -> 3; seed: 0 -> 4" in capsys.readouterr().err
    assert run_config("tiny", *flags, "--resume", "--train-data", "synthetic:13") == 2
    assert "learnt from 12 records, but synthetic:13 holds 13" in capsys.readouterr().err


def test_damaged_checkpoints_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--output-dir", str(tmp_path), "--iterations", "4", "--checkpoint-every", "2"]
    assert run_config("tiny", *flags) == 0
    newest = tmp_path / "checkpoints" / "iteration_00000004.npz"
    newest.write_bytes(newest.read_bytes()[:1000])
    assert run_config("tiny", *flags, "--resume") == 0
    errors = capsys.readouterr().err
    assert "warning: passed over" in errors
    assert "start: iteration 2 of 4" in errors
    for path in (tmp_path / "checkpoints").iterdir():
        path.write_bytes(b"")
    assert run_config("tiny", *flags, "--resume") == 2
    assert "none of the checkpoints" in capsys.readouterr().err


def test_fine_tuning_lists_what_did_not_match(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(random_model("plate_small"), tmp_path / "small")
    flags = ["--output-dir", str(tmp_path / "run"), "--iterations", "1", "--init-from", str(tmp_path / "small")]
    data = ["--train-data", "synthetic:2", "--batch-size", "1", "--input-size", "191"]
    assert run_config("plate", *flags, *data) == 2
    assert "parameters" in (refused := capsys.readouterr().err)
    assert "fit 64_512_16L_3scales_v1, so it is another network; start without it, or add --init-partial" in refused
    assert run_config("plate", *flags, *data, "--init-partial") == 0
    errors = capsys.readouterr().err
    assert f"from {tmp_path / 'small'}" in errors
    assert "of another shape, start random: conv1_weight (32, 3, 3, 3) instead of (64, 3, 3, 3)" in errors
    assert run_config("tiny", *flags, "--output-dir", str(tmp_path / "other")) == 2
    assert "none of its parameters fits tiny" in capsys.readouterr().err


def test_a_new_run_may_start_from_the_checkpoints_of_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which is the way on for a run that ended in NaN: the same parameters, other options."""
    assert run_config("tiny", "--output-dir", str(tmp_path / "first"), "--iterations", "4") == 0
    folder = tmp_path / "first" / "checkpoints"
    flags = ["--iterations", "1", "--schedule.learning-rate", "1e-9", "--optimizer.ema", "0"]
    assert run_config("tiny", "--output-dir", str(tmp_path / "next"), "--init-from", str(folder), *flags) == 0
    assert "iteration_00000004.npz" in capsys.readouterr().err
    (old, _), (new, _) = newest_checkpoint(folder), newest_checkpoint(tmp_path / "next" / "checkpoints")
    assert old is not None
    assert new is not None
    for name, value in old.arrays.items():
        if name.startswith("arg:"):
            np.testing.assert_allclose(new.arrays[name], value, atol=1e-6)
    (tmp_path / "empty").mkdir()
    missing = str(tmp_path / "empty" / "checkpoints")
    assert run_config("tiny", "--output-dir", str(tmp_path / "none"), "--init-from", missing) == 2


@pytest.mark.parametrize(("flags", "rate"), [((), 0.04e-3), (("--schedule.learning_rate=0.002",), 0.002)])
def test_fine_tuning_lowers_the_rate_unless_it_is_given(
    flags: tuple[str, ...], rate: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(random_tiny(), tmp_path / "model")
    common = ["--output-dir", str(tmp_path / "run"), "--iterations", "2", "--init-from", str(tmp_path / "model")]
    assert run_config("tiny", *common, *flags) == 0
    assert f"learning rate: {rate:g}; with --init-from it is 0.04 of the default" in capsys.readouterr().err
    described = json.loads((tmp_path / "run" / "experiment.json").read_text())
    assert described["schedule"]["learning_rate"] == pytest.approx(rate)
    assert run_config("tiny", *common, *flags, "--resume") == 0


def random_tiny() -> Model:
    network = tiny_config.NETWORK
    arrays = initial_arrays(network, batch_norm=False, seed=3, style="prior")
    params = {name.removeprefix("arg:"): value for name, value in arrays.items()}
    return make_model(network, params)


def test_a_run_can_be_made_longer_or_shorter_than_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--output-dir", str(tmp_path), "--log-every", "1"]
    assert run_config("tiny", *flags, "--iterations", "4") == 0
    assert run_config("tiny", *flags, "--iterations", "8", "--resume") == 0
    errors = capsys.readouterr().err
    assert "start: iteration 4 of 8" in errors
    assert (
        "length changed from 4 to 8 iterations: from here on the learning rate is what its schedule (cosine)" in errors
    )
    entries = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    schedule = tiny_config.SCRIPT.declare("ours").schedule
    rates = [entry["learning_rate"] for entry in entries if "loss" in entry]
    assert rates == pytest.approx([schedule.rate(i, 4 if i < 4 else 8) for i in range(8)])
    assert run_config("tiny", *flags, "--iterations", "6", "--resume") == 2
    assert "--iterations 6, but the run has already made 8" in capsys.readouterr().err
    (tmp_path / "checkpoints" / "iteration_00000008.npz").unlink()
    assert run_config("tiny", *flags, "--iterations", "6", "--resume") == 0
    assert "length changed from 4 to 6 iterations" in capsys.readouterr().err


@pytest.mark.parametrize(("short", "size"), [("v2", "100"), ("tiny", "5")])
@pytest.mark.parametrize("engine", ["mxnet", "auto"])
def test_sizes_that_cannot_work_leave_nothing_behind(
    short: str, size: str, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("config_farm.run.assembly.training_records", None)  # no data is made
    folder = tmp_path / "run"
    flags = ["--output-dir", str(folder), "--train-data", "synthetic:2000", "--engine", engine]
    assert run_config(short, *flags, "--input-size", size) == 2
    assert not folder.exists()


def test_crops_of_a_single_cell_are_refused_for_mxnet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    side = str(tiny_config.NETWORK.minimum_input)
    flags = ["--output-dir", str(tmp_path / "run"), "--engine", "mxnet", "--input-size", side]
    assert run_config("tiny", *flags) == 2
    assert "a single row of cells" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--threads", "9999999999"), "threads must be at least 1 and at most 1,024"),
        (("--threads", "1000000"), "threads must be"),
        (("--processes", "5000"), "processes must be at least 0 and at most 256"),
        (("--batch-size", "100000"), "batch_size must be"),
        (("--batch-size", "16000", "--input-size", "16000"), "GiB as pixels alone"),
        (("--input-size", "1000000"), "input_size must be"),
        (("--schedule.learning-rate", "1e300"), "learning_rate must be above 0"),
        (("--schedule.learning-rate", "nan"), "learning_rate must be"),
        (("--optimizer.weight-decay", "1e300"), "weight_decay must be"),
        (("--cache-gib", "nan"), "cache_gib must be"),
        (("--cache-gib", "-1"), "cache_gib must be at least 0, not -1.0"),
        (("--seed", "99999999999999999999"), "seed must be"),
    ],
)
def test_numbers_beyond_all_bounds_end_in_one_line_at_once(
    flags: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    assert run_config("tiny", "--output-dir", str(tmp_path / "run"), *flags) == 2
    assert message in " ".join(re.sub("[│|]", " ", capsys.readouterr().err).split())  # inside a frame
    assert time.monotonic() - started < 20
    assert not (tmp_path / "run").exists()


def test_published_pedestrians_train_as_in_their_source() -> None:
    module: Any = importlib.import_module(f"config_farm.configuration_{VERSIONS['pedestrian']}")
    published, ours = module.SCRIPT.declare("published"), module.SCRIPT.declare("ours")
    assert (published.batch_size, published.sampling.restricted_branches, published.sampling.beyond_last) == (
        32,
        3,
        0.2,
    )
    assert ours.batch_size == 16


def test_a_run_stopped_inside_a_validation_repeats_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--output-dir", str(tmp_path), "--val-data", "synthetic:2", "--validate-every", "2", "--iterations", "4"]
    assert run_config("tiny", *flags) == 0
    checkpoint, _ = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.facts["best_score"] is not None
    write_checkpoint(tmp_path / "checkpoints", 4, checkpoint.arrays, {**checkpoint.facts, "validation_owed": True})
    assert run_config("tiny", *flags, "--resume") == 0
    assert "iteration 4: AP50" in capsys.readouterr().err.split("command:")[-1]


def test_another_validation_set_starts_a_new_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--output-dir", str(tmp_path), "--iterations", "4", "--validate-every", "2"]
    assert run_config("tiny", *flags, "--val-data", "synthetic:2") == 0
    (tmp_path / "checkpoints" / "iteration_00000004.npz").unlink()
    assert run_config("tiny", *flags, "--val-data", "synthetic:3", "--resume") == 0
    assert "validation changed: its best score is forgotten" in capsys.readouterr().err


def test_what_another_run_left_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--output-dir", str(tmp_path), "--iterations", "1"]
    assert run_config("tiny", *flags) == 0
    for path in (tmp_path / "checkpoints").iterdir():
        path.unlink()
    assert run_config("tiny", *flags) == 2
    assert "holds what another run left (model, metrics.jsonl)" in capsys.readouterr().err


def test_the_parameter_server_and_its_launcher_belong_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_config("tiny", "--output-dir", str(tmp_path), "--kvstore", "dist_sync") == 2
    assert "needs: lffd launch" in capsys.readouterr().err
    monkeypatch.setenv("DMLC_ROLE", "worker")
    assert run_config("tiny", "--output-dir", str(tmp_path)) == 2
    assert "has no --kvstore dist_sync" in capsys.readouterr().err


def test_fine_tuning_starts_from_what_the_model_computes(tmp_path: Path) -> None:
    """Also with batch normalisation, which a saved model no longer has: the first loss is that of the plain graph."""
    assert run_config("tiny", "--output-dir", str(tmp_path / "first"), "--iterations", "12") == 0
    flags = [
        "--iterations",
        "1",
        "--log-every",
        "1",
        "--init-from",
        str(tmp_path / "first" / "model"),
        "--batch-size",
        "8",
    ]
    losses = []
    for name in ("batch-norm", "no-batch-norm"):
        assert run_config("tiny", "--output-dir", str(tmp_path / name), f"--{name}", *flags) == 0
        losses.append(json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[0])["loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


def test_fields_that_may_change_on_resume_exist() -> None:
    assert set(recipe(tiny_config.NETWORK, "ours").__dataclass_fields__) >= FREE_ON_RESUME


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match="seed must be at least 0, not -1"):
        Experiment(version="tiny", seed=-1)


@pytest.mark.parametrize("missing", ["origin", "experiment", "records", "data_sample", "workers"])
def test_a_checkpoint_with_the_facts_of_no_run_is_refused(
    missing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {"origin": ["x"], "records": 1, "data_sample": "x", "workers": 1}
    told["experiment"] = {"iterations": 1, "val_data": None, "val_images": 0}
    facts = {**Progress(iteration=1).to_facts(), **told}
    del facts[missing]
    write_checkpoint(tmp_path / "checkpoints", 1, {}, facts)
    with pytest.raises(SystemExit) as stop:
        SCRIPT.start(["--output-dir", str(tmp_path), "--resume", "--train-data", "synthetic:4"])
    assert stop.value.code == 2
    assert f"its facts are not those of a run: {missing}" in capsys.readouterr().err
