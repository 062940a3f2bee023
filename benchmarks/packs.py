"""Command line: measure packing, reading and opening on this machine, with WIDER FACE data in the official text form.

Packing is held against two plain programs of one thread that parse the same text and the same JPEG headers: one copies
every image to a file of its own (what `cp` does), one appends them to a single file and waits for the disk, as the
packer does. Each program runs several times, in turns; the median counts, because the time that a file system takes for
thousands of new files varies by a factor of three. Memory is the peak of a fresh process that packs few or all images.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_provider_farm.drawn_faces.pictures import synthetic_record
from data_provider_farm.pack import Options as PackOptions
from data_provider_farm.pack import pack
from data_provider_farm.pack_format.packed_file import LINE_BYTES, PackReader, PackWriter, index_line
from lffd import cli
from lffd.errors import DataError, UsageError
from lffd.farms import child_environment
from lffd.files import check_output, write_atomic
from lffd.images.jpeg import parse_jpeg

FEW = 300
THREADS = (1, 2, 4)
MANY_RECORDS = 1_000_000


@dataclass(frozen=True)
class Options:
    """Options of the command.

    Attributes:
        images: folder with the event folders, such as `WIDER_train/images`.
        annotations: `wider_face_*_bbx_gt.txt`.
        repeats: runs of each program.
        scratch: folder for the files that are made; the system's temporary one by default.
        json: JSON to write.
    """

    images: Path
    annotations: Path
    repeats: int = 5
    scratch: Path | None = None
    json: Path | None = None


def plain_parse(annotations: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield names and boxes in the fewest steps, without any check."""
    lines = annotations.read_text().splitlines()
    position = 0
    while position < len(lines):
        count = int(lines[position + 1])
        rows = lines[position + 2 : position + 2 + count]
        yield lines[position], np.array([list(map(float, row.split()[:4])) for row in rows], np.float32)
        position += 2 + max(count, 1)


def plain_images(options: Options) -> Iterator[bytes]:
    """Parse the annotations, and yield each image's bytes after parsing its header."""
    for name, _ in plain_parse(options.annotations):
        data = (options.images / name).read_bytes()
        parse_jpeg(data, name)
        yield data


def copy_files(options: Options, folder: Path) -> int:
    """Copy every image to a file of its own; return the number of images."""
    return sum((folder / f"{number}.jpg").write_bytes(data) > 0 for number, data in enumerate(plain_images(options)))


def append_files(options: Options, folder: Path) -> int:
    """Append every image to one file; return the number of images."""
    with (folder / "all.bin").open("wb") as stream:
        images = sum(stream.write(data) > 0 for data in plain_images(options))
        stream.flush()
        os.fsync(stream.fileno())
    return images


def pack_files(options: Options, folder: Path) -> int:
    """Pack every image; return the number of images."""
    target = folder / "all.rec"
    wanted = PackOptions(format="widerface", images=options.images, annotations=options.annotations, output=target)
    return pack(wanted).counts.images


PROGRAMS = {"copy_files": copy_files, "append_files": append_files, "pack": pack_files}


def measure_packing(options: Options) -> dict[str, float]:
    """Return images per second of the two plain programs and of the packer, and the packer's share of each."""
    runs: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(options.repeats):
        for name, work in PROGRAMS.items():
            with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
                start = time.perf_counter()
                runs[name].append(work(options, Path(folder)) / (time.perf_counter() - start))
    rates = {f"{name}_images_per_s": float(np.median(found)) for name, found in runs.items()}
    packed = rates["pack_images_per_s"]
    return rates | {f"pack_over_{name}": packed / rates[f"{name}_images_per_s"] for name in PROGRAMS if name != "pack"}


def measure_memory(options: Options, folder: Path) -> dict[str, float]:
    """Return the peak memory in bytes of processes that pack the first 300 images and all."""
    few = folder / "few.txt"
    counts = [len(boxes) for _, boxes in islice(plain_parse(options.annotations), FEW)]
    lines = options.annotations.read_text().splitlines()[: sum(2 + max(count, 1) for count in counts)]
    few.write_text("\n".join(lines) + "\n")
    peaks = []
    for listed in (few, options.annotations):
        command = [sys.executable, "-m", "lffd", "pack", "--format", "widerface"]
        command += [f"--images={options.images}", f"--annotations={listed}", f"--output={folder / listed.stem}.rec"]
        quiet = [(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_WRONLY, 0) for descriptor in (1, 2)]
        process = os.posix_spawn(sys.executable, command, child_environment(), file_actions=quiet)
        _, status, usage = os.wait4(process, 0)
        if status:
            raise DataError(f"packing {listed} failed: {' '.join(command)}")
        peaks.append(usage.ru_maxrss * 1024)
    small, large = peaks
    return {"few_images": FEW, "few_peak_bytes": small, "all_peak_bytes": large, "all_over_few": large / small}


def measure_reading(options: Options, folder: Path) -> dict[str, float]:
    """Return records per second at random places, by number of threads."""
    pack_files(options, folder)
    found = {}
    with PackReader(folder / "all.rec") as reader:
        order = np.random.default_rng(0).permutation(len(reader)).tolist()
        for threads in THREADS:
            with ThreadPoolExecutor(threads) as pool:
                start = time.perf_counter()
                deque(pool.map(reader.__getitem__, order, chunksize=16), maxlen=0)
                found[f"read_records_per_s_{threads}_threads"] = len(order) / (time.perf_counter() - start)
    return found


def measure_opening(folder: Path) -> dict[str, float]:
    """Return the seconds that opening a pack of a million records takes; only its last record is really there."""
    path = folder / "million.rec"
    with PackWriter(path) as writer:
        writer.add(synthetic_record(0, 64, 0))
    length = path.stat().st_size
    with path.open("r+b") as stream:
        record = stream.read()
        stream.seek((MANY_RECORDS - 1) * length)
        stream.write(record)
    with path.with_suffix(".idx").open("wb") as stream:
        stream.writelines(index_line(key, key * length) for key in range(MANY_RECORDS))
    start = time.perf_counter()
    with PackReader(path) as reader:
        opened = len(reader)
    seconds = time.perf_counter() - start
    return {"open_records": opened, "open_seconds": seconds, "index_bytes": MANY_RECORDS * LINE_BYTES}


def main(options: Options) -> None:
    """Measure packing, reading and opening on this machine."""
    check_output(options.json, [options.annotations], ('"open_seconds":',))
    if sum(1 for _ in plain_parse(options.annotations)) < FEW:
        raise UsageError(f"{options.annotations}: at least {FEW} images are needed to measure anything")
    found = measure_packing(options)
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        folder = Path(name)
        found |= measure_memory(options, folder) | measure_reading(options, folder) | measure_opening(folder)
    for key, value in found.items():
        print(f"{key:32s}{value:,.4g}" if value < 1e4 else f"{key:32s}{value:,.0f}")
    if options.json is not None:
        write_atomic(options.json, (json.dumps(found, indent=2) + "\n").encode())


if __name__ == "__main__":
    cli.run(main)
