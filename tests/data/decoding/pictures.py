"""Pictures of every kind, and what is said of them, for several test files."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tellapart.data.decoding.decode import decode
from tellapart.errors import UnreadableError


def photo(width: int = 64, height: int = 48, mode: str = "RGB") -> Image.Image:
    """Smooth colours that differ in every corner, so that turned and mirrored pictures differ."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    channels = np.stack([200 * x + 30, 180 * y + 40, 120 * (1 - x) * y + 60], axis=-1)
    return Image.fromarray(channels.astype(np.uint8)).convert(mode)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)  # type: ignore[arg-type]
    return file.getvalue()


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def reason(source: Path | bytes) -> str:
    with pytest.raises(UnreadableError) as caught:
        decode(source)
    return caught.value.reason


def apart(a: np.ndarray, b: np.ndarray) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def bomb_png(side: int, n_lines: int | None = None) -> bytes:
    """A small PNG file that unpacks to side × side grey pixels, or claims to and holds fewer lines."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer = zlib.compressobj(9)
    line = bytes(side + 1)
    packed = b"".join(packer.compress(line) for _ in range(n_lines or side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """The same JPEG, whose header claims another size."""
    start = next(jpeg.index(mark) for mark in (b"\xff\xc0", b"\xff\xc2") if mark in jpeg)
    return jpeg[: start + 5] + struct.pack(">HH", height, width) + jpeg[start + 9 :]
