"""Icons (ICO): the pictures in them, which Pillow decodes when it opens the file."""

from __future__ import annotations

from typing import BinaryIO

from tellapart.data.decoding import messages
from tellapart.data.decoding.messages import Unusable

_MAX_PIXELS = 10_000_000
_MAX_PICTURES = 100


def check(file: BinaryIO, start: bytes) -> None:
    """Look at the sizes of all pictures in an icon.

    Raises:
        Unusable: there are too many pictures, or one has too many pixels.
    """
    if not start.startswith(b"\0\0\1\0") or len(start) < 6:
        return
    n_pictures = int.from_bytes(start[4:6], "little")
    if n_pictures > _MAX_PICTURES:
        raise Unusable(f"an icon of {n_pictures:,} pictures: more than the limit of {_MAX_PICTURES}")
    for i in range(6, min(6 + 16 * n_pictures, len(start) - 15), 16):
        file.seek(int.from_bytes(start[i + 12 : i + 16], "little"))
        head = file.read(24)
        png = head.startswith(b"\x89PNG")
        sides = (head[16:20], head[20:24]) if png else (head[4:8], head[8:12])
        width, height = (abs(int.from_bytes(side, "big" if png else "little", signed=True)) for side in sides)
        if width * height > _MAX_PIXELS:
            raise Unusable(messages.of_size(width, height, _MAX_PIXELS))
