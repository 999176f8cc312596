"""JPEG 2000: how much work a codestream asks for, counted before OpenJPEG sees it.

OpenJPEG sets aside memory for every tile, precinct, code block and layer that a header claims, so 200 bytes can ask for
gigabytes. ISO/IEC 15444-1, annex A (codestream) and annex I (boxes), has the layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from tellapart.data.decoding.bounded_file import read_at
from tellapart.data.decoding.messages import TRUNCATED, Unusable

#: What OpenJPEG and Pillow take, in bytes a pixel, besides the file: measured.
BYTES_PER_PIXEL = 17
#: Copies of the file in memory meanwhile.
N_COPIES = 1
_SOC, _SIZ, _COD, _COC, _SOT, _SOD, _EOC = 0xFF4F, 0xFF51, 0xFF52, 0xFF53, 0xFF90, 0xFF93, 0xFFD9
_BOXES = b"\0\0\0\x0cjP  \r\n\x87\n"
_MAX_BOXES, _MAX_MARKERS = 1_000, 20_000
_MAX_CHANNELS = 4  # all that Pillow reads
# Bytes that OpenJPEG sets aside for each: measured for tiles, the structures' sizes for the others.
_PER_TILE, _PER_BLOCK = 12_000, 400
#: Bytes a picture may take besides its pixels: pictures in tiles of 256 × 256 and blocks of 32 × 32 take a tenth of it.
_MAX_STRUCTURES = 120_000_000
_MAX_PACKETS = 5_000_000


def matches(start: bytes) -> bool:
    """Whether a file begins like JPEG 2000."""
    return start.startswith((_BOXES, b"\xff\x4f\xff\x51"))


@dataclass
class _Frame:
    """The size marker (SIZ). Tiles count those that a decoder sets up, empty ones too."""

    width: int
    height: int
    tile_width: int
    tile_height: int
    n_tiles: int
    n_channels: int
    n_markers: int = 0


def size(file: BinaryIO) -> tuple[int, int]:
    """Check a file's structure; width and height of its codestream in pixels, which its boxes may not tell.

    Raises:
        Unusable: it has too many parts, or ends within a header.
    """
    file.seek(0)
    position = _codestream(file) if file.read(12) == _BOXES else 0
    frame = _frame(file, position)
    position += 4 + int.from_bytes(_read(file, position + 4, 2), "big")
    position = _header(file, position, frame)
    while position and int.from_bytes(read_at(file, position, 2), "big") == _SOT:
        length = int.from_bytes(_read(file, position + 6, 4), "big")
        _header(file, position + 12, frame)
        position = position + length if length >= 14 else 0  # 0: this part is the last
    return frame.width, frame.height


def _codestream(file: BinaryIO) -> int:
    """Where the codestream begins: the content of the box jp2c."""
    position = 0
    for _ in range(_MAX_BOXES):
        head = _read(file, position, 8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        n_head = 8
        if length == 1:
            length, n_head = int.from_bytes(_read(file, position + 8, 8), "big"), 16
        if kind == b"jp2c":
            return position + n_head
        if length < n_head:
            raise Unusable("a damaged JPEG 2000 file: a box without a length")
        position += length
    raise Unusable(f"a JPEG 2000 file of more than {_MAX_BOXES:,} boxes")


def _frame(file: BinaryIO, position: int) -> _Frame:
    head = _read(file, position, 42)
    if int.from_bytes(head[:2], "big") != _SOC or int.from_bytes(head[2:4], "big") != _SIZ:
        raise Unusable("a damaged JPEG 2000 file: its header makes no sense")
    x1, y1, x0, y0, width, height, tile_x, tile_y = (int.from_bytes(head[i : i + 4], "big") for i in range(8, 40, 4))
    n_channels = int.from_bytes(head[40:42], "big")
    if not (x0 < x1 and y0 < y1 and width and height and tile_x <= x0 and tile_y <= y0 and n_channels):
        raise Unusable("a damaged JPEG 2000 file: its header makes no sense")
    if n_channels > _MAX_CHANNELS:
        raise Unusable(f"a JPEG 2000 file with {n_channels:,} channels, which cannot be read")
    n_tiles = -(-(x1 - tile_x) // width) * -(-(y1 - tile_y) // height)
    if n_tiles * _PER_TILE * n_channels > _MAX_STRUCTURES:
        raise Unusable(f"a JPEG 2000 file of {n_tiles:,} tiles: more than can be read")
    return _Frame(x1 - x0, y1 - y0, min(width, x1 - x0), min(height, y1 - y0), n_tiles, n_channels)


def _header(file: BinaryIO, position: int, frame: _Frame) -> int:
    """Check the markers of a header, a tile's or the main one; where they end."""
    while True:
        head = read_at(file, position, 4)
        marker = int.from_bytes(head[:2], "big")
        if marker in (_SOT, _SOD, _EOC) or len(head) < 4 or marker < 0xFF00:
            return position
        frame.n_markers += 1
        if frame.n_markers > _MAX_MARKERS:
            raise Unusable(f"a JPEG 2000 file of more than {_MAX_MARKERS:,} markers")
        length = int.from_bytes(head[2:], "big")
        if marker in (_COD, _COC) and length < 9:
            raise Unusable("a damaged JPEG 2000 file: its header makes no sense")
        if marker == _COD:
            body = _read(file, position + 4, min(length - 2, 50))
            _check_coding(frame, body[5:], bool(body[0] & 1), int.from_bytes(body[2:4], "big"))
        elif marker == _COC:
            body = _read(file, position + 4, min(length - 2, 50))
            _check_coding(frame, body[2:], bool(body[1] & 1), 1)
        position += 2 + max(length, 2)


def _check_coding(frame: _Frame, style: bytes, in_precincts: bool, n_layers: int) -> None:
    """Count code blocks, precincts and packets of a coding style: levels, block's width and height, …, precincts."""
    if len(style) < 5 or style[0] > 32:
        raise Unusable("a damaged JPEG 2000 file: its header makes no sense")
    n_levels, block = style[0], ((style[1] & 15) + 2, (style[2] & 15) + 2)
    sizes = style[5 : 6 + n_levels] if in_precincts else b"\xff" * (n_levels + 1)
    if len(sizes) <= n_levels:
        raise Unusable(TRUNCATED)
    n_precincts = n_blocks = 0
    for level, size in enumerate(reversed(sizes)):  # the finest comes last
        width, height = (frame.tile_width >> level) + 2, (frame.tile_height >> level) + 2
        across, down = size & 15, size >> 4  # a precinct's sides, as powers of two
        n_precincts += ((width >> across) + 1) * ((height >> down) + 1)
        n_blocks += ((width >> min(across, block[0])) + 1) * ((height >> min(down, block[1])) + 1)
    everything = frame.n_tiles * frame.n_channels
    # A tile's structures are set up one tile at a time; its packets are numbered ahead, layer by layer.
    if n_blocks * frame.n_channels * _PER_BLOCK > _MAX_STRUCTURES or n_precincts * everything * n_layers > _MAX_PACKETS:
        raise Unusable("a JPEG 2000 file of more code blocks, precincts or layers than can be read")


def _read(file: BinaryIO, position: int, size: int) -> bytes:
    data = read_at(file, position, size)
    if len(data) < size:
        raise Unusable(TRUNCATED)
    return data
