"""Makers of hostile pictures: small files, or files of many small parts, that ask for much work."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image

JPEG_EXIF = b"Exif\0\0"


def plain(kind: str, mode: str = "RGB", **options: object) -> bytes:
    """An ordinary picture of 64 × 48 pixels, no two alike."""
    image = Image.linear_gradient("L").resize((64, 48)).convert(mode)
    file = io.BytesIO()
    image.save(file, kind, **options)  # type: ignore[arg-type]
    return file.getvalue()


def jpeg_of_segments(marker: int, body: bytes, n: int) -> bytes:
    """A JPEG with n equal segments before the picture."""
    whole = plain("JPEG")
    return whole[:2] + (bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body) * n + whole[2:]


def jpeg_of_scans(width: int, height: int, n: int) -> bytes:
    """A progressive JPEG that claims a size, and repeats its last scan n times."""
    whole = plain("JPEG", progressive=True)
    frame, scan = whole.index(b"\xff\xc2"), whole.rindex(b"\xff\xc4")
    claimed = whole[: frame + 5] + struct.pack(">HH", height, width) + whole[frame + 9 : -2]
    # As many bytes as a picture of that size must have: a bit a block.
    return claimed + whole[scan:-2] * n + bytes(width * height // 500) + b"\xff\xd9"


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk with length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of_chunks(kind: bytes, body: bytes, n: int, before: bytes = b"IDAT") -> bytes:
    """A PNG with n equal chunks before another one."""
    whole = plain("PNG")
    position = whole.index(before) - 4
    return whole[:position] + png_chunk(kind, body) * n + whole[position:]


def gif_of_blocks(block: bytes, n: int, after: bool = False) -> bytes:
    """A GIF with n equal blocks before or after its first frame."""
    whole = plain("GIF", "L")
    position = len(whole) - 1 if after else 13 + 3 * (2 << (whole[10] & 7))
    return whole[:position] + block * n + whole[position:]


def codestream(
    size: tuple[int, int] = (255, 255),
    tile: tuple[int, int] = (1, 1),
    n_channels: int = 1,
    style: bytes = b"\0\4\4\0\1",
    coding: bytes = b"\0\0\0\1\0",
    markers: bytes = b"",
) -> bytes:
    """A JPEG 2000 codestream without pixels.

    Args:
        size: width and height.
        tile: width and height of a tile.
        n_channels: components.
        style: levels, block's width and height, block's style, wavelet, sizes of precincts.
        coding: flags, order, number of layers (2 bytes), mixing of channels.
        markers: stand between the header and the tile.
    """

    def marker(code: int, body: bytes) -> bytes:
        return struct.pack(">HH", code, len(body) + 2) + body

    sizes = struct.pack(">HIIIIIIIIH", 0, *size, 0, 0, *tile, 0, 0, n_channels) + b"\7\1\1" * n_channels
    quantization = b"\x40" * (3 * style[0] + 2)
    header = marker(0xFF51, sizes) + marker(0xFF52, coding + style) + marker(0xFF5C, quantization)
    part = marker(0xFF90, struct.pack(">HIBB", 0, 14, 0, 1)) + b"\xff\x93"
    return b"\xff\x4f" + header + markers + part + b"\xff\xd9"


def tiff(*entries: tuple[int, int, int, int], values: bytes = b"", large: bool = False) -> bytes:
    """A TIFF of some tags: (tag, kind, count, value or offset). `values` begin at offset 8, or 16 in large files."""
    start = 8 + 8 * large
    directory = struct.pack("<Q" if large else "<H", len(entries))
    directory += b"".join(struct.pack("<HHQQ" if large else "<HHII", *entry) for entry in entries)
    head = b"II+\0\x08\0\0\0" if large else b"II*\0"
    return head + struct.pack("<Q" if large else "<I", start + len(values)) + values + directory + bytes(8)


def webp_of_chunks(n: int) -> bytes:
    """A WebP with n empty chunks after the picture."""
    whole = plain("WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0") + b"ABCD\0\0\0\0" * n
    return whole[:4] + struct.pack("<I", len(whole) - 8) + whole[8:]


def webp_canvas(width: int, height: int) -> bytes:
    """A WebP that claims a canvas."""
    whole = plain("WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0")
    position = whole.index(b"VP8X") + 12
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return whole[:position] + sides + whole[position + 6 :]


def box(kind: bytes, body: bytes) -> bytes:
    """A box of ISO/IEC 14496-12."""
    return struct.pack(">I", len(body) + 8) + kind + body


def avif_of_items(n: int) -> bytes:
    """An AVIF that lists n items."""
    items = b"".join(struct.pack(">IHHH", i + 1, 0, 0, 0) for i in range(n))
    locations = box(b"iloc", b"\2\0\0\0\0\0" + struct.pack(">I", n) + items)
    return box(b"ftyp", b"avif\0\0\0\0avifmif1miaf") + box(b"meta", bytes(4) + locations)


def icon(n_listed: int, content: bytes) -> bytes:
    """An icon that lists the same picture n times."""
    entry = struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(content), 6 + 16 * n_listed)
    return struct.pack("<HHH", 0, 1, n_listed) + entry * n_listed + content


def psd_of_resources(n: int) -> bytes:
    """A PSD with n empty resources."""
    resources = b"8BIM\0\1\0\0\0\0\0\0" * n
    head = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 2, 2, 8, 3) + bytes(4)
    return head + struct.pack(">I", len(resources)) + resources + bytes(4) + bytes(14)


def bmp_of_runs(width: int, height: int, runs: bytes) -> bytes:
    """A run-length coded BMP."""
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 0, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + 40 + 1024) + head + bytes(range(256)) * 4 + runs
