"""JPEG files: what the header says, and the pixels at full or reduced size.

Most pictures are JPEGs, so their headers are read here rather than by Pillow. That is faster, it tells how much memory
decoding will take before anything is decoded, and it sets no limit for large pictures.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
import simplejpeg
from PIL import Image

from tellapart.core.preprocess import Pixels
from tellapart.data.decoding.color import to_rgb
from tellapart.data.decoding.exif_time import time_taken
from tellapart.data.decoding.messages import TRUNCATED, Unusable

_SOS, _EOI, _APP1 = 0xDA, 0xD9, 0xE1
_STANDALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}  # sequential and progressive, Huffman or arithmetic coded
_OTHER_FRAMES = {0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF}  # lossless and hierarchical
_PROGRESSIVE = {0xC2, 0xCA}
_MARKER = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)
_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
ORIENTATION = 0x0112
_SIZES = {3: 2, 4: 4}  # bytes of EXIF's kinds of whole numbers
# Encoders write about 10 scans. Each one walks over the whole picture, so thousands of them would take hours; a scan
# takes two nanoseconds a pixel, even an empty one.
_MAX_SCANS, _MAX_SCANNED = 200, 1_200_000_000
# Extended XMP and colour profiles take some hundred segments. Pillow copies all of EXIF again at each one.
_MAX_SEGMENTS = 1_000


@dataclass(frozen=True)
class Header:
    """What a JPEG says of itself before its first scan.

    Attributes:
        width, height: as stored, before the orientation is applied; in pixels.
        mode: "L", "RGB" or "CMYK".
        orientation: EXIF orientation, 1 to 8; 1 where there is none or it makes no sense.
        taken: when it was taken, see `exif_time.time_taken`; NaN where that is not known.
        samples: samples a pixel over all channels, e.g. 1.5 with halved colour.
        buffered: True where the decoder has to keep the coefficients of the whole picture in memory.
    """

    width: int
    height: int
    mode: str
    orientation: int
    taken: float
    samples: float
    buffered: bool

    def memory(self, factor: int, n_bytes: int) -> int:
        """Bytes needed to decode at 1/factor of the size, the file's own included."""
        result = -(-self.width // factor) * -(-self.height // factor) * (7 if self.mode == "CMYK" else 3)
        # Coefficients are 16-bit, and are kept at full size whatever the scale.
        coefficients = 2 * self.samples * self.width * self.height if self.buffered else 0
        return int(result + coefficients) + n_bytes


def read_header(data: bytes, whole: bool = True) -> Header:
    """Read the segments before the first scan.

    Args:
        data: the file, or enough of its beginning.
        whole: whether it is all of the file.

    Raises:
        Unusable: not a JPEG that can be decoded.
    """
    frame, progressive, exif, xmp = b"", False, list[bytes](), b""
    position, too_short = 2, TRUNCATED if whole else f"its header takes more than {len(data) / 1e6:,.0f} MB"
    for _ in range(_MAX_SEGMENTS):
        position = _next_marker(data, position, too_short)
        marker = data[position]
        if marker in _STANDALONE:
            continue
        if marker == _EOI:
            raise Unusable("a JPEG file without a picture in it")
        length = int.from_bytes(data[position + 1 : position + 3], "big")
        body = data[position + 3 : position + 1 + length]
        if length < 2 or len(body) < length - 2:
            raise Unusable(too_short)
        position += 1 + length
        if marker in _FRAMES:
            frame, progressive = body, marker in _PROGRESSIVE
        elif marker in _OTHER_FRAMES:
            raise Unusable("a lossless or hierarchical JPEG file, which cannot be read")
        elif marker == _APP1 and body.startswith(_EXIF):
            exif.append(body[len(_EXIF) :])
        elif marker == _APP1 and body.startswith(_XMP):
            xmp = body
        elif marker == _SOS:
            return _header(frame, progressive, body, b"".join(exif), xmp)
    raise Unusable(f"a JPEG file of more than {_MAX_SEGMENTS:,} segments before its picture")


def _next_marker(data: bytes, position: int, too_short: str) -> int:
    """Where the code of the next marker stands; junk before it is passed over, as all decoders do."""
    marker = _MARKER.search(data, position)
    if marker is None:
        raise Unusable(too_short)
    return marker.start() + 1


def _header(frame: bytes, progressive: bool, scan: bytes, exif: bytes, xmp: bytes) -> Header:
    if len(frame) < 6 or len(frame) < 6 + 3 * frame[5] or not scan:
        raise Unusable("a damaged JPEG file: its header makes no sense")
    bits, n_channels = frame[0], frame[5]
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    if bits != 8 or n_channels not in _MODES:
        raise Unusable(f"a JPEG file with {n_channels} channels of {bits} bits, which cannot be read")
    if not height or not width:
        raise Unusable("a JPEG file without height or width")
    factors = [(frame[i] >> 4, frame[i] & 15) for i in range(7, 7 + 3 * n_channels, 3)]
    largest = max(h for h, _ in factors) * max(v for _, v in factors)
    if not all(1 <= h <= 4 and 1 <= v <= 4 for h, v in factors):
        raise Unusable("a damaged JPEG file: its header makes no sense")
    return Header(
        width=width,
        height=height,
        mode=_MODES[n_channels],
        orientation=_orientation(exif, xmp),
        taken=time_taken(exif),
        samples=sum(h * v for h, v in factors) / largest,
        buffered=progressive or scan[0] < n_channels,
    )


def _orientation(exif: bytes, xmp: bytes) -> int:
    """EXIF's orientation, else XMP's, as Pillow's `exif_transpose` takes it."""
    value = exif_orientation(exif)
    if value is None and (match := re.search(rb'tiff:Orientation(="|>)([0-9])', xmp)):
        value = int(match[2])
    return valid_orientation(value)


def exif_orientation(exif: bytes) -> int | None:
    """The orientation in EXIF data, None where there is none.

    Pillow would read all tags, and of a hostile file the same megabytes for each of 65,535.
    """
    if exif[:4] not in (b"II*\0", b"MM\0*"):
        return None
    order: Literal["little", "big"] = "little" if exif.startswith(b"II") else "big"
    start = int.from_bytes(exif[4:8], order)
    end = start + 2 + 12 * int.from_bytes(exif[start : start + 2], order)
    value = None
    for at in range(start + 2, min(end, len(exif) - 11), 12):
        tag, kind = (int.from_bytes(exif[i : i + 2], order) for i in (at, at + 2))
        if tag == ORIENTATION and kind in _SIZES and int.from_bytes(exif[at + 4 : at + 8], order) == 1:
            value = int.from_bytes(exif[at + 8 : at + 8 + _SIZES[kind]], order)
    return value


def valid_orientation(value: object) -> int:
    """A value read from a file, or 1 (upright) where it is none of 1 to 8."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def read_pixels(data: bytes, header: Header, factor: int = 1) -> Pixels:
    """Decode to RGB, uint8 height × width × 3, as stored (not yet upright), at 1/1, 1/2, 1/4 or 1/8 of the size.

    Raises:
        Unusable: data are missing or damaged.
        Exception: whatever Pillow says of an odd file.
    """
    blocks = header.width * header.height // 64
    if len(data) * 8 < blocks:  # even an empty picture takes a bit a block: do not fill gigapixels with nothing
        raise Unusable(TRUNCATED)
    if header.buffered:
        n_scans, limit = data.count(b"\xff\xda"), min(_MAX_SCANS, _MAX_SCANNED // (header.width * header.height))
        if n_scans > limit:
            raise Unusable(f"a JPEG file of {n_scans:,} scans: more than the limit of {limit} at its size")
    height, width = -(-header.height // factor), -(-header.width // factor)
    if header.mode != "CMYK":
        try:
            pixels = simplejpeg.decode_jpeg(
                data, "RGB", min_height=height, min_width=width, min_factor=factor, strict=True
            )
            return np.asarray(pixels, np.uint8)
        except ValueError as error:
            # Warnings count as errors here. Some are harmless (bytes too many between two segments), and the first
            # can hide a worse one: Pillow, which does not stop at warnings but does at missing data, decides.
            if "premature end" in str(error).lower():
                raise Unusable(TRUNCATED) from error
            if "huffman" in str(error).lower():
                raise Unusable("the picture's data are damaged") from error
    with Image.open(BytesIO(data), formats=["JPEG"]) as image:
        image.draft(image.mode, (max(1, header.width // factor), max(1, header.height // factor)))
        return to_rgb(image, 1, (255, 255, 255))
