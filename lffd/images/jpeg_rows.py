"""The upper rows of a JPEG alone: a crop that ends halfway down an image needs no pixel below.

A baseline JPEG is coded from top to bottom in rows of blocks. When the height in its frame header is lowered, the
decoder stops there, and the rows above come out the same to the bit.

What is lost: libjpeg tells of a bit that flipped inside the coded pixels only when it stumbles over the consequences
further down, and these may now lie in the part that is not read. Packs are guarded by a checksum; a file that was
damaged before it was packed is found by `data_provider_farm.pack --verify full`.
"""

from __future__ import annotations

BLOCK_ROWS = 16
"""Rows of one row of blocks with halved colour; one such row more is kept than is needed."""

STOPPED_EARLY = "extraneous bytes before marker 0xd9"
"""What libjpeg says when it finds the end marker further on than the lowered height made it expect."""

FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
SEQUENTIAL = (0xC0, 0xC1)
BARE = frozenset({0x01, *range(0xD0, 0xD8)})
RESTART_INTERVAL, START_OF_SCAN = 0xDD, 0xDA


def frame_size(data: bytes) -> tuple[int, int, int | None] | None:
    """Read the frame header of a JPEG.

    Returns:
        Height, width, and where the height stands if it can be lowered: not in progressive JPEGs or others of several
        scans, which are not coded from top to bottom, nor in those with restart markers, which the decoder cannot tell
        from a fault at the end. None when there is no frame header where one must be.
    """
    found, channels, restarts, place = None, 0, False, 2
    while place + 9 < len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF or marker in BARE:  # fill bytes, markers without a body
            place += 1 if marker == 0xFF else 2
            continue
        if marker == START_OF_SCAN:
            break
        if marker in FRAMES:
            height, width = data[place + 5] << 8 | data[place + 6], data[place + 7] << 8 | data[place + 8]
            found, channels = (height, width, place + 5 if marker in SEQUENTIAL else None), data[place + 9]
        restarts = restarts or marker == RESTART_INTERVAL
        place += 2 + (data[place + 2] << 8 | data[place + 3])
    one_scan = place + 4 < len(data) and data[place + 4] == channels
    return (*found[:2], None) if found is not None and (restarts or not one_scan) else found


def lower_height(data: bytes, place: int, rows: int, height: int) -> tuple[bytearray, int] | None:
    """Return a JPEG that ends early.

    Args:
        data: the whole JPEG.
        place: where its height stands.
        rows: how many rows are needed.
        height: of the whole image.

    Returns:
        The shortened JPEG and its height, at least `rows`; None when it would not be shorter.
    """
    kept = (-(-rows // BLOCK_ROWS) + 1) * BLOCK_ROWS
    if kept >= height:
        return None
    shortened = bytearray(data)
    shortened[place : place + 2] = kept.to_bytes(2, "big")
    return shortened, kept
