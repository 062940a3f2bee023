r"""Pack everything that a training needs on a machine with Python, PyTorch and NumPy, but no network and no MXNet.

    python tools/pack_for_bare_machine.py --output lffd_bare.tar --python-version 3.12

Copy the archive and a pack of images there, and start:

    tar xf lffd_bare.tar && cd lffd_bare
    ./start.sh config_farm/configuration_10_320_20L_5scales_v2.py --train-data ../train.rec --output-dir runs/v2 \
        --engine torch --device cuda:0

Several GPUs: `./start.sh -m torch.distributed.run --nproc-per-node 8 config_farm/… --device cuda:0`. Take `runs/v2`
back: the finished model is in `runs/v2/model`, and the same command with --resume goes on with either engine.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lffd import cli
from lffd.errors import UsageError
from lffd.files import check_output

PROJECT = Path(__file__).resolve().parent.parent
FOLDER = "lffd_bare"
PACKAGES = sorted(path.parent.name for path in PROJECT.glob("*/__init__.py"))
REQUIREMENTS = (
    "opencv-python-headless==4.11.0.86",
    "simplejpeg>=1.7,<2",
    "tqdm>=4.66,<5",
    "tyro>=1.0,<2",
    "docstring-parser",  # tyro's needs, from here on
    "typeguard",
    "typing-extensions",
    "faster-coco-eval>=1.6,<2",
)
"""What training imports besides PyTorch and NumPy. SciPy and Matplotlib stay behind: curves are drawn at home."""

GLIBC = (17, 24, 27, 28, 31, 34)
"""Minor versions of glibc 2 whose wheels may be taken."""

LIMIT = 64 << 20
START = """#!/bin/sh
# ./start.sh SCRIPT.py FLAGS…, or ./start.sh -m MODULE FLAGS…; PYTHON=/path/to/python3 names another interpreter.
set -eu
root=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
if [ ! -d "$root/site" ]; then
    rm -rf "$root/site.new"
    "$python" -m pip install --quiet --no-index --no-deps --no-cache-dir --target "$root/site.new" "$root"/wheels/*.whl
    mv "$root/site.new" "$root/site"
fi
PYTHONPATH="$root:$root/site${PYTHONPATH:+:$PYTHONPATH}" exec "$python" "$@"
"""


@dataclass(frozen=True)
class Options:
    """What to pack, and for which machine."""

    output: Path = Path("lffd_bare.tar")
    """The archive to write."""
    python_version: str = "3.12"
    """Of the bare machine's Python."""
    architecture: str = "x86_64"
    """Of the bare machine's processor: x86_64 or aarch64."""
    wheels: Path | None = None
    """Folder of wheels that were fetched before; by default pip fetches them."""


def fetch_wheels(folder: Path, python_version: str, architecture: str) -> None:
    """Let pip download the wheels that fit the bare machine; a `UsageError` has its last line when it fails."""
    platforms = [f"--platform=manylinux_2_{minor}_{architecture}" for minor in GLIBC]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--implementation=cp", f"--python-version={python_version}", *platforms]
    command += [f"--platform=manylinux2014_{architecture}", f"--dest={folder}", *REQUIREMENTS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise UsageError(f"pip found no wheels for Python {python_version} on {architecture}: {said[-1]}")


def source_files() -> Iterator[Path]:
    """Yield the project's files that travel, relative to the project."""
    yield from (Path(name) for name in ("pyproject.toml", "LICENSE", "README.md"))
    for package in PACKAGES:
        yield from (path.relative_to(PROJECT) for path in sorted((PROJECT / package).rglob("*.py")))


def write_archive(output: Path, wheels: Path) -> int:
    """Write the archive and return its size in bytes; one that is too large to copy with ease is refused."""
    found = sorted(wheels.glob("*.whl"))
    if not found:
        raise UsageError(f"{wheels} holds no wheels (*.whl)")
    with tarfile.open(output, "w") as archive:
        for path in source_files():
            archive.add(PROJECT / path, f"{FOLDER}/{path}")
        for wheel in found:
            archive.add(wheel, f"{FOLDER}/wheels/{wheel.name}")
        start = tarfile.TarInfo(f"{FOLDER}/start.sh")
        start.mode, start.size = 0o755, len(START.encode())
        archive.addfile(start, io.BytesIO(START.encode()))
    size = output.stat().st_size
    if size > LIMIT:
        output.unlink()
        raise UsageError(f"the archive would be {size >> 20} MiB, over the limit of {LIMIT >> 20} MiB; see {wheels}")
    return size


def main(options: Options) -> None:
    """Pack source, wheels and a start script for a machine that has PyTorch and NumPy but no network."""
    check_output(options.output, marks=(f"{FOLDER}/pyproject.toml",))
    with tempfile.TemporaryDirectory() as folder:
        wheels = options.wheels or Path(folder)
        if options.wheels is None:
            fetch_wheels(wheels, options.python_version, options.architecture)
        size = write_archive(options.output, wheels)
    print(f"{options.output}: {size / 2**20:.1f} MiB. There: tar xf {options.output.name} && cd {FOLDER} &&")
    print("./start.sh config_farm/configuration_10_320_20L_5scales_v2.py --train-data FILE.rec --output-dir runs/v2 \\")
    print("    --engine torch --device cuda:0")


if __name__ == "__main__":
    cli.run(main)
