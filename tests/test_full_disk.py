"""Commands that write, on a full disk and in a read-only folder: one line with the name, earlier results intact."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lffd import cli
from lffd.graphs.model import save_model
from tests.accuracy_evaluation.made_up import write_truth
from tests.conftest import PROJECT
from tests.data_provider_farm.samples import jpeg, mixed_records, write_pack
from tests.factories import random_model

MIB = 1 << 20


def _mount(folder: Path) -> bool:
    """Put a disk of 16 MiB there, where this process may."""
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a small disk of its own where that can be had."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = _mount(folder)
    yield folder
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Leave no room on the disk; without a disk of its own, let no file grow."""
    if os.path.ismount(folder):
        filler = folder / ".filler"
        with filler.open("wb", buffering=0) as stream:
            for size in (MIB, 1 << 12, 1):
                try:
                    while stream.write(bytes(size)) == size:
                        pass
                except OSError:
                    pass
        yield
        filler.unlink()
        return
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Allow no change in the folder."""
    if os.path.ismount(folder):
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        yield
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
        return
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere, and no disk of its own can be mounted here")
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    yield
    for path in folders:
        path.chmod(0o755)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands read: a model, a pack, images with annotations, WIDER FACE's ground truth."""
    folder = tmp_path_factory.mktemp("given")
    save_model(random_model("plate_small"), folder / "model")
    write_pack(folder / "x.rec", mixed_records())
    (folder / "images" / "a").mkdir(parents=True)
    for number in range(2):
        (folder / "images" / "a" / f"{number}.jpg").write_bytes(jpeg(140, 130, number))
    (folder / "list").write_text("a/0.jpg,1,1,2,3,40,41\na/1.jpg,0\n")
    boxes = ([[30, 40, 20, 20]], ([1], [1], [1]))
    write_truth(folder / "truth", {"a": {"0": boxes, "1": boxes}})
    return folder


def _module(name: str) -> Callable[[Sequence[str]], None]:
    """Return a function that runs the command of a module."""

    def run(arguments: Sequence[str]) -> None:
        import importlib

        cli.run(importlib.import_module(name).main, arguments)

    return run


def _train(arguments: Sequence[str]) -> None:
    from tests.config_farm.tiny_config import SCRIPT

    SCRIPT.start(arguments)


MODEL = "--model {given}/model"
EVALUATE = f"{MODEL} --engine onnxruntime --images {{given}}/images --ground-truth {{given}}/truth"
SPEED = f"{MODEL} --engines onnxruntime --resolutions 128x128 --batches 1 --threads 1 --rounds 1 --warmup 0 --seconds 0"
PREDICT = f"{{given}}/images {MODEL} --engine onnxruntime"
COMMANDS: dict[str, tuple[Callable[[Sequence[str]], None], str, str]] = {
    "pack": (
        _module("data_provider_farm.pack"),
        "--format list --images {given}/images --annotations {given}/list --output {disk}/x.rec",
        "--overwrite",
    ),
    "train": (_train, "--engine mxnet --iterations 4 --output-dir {disk}/run", "--iterations 8 --resume"),
    "evaluate": (_module("accuracy_evaluation.evaluation_on_widerface"), f"{EVALUATE} --output-dir {{disk}}/o", ""),
    "pictures": (_module("accuracy_evaluation.predict"), f"{PREDICT} --output-dir {{disk}}/o", ""),
    "json": (_module("accuracy_evaluation.predict"), f"{PREDICT} --json {{disk}}/x.json", ""),
    "csv": (_module("accuracy_evaluation.predict"), f"{PREDICT} --csv {{disk}}/x.csv", ""),
    "onnx": (_module("deployment.export_onnx"), f"{MODEL} --output {{disk}}/x.onnx", ""),
    "ncnn": (_module("deployment.export_ncnn"), f"{MODEL} --output-dir {{disk}}/ncnn", ""),
    "quantize": (
        _module("deployment.quantize"),
        f"{MODEL} --precision fp16 --calibration {{given}}/images --images 1 --output-dir {{disk}}/half",
        "",
    ),
    "trim": (_module("deployment.trim"), f"{MODEL} --max-face 256 --output-dir {{disk}}/trimmed", ""),
    "speed": (
        _module("inference_speed_evaluation.inference_speed_eval"),
        f"{SPEED} --json {{disk}}/speed.json",
        "",
    ),
}


def _files(folder: Path) -> dict[str, bytes]:
    """Return the files that users know of; logs may have grown."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".txt", ".jsonl")]
    known = {path.relative_to(folder): path for path in paths}
    return {str(name): path.read_bytes() for name, path in known.items() if not any(p[0] == "." for p in name.parts)}


@pytest.mark.parametrize("spoil", [full, read_only])
@pytest.mark.parametrize("name", COMMANDS)
def test_one_line_names_the_file_and_earlier_results_stay(
    name: str, spoil: Any, disk: Path, given: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = {"onnx": ["onnx", "onnxruntime"], "ncnn": ["ncnn"]}
    for package in needs.get(name, ["onnxruntime"] if name not in ("pack", "train", "trim") else []):
        pytest.importorskip(package)
    monkeypatch.chdir(PROJECT)
    command, words, again = COMMANDS[name]
    arguments = words.format(given=given, disk=disk).split()
    for more in ([], again.split()):
        before = _files(disk)
        with spoil(disk) if more or before else nothing(), pytest.raises(SystemExit) as stop:
            command([*arguments, *more])
        said = capsys.readouterr().err
        if not before:
            assert stop.value.code == 0, said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert stop.value.code == 2, said
    assert len(errors) == 1
    assert errors[0] == said.splitlines()[-1]
    assert str(disk) in errors[0]
    assert "Traceback" not in said
    after = _files(disk)
    assert before
    assert {key: after.get(key) for key in before} == before
    if name == "train":
        from lffd.training.checkpoint import newest_checkpoint

        found, skipped = newest_checkpoint(disk / "run" / "checkpoints")
        assert found is not None
        assert not skipped


@contextmanager
def nothing() -> Iterator[None]:
    """Spoil nothing."""
    yield
