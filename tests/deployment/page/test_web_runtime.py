"""onnxruntime-web gets in only when every file is the one that the page is made for."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from deployment.page import web_runtime
from deployment.page.web_runtime import FILES, WebRuntime, cache_folder, fetch_runtime
from lffd.errors import DataError, EngineError, UsageError

CONTENT = {name: name.encode() * 3 for name in FILES}


@pytest.fixture(autouse=True)
def _sums(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Small files stand for the real ones, and the cache is empty."""
    monkeypatch.setattr(web_runtime, "FILES", {n: hashlib.sha256(c).hexdigest() for n, c in CONTENT.items()})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _archive(content: dict[str, bytes]) -> Callable[[Path], Path]:
    def pack(folder: Path) -> Path:
        with tarfile.open(folder / "package.tgz", "w:gz") as archive:
            for name, data in content.items():
                entry = tarfile.TarInfo(f"package/dist/{name}")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        return folder / "package.tgz"

    return pack


def test_what_was_fetched_is_found() -> None:
    fetch_runtime(cache_folder(), _archive(CONTENT))
    assert WebRuntime().files() == CONTENT


@pytest.mark.parametrize("wrong", [{**CONTENT, "ort.wasm.min.mjs": b"other"}, {"ort.wasm.min.mjs": b"alone"}])
def test_nothing_is_kept_of_another_archive(wrong: dict[str, bytes]) -> None:
    with pytest.raises(DataError, match=r"package\.tgz"):
        fetch_runtime(cache_folder(), _archive(wrong))
    assert not cache_folder().exists()


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "package.tgz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="is not the archive"):
        fetch_runtime(cache_folder(), lambda folder: tmp_path / "package.tgz")


def test_a_folder_of_the_user(tmp_path: Path) -> None:
    for name, content in CONTENT.items():
        (tmp_path / name).write_bytes(content)
    assert WebRuntime(web_runtime=tmp_path).files() == CONTENT
    (tmp_path / "ort.wasm.min.mjs").write_bytes(b"changed")
    with pytest.raises(DataError, match=r"its ort\.wasm\.min\.mjs is not that of onnxruntime-web"):
        WebRuntime(web_runtime=tmp_path).files()
    with pytest.raises(UsageError, match="not both"):
        WebRuntime(web_runtime=tmp_path, fetch=True).files()


def test_without_it_the_command_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="add --fetch once"):
        WebRuntime().files()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="needs npm, which is not installed"):
        WebRuntime(fetch=True).files()


def test_what_npm_says_is_passed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "npm").write_text("#!/bin/sh\necho offline >&2\nexit 1\n")
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(EngineError, match=r"npm cannot fetch onnxruntime-web 1\.30\.0: offline"):
        WebRuntime(fetch=True).files()
