"""TIFF: the number of tags, values and pieces of the first picture, before Pillow makes Python objects of them."""

from __future__ import annotations

from typing import BinaryIO

from tellapart.data.decoding.bounded_file import read_at
from tellapart.data.decoding.messages import Unusable

_MAX_TAGS = 4_096
_MAX_VALUES = 200_000  # in all tags of numbers together; strips and tiles have two each
_BYTE_KINDS = (1, 2, 6, 7)  # bytes, text and the unknown: these stay bytes


def matches(start: bytes) -> bool:
    """Whether a file begins like a TIFF file."""
    return start[:2] in (b"II", b"MM") and start[2:4] in (b"*\0", b"\0*", b"+\0", b"\0+")


def n_bytes(file: BinaryIO) -> int:
    """Count the first directory's tags and values; the bytes of all tags, which Pillow reads when it opens the file.

    Raises:
        Unusable: there are too many.
    """
    file.seek(0)
    start = file.read(16)
    order = "little" if start.startswith(b"II") else "big"
    large = b"+" in start[2:4]
    n_count, n_entry, n_value = (8, 20, 8) if large else (2, 12, 4)

    def number(data: bytes) -> int:
        return int.from_bytes(data, order)  # type: ignore[arg-type]

    position = number(start[8:16] if large else start[4:8])
    n_tags = number(read_at(file, position, n_count))
    if n_tags > _MAX_TAGS:
        raise Unusable(f"a TIFF file of {n_tags:,} tags: more than can be read")
    directory = read_at(file, position + n_count, n_tags * n_entry)
    n_values = n_text = 0
    for i in range(0, len(directory), n_entry):
        count = number(directory[i + 4 : i + 4 + n_value])
        if number(directory[i + 2 : i + 4]) in _BYTE_KINDS:
            n_text += count
        else:
            n_values += count
    if n_values > _MAX_VALUES:
        raise Unusable(f"a TIFF file of {n_values:,} values in its tags: more than can be read")
    return n_text
