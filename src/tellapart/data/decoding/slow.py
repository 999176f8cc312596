"""Pictures that Pillow decodes in Python, number by number: portable pixel maps (PPM), and run-length coded BMP."""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile

from tellapart.data.decoding import messages
from tellapart.data.decoding.messages import TRUNCATED, Unusable

# Pillow takes about half a microsecond a number that is written as text, and a tenth for a pixel of a run.
_MAX_NUMBERS, _MAX_TEXT, _MAX_IN_RUNS = 4_000_000, 50_000_000, 10_000_000
_STRIP = 250_000  # numbers read at a time
_COMMENT = re.compile(rb"#[^\r\n]*[\r\n]?")


def load(image: ImageFile.ImageFile, file: BinaryIO, n_bytes: int) -> Image.Image:
    """Load an opened picture: by numpy where its numbers have a range of their own, e.g. 0 to 4095; by Pillow else.

    Args:
        image: as opened.
        file: its file.
        n_bytes: size of the file.

    Raises:
        Unusable: too many numbers as text or pixels in runs, or too few numbers.
    """
    decoder = image.tile[0][0] if image.tile else ""
    n_channels = len(image.getbands())
    n_numbers = image.width * image.height * n_channels
    if decoder == "bmp_rle" and n_numbers > _MAX_IN_RUNS:
        raise Unusable(messages.of_size(image.width, image.height, _MAX_IN_RUNS))
    if decoder == "ppm_plain":
        if n_bytes > _MAX_TEXT or (image.mode != "1" and n_numbers > _MAX_NUMBERS):
            raise Unusable(f"a PPM file of {n_numbers:,} numbers as text: more than the limit of 4 million")
        _drop_comments(image, file)
    if decoder == "ppm" and image.mode in ("L", "I", "RGB"):
        return _scaled(image, file, n_channels)
    image.load()
    return image


def _drop_comments(image: ImageFile.ImageFile, file: BinaryIO) -> None:
    """Pillow copies a megabyte at each comment between numbers."""
    tile: Any = image.tile[0]
    file.seek(tile[2])
    text = file.read()
    if b"#" in text:
        image.fp = BytesIO(_COMMENT.sub(b"", text))
        image.tile = [tile._replace(offset=0)]


def _scaled(image: ImageFile.ImageFile, file: BinaryIO, n_channels: int) -> Image.Image:
    tile: Any = image.tile[0]
    offset, largest = tile[2], tile[3][1]
    kind = np.dtype(">u2" if largest > 255 else "u1")
    values = np.empty((image.height, image.width, n_channels), np.uint16 if image.mode == "I" else np.uint8)
    white = np.iinfo(values.dtype).max
    n_rows = max(1, _STRIP // (image.width * n_channels))
    file.seek(offset)
    for top in range(0, image.height, n_rows):
        rows = values[top : top + n_rows]
        data = file.read(rows.size * kind.itemsize)
        if len(data) < rows.size * kind.itemsize:
            raise Unusable(TRUNCATED)
        numbers = np.frombuffer(data, kind).reshape(rows.shape)
        rows[:] = np.minimum(np.rint(numbers / largest * white), white)
    return Image.fromarray(values.squeeze(2) if n_channels == 1 else values)
