"""Command line: merge, split and shuffle packs, and rebuild an index.

Records move as they are: image bytes, boxes and flags stay the same to the bit.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from tqdm import tqdm

from data_provider_farm.pack_format.packed_file import PackReader, PackWriter, find_whole_records, write_index
from lffd import cli
from lffd.errors import DataError, UsageError
from lffd.untrusted import open_file, read_text

Pack = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.rec")]
Packs = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE.rec")]


@dataclass(frozen=True)
class Merge:
    """Join packs, in the order given.

    Attributes:
        packs: the packs to join.
        output: the pack to make.
        overwrite: replace an existing pack.
    """

    packs: Packs
    output: Path
    overwrite: bool = False

    def run(self) -> None:
        """Join the packs; raises UsageError when the output is one of them."""
        if len(self.packs) < 2:
            raise UsageError("merge needs at least two packs")
        _refuse_same(self.packs, [self.output])
        with PackWriter(self.output, overwrite=self.overwrite) as writer:
            for path in self.packs:
                with PackReader(path) as reader:
                    _copy(reader, range(len(reader)), writer)


@dataclass(frozen=True)
class Split:
    """Divide a pack into two, each in the old order: by a random share, or by a list of names.

    Attributes:
        pack: the pack to divide.
        first: gets the share, or the listed images.
        second: gets the rest.
        share: of the images that go to the first pack, above 0 and below 1.
        seed: of the choice.
        names: text file with one image name per line.
        overwrite: replace existing packs.
    """

    pack: Pack
    first: Path
    second: Path
    share: float | None = None
    seed: int = 0
    names: Path | None = None
    overwrite: bool = False

    def run(self) -> None:
        """Divide the pack; raises UsageError when a side would be empty, DataError when a listed name is missing."""
        if (self.share is None) == (self.names is None):
            raise UsageError("split needs either --share or --names")
        _refuse_same([self.pack], [self.first, self.second])
        with PackReader(self.pack) as reader:
            chosen = _named(reader, self.names) if self.names else _share(reader, self.share, self.seed)
            rest = sorted(set(range(len(reader))) - set(chosen))
            if not chosen or not rest:
                raise UsageError(f"{self.pack}: one pack would be empty ({len(chosen)} and {len(rest)} images)")
            with (
                PackWriter(self.first, overwrite=self.overwrite) as first,
                PackWriter(self.second, overwrite=self.overwrite) as second,
            ):
                _copy(reader, chosen, first)
                _copy(reader, rest, second)


@dataclass(frozen=True)
class Shuffle:
    """Put the records of a pack into a random order.

    Attributes:
        pack: the pack to shuffle.
        output: the pack to make.
        seed: of the order.
        overwrite: replace an existing pack.
    """

    pack: Pack
    output: Path
    seed: int = 0
    overwrite: bool = False

    def run(self) -> None:
        """Shuffle the pack; raises UsageError when the output is the pack itself."""
        _refuse_same([self.pack], [self.output])
        with PackReader(self.pack) as reader, PackWriter(self.output, overwrite=self.overwrite) as writer:
            _copy(reader, np.random.default_rng(self.seed).permutation(len(reader)).tolist(), writer)


@dataclass(frozen=True)
class Reindex:
    """Make the index of a pack again from its records.

    Attributes:
        pack: the pack whose index is lost or damaged.
    """

    pack: Pack

    def run(self) -> None:
        """Make the index again; raises DataError when the pack is damaged, and says where."""
        with open(open_file(self.pack), "rb") as stream:
            offsets, end = find_whole_records(stream.fileno(), self.pack)
            size = os.fstat(stream.fileno()).st_size
        if end != size:
            place = f"after {len(offsets):,} whole records, at byte {end:,} of {size:,}"
            raise DataError(f"{self.pack}: damaged {place}; pack it again")
        print(f"{write_index(self.pack, offsets)}: {len(offsets):,} records")


@dataclass(frozen=True)
class Options:
    """Options of the command.

    Attributes:
        command: what to do.
    """

    command: tyro.conf.OmitArgPrefixes[Merge | Split | Shuffle | Reindex]


def _share(reader: PackReader, share: float | None, seed: int) -> list[int]:
    """Return a random share of the records, in order."""
    if share is None or not 0 < share < 1:
        raise UsageError(f"--share must lie above 0 and below 1, not {share}")
    order = np.random.default_rng(seed).permutation(len(reader))
    return sorted(order[: round(share * len(reader))].tolist())


def _named(reader: PackReader, names: Path) -> list[int]:
    """Return the records that a text file names, in order."""
    lines = enumerate(read_text(names).splitlines(), start=1)
    wanted = {line.strip(): number for number, line in lines if line.strip()}
    found = {index: record.name for index, record in enumerate(reader) if record.name in wanted}
    if missing := wanted.keys() - set(found.values()):
        first = min(missing, key=wanted.__getitem__)
        raise DataError(f"{names}:{wanted[first]}: {reader.path} has no image {first!r}")
    return list(found)


def _copy(reader: PackReader, indices: Sequence[int], writer: PackWriter) -> None:
    """Copy records, with a progress bar, and say how many."""
    for index in tqdm(indices, desc=reader.path.name, unit=" images", disable=None):
        writer.add(reader[index])
    print(f"{reader.path} → {writer.path}: {len(indices):,} images")


def _refuse_same(sources: Sequence[Path], targets: Sequence[Path]) -> None:
    """Refuse to write a pack over one that is read, or twice."""
    written = {target.resolve() for target in targets}
    if len(written) < len(targets) or any(path.resolve() in written for path in sources):
        raise UsageError("a pack cannot be written over one that is read, nor two to the same file")


def main(options: Options) -> None:
    """Merge, split and shuffle packs, or rebuild an index."""
    options.command.run()


if __name__ == "__main__":
    cli.run(main)
