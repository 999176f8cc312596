"""Thumbnails for a page, within a limit on bytes and on pictures."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tellapart.data.catalog import Catalog
from tellapart.data.decoding.decode import decode
from tellapart.errors import TellapartError

#: Longer side of a thumbnail in pixels.
SIZE = 192
#: The most that one page holds: bytes of JPEG, and pictures. As base64, the JPEGs take a third more.
MOST_BYTES = 9_000_000
MOST_PICTURES = 1500
_AT_ONCE = 64


def thumbnail(pixels: npt.NDArray[np.uint8], size: int = SIZE, quality: int = 75) -> bytes:
    """A small JPEG.

    Args:
        pixels: uint8, height × width × 3, as `data.decoding.decode` gives it.
        size: longer side of the result in pixels, at most; small pictures are not enlarged.
        quality: of the JPEG, 1 to 95.
    """
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality, optimize=True)
    return file.getvalue()


def thumbnails_of(catalog: Catalog) -> Callable[[int], bytes]:
    """The function that makes the thumbnail of a row's picture."""
    return lambda row: thumbnail(decode(catalog.path(row), SIZE))


@dataclass(frozen=True)
class Thumbnails:
    """The pictures of a page.

    Attributes:
        jpeg: row → bytes of a JPEG.
        n_wanted: different pictures that the page would show.
        failed: rows whose picture could not be read, with the reason.
    """

    jpeg: dict[int, bytes]
    n_wanted: int
    failed: dict[int, str]

    @property
    def notes(self) -> list[str]:
        """Sentences on the pictures that the page lacks."""
        notes = []
        n_cut = self.n_wanted - len(self.jpeg) - len(self.failed)
        if n_cut:
            notes.append(
                f"To keep this file small it holds {len(self.jpeg):,} of the {self.n_wanted:,} pictures it speaks of."
            )
        if self.failed:
            row = min(self.failed)
            notes.append(
                f"{len(self.failed):,} pictures could not be read when this page was written; "
                f"the first: {self.failed[row]}"
            )
        return notes


def gather(
    rows: Iterable[int],
    jpeg: Callable[[int], bytes],
    most_bytes: int = MOST_BYTES,
    most_pictures: int = MOST_PICTURES,
) -> Thumbnails:
    """Make thumbnails of the first rows, until the limits are reached.

    Args:
        rows: may repeat; each picture is made once.
        jpeg: row → JPEG; called from several threads. `TellapartError` and `OSError` are noted, not raised.
    """
    wanted = list(dict.fromkeys(rows))
    made: dict[int, bytes] = {}
    failed: dict[int, str] = {}
    room = most_bytes

    def make(row: int) -> bytes | str:
        try:
            return jpeg(row)
        except TellapartError as error:
            return error.message
        except OSError as error:
            return str(error)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        for start in range(0, len(wanted), _AT_ONCE):
            chunk = wanted[start : start + _AT_ONCE]
            for row, result in zip(chunk, threads.map(make, chunk), strict=True):
                if isinstance(result, str):
                    failed[row] = result
                elif len(result) <= room and len(made) < most_pictures:
                    made[row] = result
                    room -= len(result)
                else:
                    return Thumbnails(made, len(wanted), failed)
    return Thumbnails(made, len(wanted), failed)
