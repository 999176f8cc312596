"""Decode any picture file to upright RGB pixels, or say in plain words why not.

No file may crash, hang or exhaust the process. The memory that decoding takes is computed from the header first, and
all threads together stay within one allowance. Only formats are opened whose decoders are compiled code that runs no
other programs.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from tellapart.core.preprocess import Pixels, Preprocessing, preprocess
from tellapart.data.decoding import color, jpeg, messages
from tellapart.data.decoding.limits import ALLOWANCE, quiet, reserve
from tellapart.data.decoding.messages import Unusable
from tellapart.errors import UnreadableError

#: Suffixes, in lower case, of the files that are taken for pictures. Those of the last line are pictures that
#: cannot be read; they are listed with the reason rather than passed over.
EXTENSIONS = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".webp", ".avif", ".bmp", ".dib", ".tif"),
        *(".tiff", ".jp2", ".jpf", ".jpx", ".j2k", ".psd", ".ico", ".ppm", ".pgm", ".pbm", ".pnm"),
        *(
            ".heic",
            ".heif",
            ".jxl",
            ".svg",
            ".tga",
            ".qoi",
            ".dng",
            ".cr2",
            ".cr3",
            ".nef",
            ".arw",
            ".raf",
            ".orf",
            ".rw2",
        ),
    )
)

# What decoders that read the whole file first take besides it, in bytes a pixel, measured. Others take 4.
_BYTES_PER_PIXEL = {"WEBP": 15, "AVIF": 12, "JPEG2000": 17}
_FACTORS = (1, 2, 4, 8)
#: No picture but a JPEG may have more pixels; in formats whose decoders take more memory the limit is lower. Four
#: bytes a pixel to decode into, three for a result of an eighth of the size.
MAX_PIXELS = ALLOWANCE * 64 // (4 * 64 + 3)
_FORMATS = ["PNG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "PSD", "ICO"]
if find_spec("PIL.AvifImagePlugin"):  # since Pillow 11.3
    _FORMATS.append("AVIF")
_BITS_PER_SAMPLE, _ROWS_PER_STRIP, _TILE_WIDTH, _TILE_LENGTH = 258, 278, 322, 323  # TIFF's tags
_MAX_ICON = 10_000_000  # pixels
# Files up to this size are read whole; larger ones as their decoder asks for them.
_SMALL = 4_000_000
_START = 512  # bytes that tell what a file is


_Digest = bytes
#: Called by `examine` with the pixels of a picture, and whether its file holds several frames.
Look = Callable[[Pixels, bool], None]


@dataclass(frozen=True)
class Facts:
    """Facts about a file; see `examine`.

    Attributes:
        width, height: of the upright picture, in pixels; None where the header cannot be read.
        mode: Pillow's name of how pixels are stored, e.g. "RGB", "L", "P", "CMYK", "I;16".
        format: Pillow's name of the file's kind, e.g. "JPEG", "PNG": what it is, not what its name says. A JPEG file
            of several pictures (MPO) counts as a JPEG.
        orientation: from EXIF, 1 to 8; 1 (upright) where there is none or it makes no sense.
        bytes: size of the file.
        sha256: of the file's content, 32 bytes; None where it cannot be read.
        problem: the plain reason why the picture cannot be read, or None.
    """

    width: int | None = None
    height: int | None = None
    mode: str | None = None
    format: str | None = None
    orientation: int | None = None
    bytes: int | None = None
    sha256: _Digest | None = None
    problem: str | None = None


def decode(source: Path | bytes, at_least: int | None = None, background: color.Colour = (255, 255, 255)) -> Pixels:
    """Read a picture: upright, 8-bit RGB, its first frame, transparent parts over `background`.

    Args:
        source: a file, or its content.
        at_least: JPEGs may be decoded at 1/2, 1/4 or 1/8 of their size, several times faster, as long as the short side
            keeps this many pixels; by default at full size. Pictures that would take more memory than a process may
            use always come smaller: JPEGs of more than about 120 million pixels (60 if progressive), others of more
            than about 50.
        background: colour, 0 to 255.

    Returns:
        uint8, height × width × 3, contiguous.

    Raises:
        UnreadableError: with the path and a plain reason.
    """
    try:
        file, n_bytes = (BytesIO(source), len(source)) if isinstance(source, bytes) else _load(source)
        with file, quiet():
            pixels, orientation = _pixels(_open(file, n_bytes), at_least, background)
            return _upright(pixels, orientation)
    except Exception as error:
        name = "the picture" if isinstance(source, bytes) else str(source)
        raise UnreadableError(name, _reason(error, source)) from error


def read_picture(source: Path | bytes, preprocessing: Preprocessing) -> Pixels:
    """Read a picture and preprocess it, as validation, test and the finished model see it.

    Returns:
        uint8 [preprocessing.height, preprocessing.width, 3].

    Raises:
        UnreadableError: with the path and a plain reason.
    """
    return preprocess(decode(source, preprocessing.decode_at_least, preprocessing.background), preprocessing)


def examine(path: str | Path, look: Look | None = None, at_least: int = 1) -> Facts:
    """Read a file once: its facts, and whether all of it can be decoded. A bad file is a fact, not an error.

    Args:
        path: of the file.
        look: given the upright pixels of a picture that can be read, and whether the file holds several frames.
        at_least: JPEGs may be decoded at a reduced size as long as the short side keeps this many pixels.
    """
    n_bytes, digest = None, None
    picture, orientation, problem = None, None, None
    try:
        file, n_bytes = _load(path)
        with file, quiet():
            content = file.getbuffer() if isinstance(file, BytesIO) else None
            hashed = hashlib.file_digest(file, "sha256") if content is None else hashlib.sha256(content)
            digest = hashed.digest()
            del content  # a buffer that is looked at cannot be read without a copy
            picture = _open(file, n_bytes)
            pixels, orientation = _pixels(picture, at_least)
            if look is not None:
                look(_upright(pixels, orientation), bool(getattr(picture.source, "is_animated", False)))
    except Exception as error:  # noqa: BLE001 - decoders meet hostile bytes: any exception means "unreadable"
        problem = _reason(error, path)
    if picture is None:
        return Facts(bytes=n_bytes, sha256=digest, problem=problem)
    sides = (picture.width, picture.height) if (orientation or 1) < 5 else (picture.height, picture.width)
    turned = None if orientation is None else max(orientation, picture.turned)
    return Facts(*sides, picture.mode, picture.format, turned, n_bytes, digest, problem)


def _load(path: str | Path) -> tuple[BytesIO | BufferedReader, int]:
    """A file, read whole if it is small, and its size.

    With the system's own calls: Python's files make twice as many, and at each one threads wait for each other.
    """
    try:
        # Without O_NONBLOCK, opening a pipe would wait until somebody writes to it.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise Unusable(messages.of_system(error)) from error
    keep = False
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise Unusable("not a file but a folder" if stat.S_ISDIR(status.st_mode) else "not a file")
        keep = status.st_size > _SMALL
        if keep:
            return BufferedReader(FileIO(handle)), status.st_size
        data = os.read(handle, status.st_size)
        while len(data) < status.st_size and (more := os.read(handle, status.st_size - len(data))):
            data += more
        return BytesIO(data), len(data)
    except OSError as error:
        raise Unusable(messages.of_system(error)) from error
    finally:
        if not keep:
            os.close(handle)


def _reason(error: Exception, source: str | Path | bytes) -> str:
    """The reason in words; the beginning of the file helps to tell."""
    if isinstance(error, Unusable):
        return str(error)
    if isinstance(source, bytes):
        return messages.of_error(error, source[:_START])
    start = b""
    with contextlib.suppress(OSError), open(source, "rb") as file:
        start = file.read(_START)
    return messages.of_error(error, start)


@dataclass(slots=True)
class _Picture:
    """An opened file: its header is read, its pixels are not. Sizes are as stored, not yet upright.

    `turned` is the orientation that the decoder undoes by itself, as Pillow does for TIFFs; 1 where it does not.
    """

    file: BinaryIO
    n_bytes: int
    width: int
    height: int
    mode: str
    format: str
    source: jpeg.Header | Image.Image
    turned: int = 1

    def memory(self, factor: int) -> int:
        """Bytes that decoding takes at its peak when the result has 1/factor of the size."""
        if isinstance(self.source, jpeg.Header):
            return self.source.memory(factor, self.n_bytes)
        return _decoder_memory(self.source, self.n_bytes) + 3 * -(-self.width // factor) * -(-self.height // factor)


def _open(file: BinaryIO, n_bytes: int) -> _Picture:
    file.seek(0)
    start = file.read(_SMALL)
    if start.startswith(b"\xff\xd8"):
        header = jpeg.read_header(start)
        return _Picture(file, n_bytes, header.width, header.height, header.mode, "JPEG", header)
    _check_icon(start, file)
    image = Image.open(file, formats=_FORMATS)
    turned = jpeg.valid_orientation(_tags(image).get(jpeg.ORIENTATION))
    return _Picture(file, n_bytes, *image.size, image.mode, image.format or "", image, turned)


def _check_icon(start: bytes, file: BinaryIO) -> None:
    """Refuse icons (ICO) with too many pixels: Pillow decodes these when it opens them."""
    if not start.startswith(b"\0\0\1\0") or len(start) < 6:
        return
    for i in range(6, min(6 + 16 * start[4], len(start) - 15), 16):
        file.seek(int.from_bytes(start[i + 12 : i + 16], "little"))
        head = file.read(24)
        png = head.startswith(b"\x89PNG")
        sides = (head[16:20], head[20:24]) if png else (head[4:8], head[8:12])
        width, height = (abs(int.from_bytes(side, "big" if png else "little", signed=True)) for side in sides)
        if width * height > _MAX_ICON:
            raise Unusable(messages.of_size(width, height, _MAX_ICON))


def _pixels(picture: _Picture, at_least: int | None, background: color.Colour = (255, 255, 255)) -> tuple[Pixels, int]:
    """Pixels as stored, and the orientation they should be given."""
    factor = _factor(picture, at_least)
    with reserve(picture.memory(factor)):
        if isinstance(picture.source, jpeg.Header):
            picture.file.seek(0)
            return jpeg.read_pixels(picture.file.read(), picture.source, factor), picture.source.orientation
        picture.source.load()
        return color.to_rgb(picture.source, factor, background), _orientation(picture.source)


def _factor(picture: _Picture, at_least: int | None) -> int:
    """The scale, 1/1 to 1/8: as small as the caller allows (JPEGs only), and as small as memory demands."""
    smallest = 1
    if isinstance(picture.source, jpeg.Header) and at_least is not None:
        short = min(picture.width, picture.height)
        smallest = max(f for f in _FACTORS if f == 1 or -(-short // f) >= at_least)
    for factor in _FACTORS:
        if factor >= smallest and picture.memory(factor) <= ALLOWANCE:
            return factor
    limit = picture.width * picture.height * ALLOWANCE // picture.memory(_FACTORS[-1])
    raise Unusable(messages.of_size(picture.width, picture.height, limit))


def _decoder_memory(image: Image.Image, n_bytes: int) -> int:
    """What Pillow and the libraries below it take at their peak for the whole picture, in bytes."""
    n_pixels = image.width * image.height
    if image.format in _BYTES_PER_PIXEL:
        return n_pixels * _BYTES_PER_PIXEL[image.format] + n_bytes
    if image.format != "TIFF":
        return n_pixels * 4
    tags = _tags(image)  # TIFFs are decoded in pieces: strips or tiles
    strip = image.width * min(image.height, int(tags.get(_ROWS_PER_STRIP, image.height)))
    piece = int(tags.get(_TILE_WIDTH, 0)) * int(tags.get(_TILE_LENGTH, 0)) or strip
    return n_pixels * 4 + piece * int(sum(tags.get(_BITS_PER_SAMPLE, (1,)))) // 8


def _tags(image: Image.Image) -> Mapping[int, Any]:
    """The tags of a TIFF file; none for other files."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    return tags


def _orientation(image: Image.Image) -> int:
    try:
        return jpeg.valid_orientation(image.getexif().get(jpeg.ORIENTATION))
    except Exception:  # noqa: BLE001 - damaged EXIF fails in many ways, and means only that nothing is known
        return 1


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo how the camera was held: EXIF orientations 2 to 8."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
