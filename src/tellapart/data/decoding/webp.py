"""WebP: the size of its canvas and the number of its chunks, before libwebp sets memory aside for them."""

from __future__ import annotations

from typing import BinaryIO

from tellapart.data.decoding.bounded_file import read_at
from tellapart.data.decoding.messages import TRUNCATED, Unusable

#: What libwebp takes, in bytes a pixel, besides the file: measured.
BYTES_PER_PIXEL = 15
#: Copies of the file in memory meanwhile.
N_COPIES = 2
_MAX_CHUNKS = 50_000  # a film of half an hour has so many frames


def matches(start: bytes) -> bool:
    """Whether a file begins like a WebP file."""
    return start.startswith(b"RIFF") and start[8:12] == b"WEBP"


def size(file: BinaryIO) -> tuple[int, int]:
    """Check the chunks of a file; width and height of its canvas in pixels.

    Raises:
        Unusable: it has too many chunks, or no size.
    """
    start = read_at(file, 0, 30)
    position = 12
    for _ in range(_MAX_CHUNKS):
        head = read_at(file, position, 8)
        if len(head) < 8:
            break
        position += 8 + (int.from_bytes(head[4:], "little") + 1) // 2 * 2
    else:
        raise Unusable(f"a WebP file of more than {_MAX_CHUNKS:,} chunks")
    return _canvas(start)


def _canvas(start: bytes) -> tuple[int, int]:
    if len(start) < 30:
        raise Unusable(TRUNCATED)
    kind = start[12:16]
    if kind == b"VP8X":
        return int.from_bytes(start[24:27], "little") + 1, int.from_bytes(start[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(start[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return int.from_bytes(start[26:28], "little") & 0x3FFF, int.from_bytes(start[28:30], "little") & 0x3FFF
    raise Unusable("a damaged WebP file: it cannot be opened")
