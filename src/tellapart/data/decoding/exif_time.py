"""The time at which a photograph was taken, by EXIF. Pillow would read all tags, which a hostile file abuses."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Literal

Order = Literal["little", "big"]
_EXIF_IFD, _DATE_TIME_ORIGINAL, _SUBSEC_TIME_ORIGINAL = 0x8769, 0x9003, 0x9291
_MAX_TAGS = 1_000
#: Where ImageMagick, and whatever converts with it, keeps EXIF in a PNG: as text, beside the chunk for it.
EXIF_PROFILE = "Raw profile type exif"
_MAX_PROFILE = 200_000  # letters, two a byte


def time_taken(exif: bytes) -> float:
    """Seconds since 1970, in the camera's own time; NaN where EXIF does not say.

    Args:
        exif: the data, with or without "Exif" before them; empty where there are none.
    """
    data = exif.removeprefix(b"Exif\0\0")
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return math.nan
    order: Order = "little" if data.startswith(b"II") else "big"
    pointer = _entry(data, _number(data, 4, order), _EXIF_IFD, order)
    if pointer is None:
        return math.nan
    tags = _number(data, pointer + 8, order)
    try:
        moment = datetime.strptime(_text(data, tags, _DATE_TIME_ORIGINAL, order), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return math.nan
    fraction = _text(data, tags, _SUBSEC_TIME_ORIGINAL, order)[:6]
    more = float(f"0.{fraction}") if fraction.isascii() and fraction.isdigit() else 0.0
    return moment.replace(tzinfo=UTC).timestamp() + more


def time_of_profile(text: str) -> float:
    """As `time_taken`, from a raw profile: a blank line, the profile's name and length, then lines of hexadecimals."""
    try:
        return time_taken(bytes.fromhex("".join(text[:_MAX_PROFILE].split("\n")[3:])))
    except ValueError:
        return math.nan


def _number(data: bytes, at: int, order: Order) -> int:
    return int.from_bytes(data[at : at + 4], order)


def _entry(data: bytes, start: int, tag: int, order: Order) -> int | None:
    """Where the entry of a tag stands in a directory of tags."""
    n = min(_MAX_TAGS, int.from_bytes(data[start : start + 2], order))
    for at in range(start + 2, min(start + 2 + 12 * n, len(data) - 11), 12):
        if int.from_bytes(data[at : at + 2], order) == tag:
            return at
    return None


def _text(data: bytes, start: int, tag: int, order: Order) -> str:
    """The text of a tag, "" where there is none."""
    at = _entry(data, start, tag, order)
    if at is None:
        return ""
    n = _number(data, at + 4, order)
    begin = at + 8 if n <= 4 else _number(data, at + 8, order)
    return data[begin : begin + min(n, 32)].decode("ascii", "replace").strip("\0 ")
