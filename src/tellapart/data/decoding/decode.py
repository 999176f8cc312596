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
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile

from tellapart.core.preprocess import Pixels, Preprocessing, preprocess
from tellapart.data.decoding import avif, color, icon, jpeg, jpeg2000, messages, slow, tiff, webp
from tellapart.data.decoding.bounded_file import MAX_HEADER, BoundedFile
from tellapart.data.decoding.exif_time import EXIF_PROFILE, time_of_profile, time_taken
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

_FACTORS = (1, 2, 4, 8)
#: No picture but a JPEG may have more pixels; in formats whose decoders take more memory the limit is lower. Four
#: bytes a pixel to decode into, three for a result of an eighth of the size.
MAX_PIXELS = ALLOWANCE * 64 // (4 * 64 + 3)
_FORMATS = ["PNG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "PSD", "ICO"]
if find_spec("PIL.AvifImagePlugin"):  # since Pillow 11.3
    _FORMATS.append("AVIF")
_BITS_PER_SAMPLE, _ROWS_PER_STRIP, _TILE_WIDTH, _TILE_LENGTH = 258, 278, 322, 323  # TIFF's tags
# Bytes of a file: a larger one cannot be read in five seconds.
_MAX_BYTES = 500_000_000
# OpenJPEG takes a second for 6 MB. Half the size, for larger files, leaves the finest three quarters of them out.
_MAX_JPEG2000 = 20_000_000
# Bytes that are read, and copied, when a file is opened.
_MAX_WHOLE = 100_000_000
# Files up to this size are read whole; larger ones as their decoder asks for them.
_SMALL = 4_000_000
_FEW = 1_000_000  # pixels; where fewer are too many, something else takes the memory
_START = 512  # bytes that tell what a file is
_MAX_EXIF = 100_000  # bytes that Pillow may read; a JPEG can hold 65,527


_Digest = bytes
#: Called by `examine` with the pixels of a picture, whether its file holds several frames, and when it was taken.
Look = Callable[[Pixels, bool, float], None]


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
        sha256: of the file's content, 32 bytes; None where it cannot be read, and where a file of more than 4 MB is no
            picture that can be read by its header: such files are not read whole.
        problem: the plain reason why the picture cannot be read, or None.
        brightest: of 16-bit grey, the largest value once it has 8 bits: 16 or less where 12 of the 16 bits are used.
    """

    width: int | None = None
    height: int | None = None
    mode: str | None = None
    format: str | None = None
    orientation: int | None = None
    bytes: int | None = None
    sha256: _Digest | None = None
    problem: str | None = None
    brightest: int | None = None


def decode(source: Path | bytes, at_least: int | None = None, background: color.Colour = (255, 255, 255)) -> Pixels:
    """Read a picture: upright, 8-bit RGB, its first frame, transparent parts over `background`.

    Args:
        source: a file, or its content.
        at_least: JPEGs may be decoded at 1/2, 1/4 or 1/8 of their size, several times faster, as long as the short side
            keeps this many pixels; by default at full size. Pictures that would take more memory than a process may
            use always come smaller: JPEGs of more than about 120 million pixels (60 if progressive), others of more
            than about 50; so do JPEG 2000 files of more than 20 MB, which take too long.
        background: colour, 0 to 255.

    Returns:
        uint8, height × width × 3, contiguous.

    Raises:
        UnreadableError: with the path and a plain reason.
    """
    try:
        file, n_bytes = (BytesIO(source), len(source)) if isinstance(source, bytes) else _load(source)
        with file, quiet(), ExitStack() as held:
            picture = _open(file, n_bytes, held)
            pixels, orientation = _pixels(picture, _factor(picture, at_least), held, background)
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
        look: given the upright pixels of a picture that can be read, whether the file holds several frames, and when it
            was taken, see `exif_time.time_taken`.
        at_least: JPEGs may be decoded at a reduced size as long as the short side keeps this many pixels.
    """
    n_bytes, digest = None, None
    picture, orientation, problem, brightest = None, None, None, None
    try:
        file, n_bytes = _load(path)
        with file, quiet(), ExitStack() as held:
            if isinstance(file, BytesIO):
                digest = hashlib.sha256(file.getbuffer()).digest()
            picture = _open(file, n_bytes, held)
            factor = _factor(picture, at_least)
            if digest is None:  # a large file is read whole once its header has shown a picture that can be read
                file.seek(0)
                digest = hashlib.file_digest(file, "sha256").digest()
            pixels, orientation = _pixels(picture, factor, held)
            brightest = int(pixels.max(initial=0)) if picture.mode in color.GREY_16 else None
            if look is not None:
                look(_upright(pixels, orientation), _is_animated(picture.source), _time_taken(picture.source))
            del pixels
    except Exception as error:  # noqa: BLE001 - decoders meet hostile bytes: any exception means "unreadable"
        problem = _reason(error, path)
    if picture is None:
        return Facts(bytes=n_bytes, sha256=digest, problem=problem)
    sides = (picture.width, picture.height) if (orientation or 1) < 5 else (picture.height, picture.width)
    turned = None if orientation is None else max(orientation, picture.turned)
    return Facts(*sides, picture.mode, picture.format, turned, n_bytes, digest, problem, brightest)


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

    Attributes:
        opening: bytes of memory that opening took, where they are many.
        held: whether the memory that decoding takes is held since then.
        turned: the orientation that the decoder undoes by itself, as Pillow does for TIFFs; 1 where it does not.
    """

    file: BinaryIO
    n_bytes: int
    width: int
    height: int
    mode: str
    format: str
    source: jpeg.Header | ImageFile.ImageFile
    opening: int = 0
    held: bool = False
    turned: int = 1

    def release(self) -> None:
        """Let the opened picture go, with all that its decoder holds."""
        del self.source

    def memory(self, factor: int) -> int:
        """Bytes that decoding takes at its peak, when the result has 1/factor of the size."""
        if isinstance(self.source, jpeg.Header):
            return self.source.memory(factor, self.n_bytes)
        return self.opening + _decoder_memory(self.source) + 3 * -(-self.width // factor) * -(-self.height // factor)


def _open(file: BinaryIO, n_bytes: int, held: ExitStack) -> _Picture:
    """Read the header. What it claims is bounded before Pillow acts on it; memory is held for what opening takes."""
    file.seek(0)
    start = file.read(_SMALL)
    if start.startswith(b"\xff\xd8"):
        header = jpeg.read_header(start, len(start) == n_bytes)
        return _Picture(file, n_bytes, header.width, header.height, header.mode, "JPEG", header)
    opening, n_held = _check(file, start, n_bytes)
    held.enter_context(reserve(n_held))
    bounded = BoundedFile(file, n_bytes, opening + MAX_HEADER)
    image = Image.open(bounded, formats=_FORMATS)
    bounded.allow_pixels(n_bytes, image.format or "")
    if image.format == "JPEG2000" and n_bytes > _MAX_JPEG2000:
        image.reduce = 1  # type: ignore[method-assign,assignment]
    turned = jpeg.valid_orientation(_tags(image).get(jpeg.ORIENTATION))
    return _Picture(file, n_bytes, *image.size, image.mode, image.format or "", image, opening, n_held > 0, turned)


def _check(file: BinaryIO, start: bytes, n_bytes: int) -> tuple[int, int]:
    """Bound what a header claims.

    Returns:
        Bytes that opening takes, where they are many, and bytes of memory to hold from then on until it is decoded.
    """
    icon.check(file, start)
    if tiff.matches(start):
        n_tags = tiff.n_bytes(file)
        _check_whole(n_tags)
        return (n_tags, ALLOWANCE) if n_tags > MAX_HEADER else (0, 0)
    structure = next((module for module in (webp, avif, jpeg2000) if module.matches(start)), None)
    if structure is None:
        return 0, 0
    _check_whole(n_bytes)  # these decoders read the whole file, and set memory aside, when they open it
    width, height = structure.size(file)
    n_copied = structure.N_COPIES * n_bytes
    opening = width * height * structure.BYTES_PER_PIXEL + n_copied
    if opening > ALLOWANCE:
        raise Unusable(messages.of_size(width, height, (ALLOWANCE - n_copied) // structure.BYTES_PER_PIXEL))
    return opening, min(opening + 3 * width * height, ALLOWANCE)


def _check_whole(n_bytes: int) -> None:
    if n_bytes > _MAX_WHOLE:
        raise Unusable(
            f"a file of {n_bytes / 1e6:,.0f} MB: more than the limit of {_MAX_WHOLE / 1e6:,.0f} for its kind"
        )


def _pixels(
    picture: _Picture, factor: int, held: ExitStack, background: color.Colour = (255, 255, 255)
) -> tuple[Pixels, int]:
    """Pixels as stored, and the orientation they should be given. Memory is held for as long as the picture is open."""
    held.enter_context(reserve(0 if picture.held else picture.memory(factor)))
    held.callback(picture.release)  # comes before the memory is given to others
    if isinstance(picture.source, jpeg.Header):
        picture.file.seek(0)
        return jpeg.read_pixels(picture.file.read(), picture.source, factor), picture.source.orientation
    image = slow.load(picture.source, picture.file, picture.n_bytes)
    return color.to_rgb(image, factor, background), _orientation(picture.source)


def _factor(picture: _Picture, at_least: int | None) -> int:
    """The scale, 1/1 to 1/8: as small as the caller allows (JPEGs only), and as small as memory demands."""
    if picture.n_bytes > _MAX_BYTES:
        raise Unusable(f"a file of {picture.n_bytes / 1e6:,.0f} MB: more than the limit of {_MAX_BYTES / 1e6:,.0f}")
    if isinstance(picture.source, jpeg.Header) and picture.n_bytes > ALLOWANCE // 2:
        raise Unusable(f"a JPEG file of {picture.n_bytes / 1e6:,.0f} MB: more than the limit of {ALLOWANCE / 2e6:,.0f}")
    smallest = 1
    if isinstance(picture.source, jpeg.Header) and at_least is not None:
        short = min(picture.width, picture.height)
        smallest = max(f for f in _FACTORS if f == 1 or -(-short // f) >= at_least)
    for factor in _FACTORS:
        if factor >= smallest and picture.memory(factor) <= ALLOWANCE:
            return factor
    needed = picture.memory(_FACTORS[-1])
    limit = picture.width * picture.height * ALLOWANCE // needed
    if limit < _FEW:
        raise Unusable(f"decoding it takes {needed / 1e6:,.0f} MB: more than the limit of {ALLOWANCE / 1e6:,.0f}")
    raise Unusable(messages.of_size(picture.width, picture.height, limit))


def _decoder_memory(image: Image.Image) -> int:
    """What Pillow and the libraries below it take at their peak for the whole picture, in bytes, once it is open."""
    n_pixels = image.width * image.height
    if image.format in ("WEBP", "AVIF", "JPEG2000"):
        return 0  # counted when it was opened
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
    exif = image.info.get("exif")
    if isinstance(exif, bytes) and len(exif) > _MAX_EXIF:
        return jpeg.valid_orientation(jpeg.exif_orientation(exif.removeprefix(b"Exif\0\0")))
    try:
        return jpeg.valid_orientation(image.getexif().get(jpeg.ORIENTATION))
    except Exception:  # noqa: BLE001 - damaged EXIF fails in many ways, and means only that nothing is known
        return 1


def _is_animated(source: jpeg.Header | Image.Image) -> bool:
    """Whether a file holds several frames; False where what follows the first one is damaged or beyond bounds."""
    try:
        return bool(getattr(source, "is_animated", False))
    except Exception:  # noqa: BLE001 - the picture itself was read
        return False


def _time_taken(source: jpeg.Header | Image.Image) -> float:
    if isinstance(source, jpeg.Header):
        return source.taken
    exif = source.info.get("exif")
    if isinstance(exif, bytes):
        return time_taken(exif)
    return time_of_profile(str(source.info.get(EXIF_PROFILE, "")))


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo how the camera was held: EXIF orientations 2 to 8."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
