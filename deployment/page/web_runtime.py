"""onnxruntime-web, which runs the networks in the browser: which version, where from, and that it is the right one.

It has 14 MB, so it is no part of this project. npm fetches it once into the user's cache, or the user names a folder
that holds its `dist` files. Either way every file must have the checksum written here.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lffd.errors import DataError, EngineError, UsageError
from lffd.files import write_atomic
from lffd.untrusted import read_file

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"

FILES = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""Files of the package's folder `dist` that the page needs, with their SHA-256."""

MAX_FILE_BYTES = 64 << 20
NPM_SECONDS = 600


@dataclass(frozen=True, kw_only=True)
class WebRuntime:
    """Where onnxruntime-web comes from."""

    web_runtime: Path | None = None
    """Folder with the files of onnxruntime-web's dist; what --fetch brought by default."""
    fetch: bool = False
    """Fetch onnxruntime-web (33 MB) through npm first; needed once, and by nobody who names --web-runtime."""

    def files(self) -> dict[str, bytes]:
        """Return the files by name.

        Raises:
            UsageError: when there are none, or both options are given.
            DataError: when a file is not the one that the version has.
            EngineError: when npm is missing or fails.
        """
        if self.fetch and self.web_runtime:
            raise UsageError("give --fetch or --web-runtime, not both")
        folder = self.web_runtime or cache_folder()
        if self.fetch:
            fetch_runtime(folder)
        if self.web_runtime is None and not folder.is_dir():
            raise UsageError(
                f"the page needs {PACKAGE} {VERSION}, which is not here yet: add --fetch once (npm brings it to "
                f"{folder}), or name the folder of its dist files with --web-runtime"
            )
        return {name: checked(name, read_file(folder / name, most=MAX_FILE_BYTES), folder) for name in FILES}


def cache_folder() -> Path:
    """Return the folder of the user's cache that holds the files."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if os.path.isabs(root) else Path.home() / ".cache") / "lffd" / f"{PACKAGE}-{VERSION}"


def checked(name: str, content: bytes, where: object) -> bytes:
    """Return a file's content when it is that of the version, else raise DataError."""
    if hashlib.sha256(content).hexdigest() != FILES[name]:
        raise DataError(f"{where}: its {name} is not that of {PACKAGE} {VERSION}, which this page is made for")
    return content


def npm_pack(folder: Path) -> Path:
    """Let npm put the package's archive into a folder, and return its path; EngineError when it cannot."""
    command = ["npm", "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=NPM_SECONDS, cwd=folder, check=False)
    except FileNotFoundError as error:
        advice = f"install Node.js, or get {PACKAGE} {VERSION} elsewhere and name its dist folder with --web-runtime"
        raise EngineError(f"--fetch needs npm, which is not installed: {advice}") from error
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"npm brought no {PACKAGE} within {NPM_SECONDS} s") from error
    archives = list(folder.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        reason = (done.stderr or done.stdout).strip().splitlines()
        raise EngineError(f"npm cannot fetch {PACKAGE} {VERSION}: {reason[-1] if reason else 'it says no reason'}")
    return archives[0]


def fetch_runtime(folder: Path, pack: Callable[[Path], Path] = npm_pack) -> None:
    """Fetch the files into a folder; nothing is written before all of them are there and right.

    Args:
        folder: made when missing.
        pack: brings the package's archive into a folder and returns its path.

    Raises:
        EngineError: when it cannot be fetched.
        DataError: when the archive is not that of the version.
    """
    with tempfile.TemporaryDirectory() as temporary:
        found = read_archive(pack(Path(temporary)))
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in found.items():
        write_atomic(folder / name, content)


def read_archive(path: Path) -> dict[str, bytes]:
    """Return the files out of the package's archive, checked; DataError when one is missing, too large or wrong."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for name in FILES:
                stream = archive.extractfile(f"package/dist/{name}")
                if stream is None:
                    raise DataError(f"{path.name}: its {name} is no file")
                found[name] = checked(name, stream.read(MAX_FILE_BYTES), path.name)
    except (tarfile.TarError, KeyError, EOFError, OSError) as error:
        raise DataError(f"{path.name}: is not the archive of {PACKAGE} {VERSION} ({error})") from error
    return found
