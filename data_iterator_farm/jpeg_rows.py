"""The upper rows of a JPEG alone: a crop that ends halfway down an image needs no pixel below.

A baseline JPEG is coded from top to bottom in blocks of at most 16 rows. When the height in its frame header is
lowered, the decoder stops there, and the rows above come out the same to the bit.
"""

from __future__ import annotations

BLOCK_ROWS = 16
"""Rows of one block with halved colour; the colours of a block's last row also depend on the block below."""

STOPPED_EARLY = "extraneous bytes before marker 0xd9"
"""What libjpeg says when it finds the end marker further on than the lowered height made it expect."""

FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
SEQUENTIAL = (0xC0, 0xC1)
RESTART_INTERVAL, START_OF_SCAN = 0xDD, 0xDA


def frame_size(data: bytes) -> tuple[int, int, int | None] | None:
    """Read the frame header of a JPEG.

    Returns:
        Height, width, and where the height stands if it can be lowered: not in progressive JPEGs, which are not coded
        from top to bottom, nor in those with restart markers, which the decoder cannot tell from a fault at the end.
        None when there is no frame header where one must be.
    """
    found, restarts, place = None, False, 2
    while place + 8 < len(data) and data[place] == 0xFF and data[place + 1] != START_OF_SCAN:
        marker = data[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        if marker in FRAMES:
            height, width = data[place + 5] << 8 | data[place + 6], data[place + 7] << 8 | data[place + 8]
            found = (height, width, place + 5 if marker in SEQUENTIAL else None)
        restarts = restarts or marker == RESTART_INTERVAL
        place += 2 + (data[place + 2] << 8 | data[place + 3])
    return (*found[:2], None) if found is not None and restarts else found


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
