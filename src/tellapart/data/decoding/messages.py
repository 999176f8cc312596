"""Reasons why a file cannot be read as a picture, in words for people."""

from __future__ import annotations

import re

from PIL import Image, UnidentifiedImageError

TRUNCATED = "the file ends too early: it is truncated"


class Unusable(Exception):
    """A picture that cannot be read; the argument is the plain reason."""


# What a file starts with, and what it is. Most telling first.
_STARTS: list[tuple[bytes, str]] = [
    (rb"\s*(<!doctype html|<html|<head|<body)", "not a picture: it starts like a web page (HTML)"),
    (rb"(?s).{0,200}<svg", "an SVG drawing, which cannot be read: save it as PNG"),
    (rb"\s*<\?xml", "not a picture: it starts like XML"),
    (rb"version https://git-lfs", "a Git LFS pointer: the picture itself was not fetched (git lfs pull)"),
    (rb"%PDF", "a PDF document, which cannot be read: save its pictures as PNG or JPEG"),
    (rb"(?s)....ftyp(hei|hev|mif|msf)", "a HEIC picture, which cannot be read: save it as JPEG or PNG"),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "a JPEG XL picture, which cannot be read: save it as JPEG or PNG"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "an EPS drawing, which cannot be read: save it as PNG"),
    (rb"\0\0\x01\0", "a damaged icon (ICO): it cannot be opened"),
    (rb"PK\x03\x04", "not a picture: it starts like a ZIP archive"),
    (rb"\xff\xd8", "a damaged JPEG file: it cannot be opened"),
    (rb"\x89PNG", "a damaged PNG file: it cannot be opened"),
    (rb"GIF8", "a damaged GIF file: it cannot be opened"),
    (rb"II\*\0|MM\0\*|II\+\0|MM\0\+", "a damaged TIFF file, or one of camera data, which cannot be read"),
    (rb"(?s)RIFF....WEBP", "a damaged WebP file: it cannot be opened"),
    (rb"(?s)....ftypavi", "a damaged AVIF file: it cannot be opened"),
    (rb"8BPS", "a damaged PSD file: it cannot be opened"),
    (rb"BM", "a damaged BMP file: it cannot be opened"),
    (rb"\0{16}", "not a picture: it starts with zeros, as a file does that was never fully written"),
    (rb"[\t\n\r -~\x80-\xff]{8,}\Z", "not a picture: it starts like text"),
]


def of_content(start: bytes) -> str:
    """The reason why a file is no picture that can be opened, from its first few hundred bytes."""
    if not start:
        return "the file is empty"
    return next(
        (reason for pattern, reason in _STARTS if re.match(pattern, start, re.IGNORECASE)),
        "not a picture of a kind that can be read",
    )


def of_size(width: int, height: int, limit: int) -> str:
    """For a picture with too many pixels."""
    return f"{width:,} × {height:,} pixels: more than the limit of {limit / 1e6:,.0f} million"


def of_error(error: Exception, start: bytes) -> str:
    """The reason behind an exception of Pillow or of the operating system."""
    text = str(error)
    if isinstance(error, Unusable):
        return text
    if isinstance(error, UnidentifiedImageError):
        return of_content(start)
    if isinstance(error, MemoryError):
        return "reading it takes more memory than there is"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        n_pixels = re.search(r"\d+", text)
        return f"{int(n_pixels[0]):,} pixels: more than any limit" if n_pixels else "more pixels than any limit"
    if "Plugin.MAX_TEXT" in text:
        return "a text inside the file unpacks to more than is allowed, as in a decompression bomb"
    if isinstance(error, EOFError) or re.search(r"truncated|premature end|unexpected end|not enough data", text, re.I):
        return TRUNCATED
    return f"the picture's data are damaged ({_plain(text)})" if text else "the picture's data are damaged"


def of_system(error: OSError) -> str:
    """The reason why the operating system cannot open a file."""
    if isinstance(error, FileNotFoundError):
        return "the file does not exist, or is a link to one that does not"
    if isinstance(error, PermissionError):
        return "the file may not be read: permission denied"
    return f"the file cannot be read: {error.strerror or error}"


def _plain(text: str) -> str:
    """An exception's text without addresses and paths, on one short line."""
    line = " ".join(re.sub(r"<[^>]*>|'[^']*/[^']*'", "", text).split())
    return line[:80]
