"""A file that Pillow reads only so much of: its parsers follow every part of a header, however many there are."""

from __future__ import annotations

from typing import Any, BinaryIO

from tellapart.data.decoding.messages import Unusable

#: Bytes that opening a picture may read: colour profiles and notes of cameras are far smaller.
MAX_HEADER = 16_000_000
# A read takes about a microsecond, and what Pillow does with a part some more. Files of usual parts (rows, chunks of
# some kilobytes, the pieces of 255 bytes in a GIF) stay far below this.
_READS, _BYTES_PER_READ, _MAX_READS = 20_000, 64, 300_000
# While pixels are read. Runs of BMP files are read two bytes at a time.
_PIXEL_READS = {"BMP": 2_000_000}


class BoundedFile:
    """A binary file whose reads are counted.

    Args:
        file: opened for reading.
        n_bytes: its size.
        n_readable: bytes that may be read in total.

    Raises:
        Unusable: by `read`, where a file has more parts, or a longer header, than any real picture.
    """

    def __init__(self, file: BinaryIO, n_bytes: int, n_readable: int = MAX_HEADER) -> None:
        self.file = file
        self.seek, self.tell = file.seek, file.tell  # as they are: they are called at every turn
        self.n_readable = n_readable
        self.n_reads = min(_READS + n_bytes // _BYTES_PER_READ, _MAX_READS)

    def read(self, size: int = -1, /) -> bytes:
        """Read as any file does, within the bounds."""
        self.n_reads -= 1
        if self.n_reads < 0:
            raise Unusable("it has more parts than any real picture")
        within = 0 <= size <= self.n_readable
        data = self.file.read(size if within else self.n_readable + 1)
        self.n_readable -= len(data)
        if self.n_readable < 0:
            raise Unusable(f"its header takes more than {MAX_HEADER / 1e6:,.0f} MB")
        return data

    def allow_pixels(self, n_bytes: int, kind: str) -> None:
        """Start anew for the pixels of an opened picture; pieces of a file may be read several times."""
        self.n_reads = _PIXEL_READS.get(kind, _MAX_READS)
        self.n_readable = 8 * n_bytes + MAX_HEADER

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)  # fileno; getvalue where the content is in memory


def read_at(file: BinaryIO, position: int, size: int) -> bytes:
    """Read a piece of a file; nothing where a hostile position or size makes no sense."""
    if not 0 <= position < 1 << 62 or size < 0:
        return b""
    file.seek(position)
    return file.read(size)
