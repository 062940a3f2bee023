"""What may be written where training or validation data is asked for."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext

from data_provider_farm.pack_format.packed_file import PackReader
from lffd.records import RecordSource


def open_records(spec: str, size: int, seed: int) -> AbstractContextManager[RecordSource]:
    """Open a pack, or make drawn faces.

    Args:
        spec: path of a pack, or `synthetic:COUNT`.
        size: side in pixels of drawn images.
        seed: of drawn images.

    Raises:
        DataError: when the pack cannot be read.
    """
    drawn = re.fullmatch(r"synthetic:(\d+)", spec)
    if drawn:
        from data_provider_farm.drawn_faces.pictures import synthetic_records

        return nullcontext(synthetic_records(int(drawn[1]), size=size, seed=seed))
    return PackReader(spec)
