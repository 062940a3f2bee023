"""Command line: let a teacher look at every image of a pack once, at many sizes, for `--distill` of a config script.

It takes about a second per image of 700 × 500 px and core for SCRFD-2.5G, once; after that a teacher costs a training
about a millisecond per crop, where one that looks at every crop costs about as much as the network that learns.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray
from tqdm import tqdm

from data_iterator_farm.decoding import Scratch
from data_iterator_farm.rendering import CropWindow, draw_window
from data_provider_farm.pack_format.packed_file import PackReader
from detection.dense_teacher import Look, find_teacher
from detection.load import model_facts
from detection.recorded_teacher import CARD, FORMAT, PART, kept_cells, read_card
from lffd import cli
from lffd.errors import UsageError
from lffd.files import OutputFolder, write_atomic
from lffd.records import Record

SCALES = tuple(round(2 ** (0.75 - k / 2), 4) for k in range(8))
_LEAST = 32
"""Images are not made smaller than this."""


@dataclass(frozen=True)
class Options:
    """Record what a teacher says of the images of a pack.

    Attributes:
        pack: the pack that will be trained on.
        teacher: peer:scrfd=FILE.onnx, or one of our own models as --model takes it.
        output: folder of the recording; a run that was stopped goes on when the same command is given again.
        scales: sizes at which the teacher looks, as factors of the image's; best a factor of √2 apart, over the range
            in which crops scale images.
    """

    pack: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.rec")]
    teacher: str
    output: Path
    scales: tuple[float, ...] = SCALES


def main(options: Options) -> None:
    """Let a teacher look at every image of a pack once, at many sizes, for --distill of a training.

    A run that was stopped goes on when the same command is given again.
    """
    if not options.scales or not all(0.01 <= scale <= 8 for scale in options.scales):
        raise UsageError("--scales: give factors from 0.01 to 8")
    places, look = find_teacher(options.teacher)
    facts = model_facts(options.teacher)
    with PackReader(options.pack) as pack, OutputFolder(options.output) as output:
        card = {
            "format": FORMAT,
            "teacher": facts.family,
            "sha256": facts.sha256,
            "pack": options.pack.name,
            "records": len(pack),
            "strides": sorted({stride for stride, _ in places}),
            "scales": list(options.scales),
        }
        _check_card(options.output / CARD, card)
        write_atomic(output.claim(options.output / CARD), json.dumps(card, indent=2).encode())
        with tqdm(total=len(pack), unit="image", smoothing=0.05) as bar:
            for first in range(0, len(pack), PART):
                numbers = range(first, min(first + PART, len(pack)))
                path = options.output / f"{first:06d}.npz"
                if not path.exists():
                    write_atomic(output.claim(path), _part([pack[number] for number in numbers], look, options.scales))
                bar.update(len(numbers))


def _check_card(path: Path, card: dict[str, Any]) -> None:
    if path.exists() and read_card(path) != card:
        raise UsageError(f"{path.parent} holds another recording: choose another --output, or remove it")


def _part(records: list[Record], look: Look, scales: tuple[float, ...]) -> bytes:
    """Return the file of a part."""
    cells, counts, scratch = [], [], Scratch()
    for record in records:
        for scale in scales:
            cells.append(_look_at(record, scale, look, scratch))
            counts.append(len(cells[-1]["score"]))
    stream = io.BytesIO()
    columns = {name: np.concatenate([part[name] for part in cells]) for name in cells[0]}
    names = np.array([record.name for record in records])
    np.savez(stream, names=names, counts=np.array(counts, np.int32).reshape(len(records), -1), **columns)
    return stream.getvalue()


def _look_at(record: Record, scale: float, look: Look, scratch: Scratch) -> dict[str, NDArray[Any]]:
    """Return what the teacher says of an image that is drawn as crops are, at one scale."""
    width, height = (max(round(side * scale), _LEAST) for side in (record.width, record.height))
    image = np.empty((height, width, 3), np.uint8)
    window = draw_window(record, CropWindow(scale, 0.0, 0.0, width, height), image, scratch)
    return kept_cells({stride: maps for (stride, _), maps in look(image[None]).items()}, window.scale)


if __name__ == "__main__":
    cli.run(main)
