"""Reads pictures ahead on threads, whatever form they come in, as the network takes them."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from tellapart.core.preprocess import Pixels, Preprocessing, preprocess
from tellapart.data.decoding.decode import read_picture
from tellapart.errors import UnreadableError, UsageError


@dataclass(frozen=True)
class NamedPicture:
    """A picture that is no file of its own, such as a member of an archive.

    Attributes:
        name: under which it is answered.
        read: gives its bytes, on any thread; raises UnreadableError with the reason where they cannot be had.
        n_bytes: of memory that it holds until it is read.
    """

    name: str
    read: Callable[[], bytes]
    n_bytes: int = 0


Picture: TypeAlias = str | Path | bytes | npt.NDArray[np.uint8] | Image.Image | NamedPicture
#: Bytes of pictures, still encoded, that may wait to be read.
_MOST_WAITING = 64 << 20


@dataclass(frozen=True)
class PictureRead:
    """A picture, ready for the network, or why it is not.

    Attributes:
        path: as it was given; empty for a picture that was no file.
        pixels: uint8 [height, width, 3]; None where it cannot be read.
        problem: why not, in a plain sentence.
    """

    path: str
    pixels: Pixels | None
    problem: str = ""


def read_ahead(
    pictures: Iterable[Picture], preprocessing: Preprocessing, workers: int, ahead: int
) -> Iterator[PictureRead]:
    """Pictures in their order; at most `ahead` of them are read before they are asked for.

    Raises:
        UsageError: something that is not a picture.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="read")
    waiting: deque[tuple[Future[PictureRead], int]] = deque()
    n_bytes = 0
    try:
        for picture in pictures:
            size = picture.n_bytes if isinstance(picture, NamedPicture) else 0
            waiting.append((pool.submit(read_one, picture, preprocessing), size))
            n_bytes += size
            while len(waiting) >= ahead or n_bytes > _MOST_WAITING:
                future, size = waiting.popleft()
                n_bytes -= size
                yield future.result()
        while waiting:
            yield waiting.popleft()[0].result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def name_of(picture: Picture) -> str:
    """The name that a picture is answered under: its path as it was given; empty for one that was no file."""
    if isinstance(picture, NamedPicture):
        return picture.name
    return os.fspath(picture) if isinstance(picture, (str, Path)) else ""


def read_one(picture: Picture, preprocessing: Preprocessing) -> PictureRead:
    """A picture, ready for the network, or the reason why it is not."""
    path = name_of(picture)
    try:
        return PictureRead(path, _pixels(picture, preprocessing))
    except UnreadableError as error:
        return PictureRead(path, None, error.reason)


def _pixels(picture: Picture, preprocessing: Preprocessing) -> Pixels:
    """The network's input, from a picture in any form."""
    if isinstance(picture, np.ndarray):
        return preprocess(_checked(picture), preprocessing)
    if isinstance(picture, (str, Path)):
        return read_picture(Path(picture), preprocessing)
    if isinstance(picture, Image.Image):
        picture = lossless_file(picture)
    if isinstance(picture, NamedPicture):
        picture = picture.read()
    if isinstance(picture, bytes):
        return read_picture(picture, preprocessing)
    raise UsageError(
        f"{type(picture).__name__} is not a picture.",
        "Give a path, the bytes of a file, an array of pixels, a Pillow image, or a list of these.",
    )


def lossless_file(image: Image.Image) -> bytes:
    """A Pillow image as a file, so that transparency, 16 bits and EXIF are treated as they are in any file.

    Raises:
        UnreadableError: it was opened, and its file is damaged.
    """
    kind = "TIFF" if image.mode in ("CMYK", "LAB", "I", "F") else "PNG"
    known = kind == "TIFF" or image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
    file = io.BytesIO()
    try:
        # An image that was opened is read only now, so this is where a damaged file shows.
        (image if known else image.convert("RGB")).save(file, kind, compress_level=0, exif=image.getexif())
    except (OSError, SyntaxError, ValueError) as error:
        raise UnreadableError("the image", f"the picture's data are damaged ({error})") from error
    return file.getvalue()


def _checked(pixels: npt.NDArray[Any]) -> Pixels:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise UsageError(
            f"A picture given as an array must be uint8, height × width × 3, not {pixels.dtype} {pixels.shape}.",
            "Colours are red, green, blue, from 0 to 255. Several pictures: give a list of arrays.",
        )
    return pixels
