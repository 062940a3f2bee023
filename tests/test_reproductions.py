"""What once overwrote photos, hung, crashed or ended in tracebacks: commands as users give them, with a time limit."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import PROJECT

LIMIT_S = 120
PREDICT = ("accuracy_evaluation/predict.py", "--model", "face_light")


def run(*words: object, memory: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command of the project; more time than the limit, or more address space than asked, fails the test."""

    def limit() -> None:
        if memory is not None:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=PROJECT,
        env=environment,
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )


def photo(width: int = 200) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (160, width, 3), np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def vast_png(side: int) -> bytes:
    """A small file of a vast picture of one colour."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(1 + side // 8)) for _ in range(side)) + packer.flush()
    header = side.to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = cv2.imencode(".jpg", np.zeros((side, side, 3), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * scans + data[-2:]


def test_one_folder_with_everything_that_hangs_or_lies(tmp_path: Path) -> None:
    """A flipped bit in a PNG, a pipe named like a video, 20,000 scans, and a gigapixel in 124 KB."""
    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "good.jpg"), photo())
    whole = bytearray(cv2.imencode(".png", photo())[1].tobytes())
    whole[len(whole) // 2] ^= 16
    (folder / "flipped.png").write_bytes(whole)
    (folder / "scans.jpg").write_bytes(many_scans(2048, 20_000))
    (folder / "vast.png").write_bytes(vast_png(32_000))
    os.mkfifo(folder / "x.mp4")
    table = tmp_path / "found.json"
    done = run(*PREDICT, folder, "--engine", "onnxruntime", "--threads", "1", "--json", table, memory=8 << 30)
    assert done.returncode == 1, done.stderr
    assert [Path(entry["image"]).name for entry in json.loads(table.read_text())] == ["good.jpg"]
    assert all(name in done.stderr for name in ("flipped.png", "scans.jpg", "vast.png", "x.mp4"))
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("given", ["photo.jpg", "."])
def test_photos_are_not_replaced_by_annotated_copies(tmp_path: Path, given: str) -> None:
    path = tmp_path / "photo.jpg"
    cv2.imwrite(str(path), photo())
    before = path.read_bytes()
    done = run(*PREDICT, tmp_path / given, "--output-dir", tmp_path)
    assert path.read_bytes() == before
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error: ") == 1


@pytest.mark.parametrize("output", [166, 1])
def test_a_symbol_whose_head_names_an_output_that_is_not_there(tmp_path: Path, output: int) -> None:
    """MXNet ends the process at such a graph; ONNX Runtime takes no notice."""
    cv2.imwrite(str(tmp_path / "photo.jpg"), photo())
    model = tmp_path / "model"
    shutil.copytree(PROJECT / "models" / "face_light", model)
    symbol = json.loads((model / "symbol.json").read_text())
    symbol["heads"][0][1] = output
    (model / "symbol.json").write_text(json.dumps(symbol))
    card = json.loads((model / "card.json").read_text())
    card["sha256"]["symbol.json"] = hashlib.sha256((model / "symbol.json").read_bytes()).hexdigest()
    (model / "card.json").write_text(json.dumps(card))
    words = (PREDICT[0], "--model", model, tmp_path / "photo.jpg", "--json", tmp_path / "x.json", "--engine", "mxnet")
    done = run(*words)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert f"output {output} of node" in done.stderr


@pytest.mark.parametrize("name", ["symbol.json", "model.params", "card.json"])
def test_a_pipe_in_the_place_of_a_models_file(tmp_path: Path, name: str) -> None:
    cv2.imwrite(str(tmp_path / "photo.jpg"), photo())
    model = tmp_path / "model"
    shutil.copytree(PROJECT / "models" / "face_light", model)
    (model / name).unlink()
    os.mkfifo(model / name)
    done = run(PREDICT[0], "--model", model, tmp_path / "photo.jpg", "--json", tmp_path / "x.json")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


TINY = (
    *("config_farm/configuration_demo.py", "--train-data", "synthetic:8", "--val-data", "synthetic:2"),
    *("--batch-size", "2", "--input-size", "96", "--threads", "1", "--engine", "mxnet", "--checkpoint-every", "1"),
)


def test_two_runs_do_not_share_an_output_folder(tmp_path: Path) -> None:
    words = (*TINY, "--iterations", "100000", "--output-dir", tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(
        [sys.executable, *map(str, words)], cwd=PROJECT, env=environment, stderr=subprocess.DEVNULL
    )
    try:
        started = time.monotonic()
        while not list(tmp_path.glob("checkpoints/*.npz")) and time.monotonic() < started + LIMIT_S:
            assert first.poll() is None
            time.sleep(0.05)
        done = run(*words, "--resume")
        assert done.returncode == 2, done.stderr
        assert f"error: {tmp_path}: another run is writing there" in done.stderr
        assert first.poll() is None
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()


ONE_AFTER_THE_OTHER = """
import json, runpy, sys, traceback
for words in json.loads(sys.argv[1]):
    sys.argv = words
    try:
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit as stop:
        print(f"@{stop.code}", flush=True)
    except BaseException:
        traceback.print_exc()
        print("@an exception", flush=True)
"""


def test_numbers_beyond_all_sense_are_refused_in_one_line(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "photo.jpg"), photo(4000))
    predict = [*PREDICT, str(tmp_path / "photo.jpg"), "--csv", str(tmp_path / "x.csv"), "--engine", "onnxruntime"]
    train = [*TINY, "--output-dir", str(tmp_path / "run")]
    flags: Sequence[tuple[list[str], Sequence[str]]] = (
        (predict, ("--threads", "9999999999")),
        (predict, ("--threads", "1000000")),
        (predict, ("--json", "/")),
        (predict, ("--batch-size", "100000")),
        (train, ("--input-size", "1000000")),
        (train, ("--schedule.learning-rate", "1e300")),
        (train, ("--cache-gib", "nan")),
        (train, ("--processes", "5000")),
        (train, ("--batch-size", "100000")),
    )
    done = run("-c", ONE_AFTER_THE_OTHER, json.dumps([[*words, *more] for words, more in flags]))
    assert [line for line in done.stdout.splitlines() if line.startswith("@")] == ["@2"] * len(flags), done.stderr
    assert len(done.stderr.splitlines()) == done.stderr.count("error: ") == len(flags)
    assert not (tmp_path / "run").exists()
    asked = [[*predict, "--tile-memory", "1e-9"], [*predict, "--scale", "60"]]
    done = run("-c", ONE_AFTER_THE_OTHER, json.dumps(asked))
    assert done.stdout.count("@1") == len(asked), done.stderr
    assert done.stderr.count("1 failed:") == done.stderr.count("photo.jpg: ") == len(asked), done.stderr
    assert "Traceback" not in done.stderr
