"""Findings on single pictures: blank, dark, blurred, tiny, grey, or of an odd size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import polars as pl

from tellapart.auditing.findings import Finding
from tellapart.core.text import percent
from tellapart.data.catalog import Catalog
from tellapart.data.statistics import Measured

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

_BLANK_CONTRAST, _BLANK_RANGE = 2.5, 8.0
_DARK = 40.0
#: `statistics.sharpness` below which no detail is left: a picture of 128 pixels blurred by two of them comes to 0.3.
BLURRED = 0.4
_GREY = 10.0
_FEW_GREY = 0.2
#: Share of the pictures that makes their size the usual one.
_USUAL = 0.8
_EXCEPTIONS = 0.05
_SUFFIXES = {
    "JPEG": ("jpg", "jpeg", "jpe", "jfif", "mpo"),
    "PNG": ("png", "apng"),
    "GIF": ("gif",),
    "WEBP": ("webp",),
    "BMP": ("bmp", "dib"),
    "DIB": ("bmp", "dib"),
    "TIFF": ("tif", "tiff"),
    "JPEG2000": ("jp2", "jpf", "jpx", "j2k"),
    "PSD": ("psd",),
    "ICO": ("ico",),
    "PPM": ("ppm", "pgm", "pbm", "pnm"),
    "AVIF": ("avif",),
}


def picture_findings(catalog: Catalog, measured: Measured) -> list[Finding]:
    """Everything odd about single pictures."""
    unreadable = catalog.table.with_row_index("row").filter(pl.col("problem").is_not_null())
    findings = [Finding("unreadable", problem, row) for row, problem in unreadable.select("row", "problem").iter_rows()]
    rows = catalog.readable
    if not len(rows):
        return findings
    table, measured = catalog.table[rows], measured.take(rows)
    return [
        *findings,
        *_content(rows, measured),
        *_files(rows, table, measured),
        *_sizes(rows, table),
    ]


def _content(rows: Ints, measured: Measured) -> Iterator[Finding]:
    blank = (measured.contrast < _BLANK_CONTRAST) & (measured.light - measured.dark < _BLANK_RANGE)
    for i in np.flatnonzero(blank):
        yield Finding("blank", "one colour all over", int(rows[i]))
    for i in np.flatnonzero((measured.light < _DARK) & ~blank):
        yield Finding("dark", f"95 % of it below {measured.light[i]:.0f} of 255", int(rows[i]))
    for i in np.flatnonzero((measured.sharpness < BLURRED) & ~blank & (measured.light >= _DARK)):
        yield Finding("blurred", f"sharpness {measured.sharpness[i]:.2f}", int(rows[i]))
    grey = (measured.colourfulness < _GREY) & ~blank
    if grey.sum() < _FEW_GREY * len(rows):
        for i in np.flatnonzero(grey):
            yield Finding("greyscale", "no colour", int(rows[i]))


def _files(rows: Ints, table: pl.DataFrame, measured: Measured) -> Iterator[Finding]:
    suffixes = table["path"].str.extract(r"\.([^./]*)$").str.to_lowercase().fill_null("")
    facts = zip(rows.tolist(), suffixes, table["format"], table["orientation"], measured.frames.tolist(), strict=True)
    for row, suffix, kind, orientation, frames in facts:
        if kind in _SUFFIXES and suffix not in _SUFFIXES[kind]:
            yield Finding("wrong-extension", f"a {kind} file", row)
        if frames:
            yield Finding("animated", f"a {kind} file of several frames", row)
        if (orientation or 1) > 1:
            yield Finding("rotated", f"EXIF orientation {orientation}", row)


def _sizes(rows: Ints, table: pl.DataFrame) -> Iterator[Finding]:
    width, height = (table[side].to_numpy().astype(np.float64) for side in ("width", "height"))
    short = np.minimum(width, height)
    tiny = short < min(32, np.median(short) / 2)
    for i in np.flatnonzero(tiny):
        yield Finding("tiny", _size(width[i], height[i]), int(rows[i]))
    sizes = table.group_by("width", "height").len().sort("len", "width", "height", descending=True)
    usual = sizes.row(0, named=True)
    if usual["len"] >= _USUAL * len(rows):
        odd = (width != usual["width"]) | (height != usual["height"])
        beside = f"where {percent(usual['len'] / len(rows), 0)} are {_size(usual['width'], usual['height'])}"
    else:
        odd = _few(far_out(np.log(width * height), np.log(4)) & ~tiny)
        beside = f"where half have more than {np.median(width * height):,.0f} pixels"
    for i in np.flatnonzero(odd):
        yield Finding("odd-size", f"{_size(width[i], height[i])}, {beside}", int(rows[i]))
    shape = np.log(width / height)
    for i in np.flatnonzero(_few(far_out(shape, np.log(2)))):
        yield Finding("odd-shape", f"{_size(width[i], height[i])}: {_ratio(float(shape[i]))}", int(rows[i]))


def far_out(values: Values, least: float) -> npt.NDArray[np.bool_]:
    """Which values lie further from the median than `least` and than five robust deviations (1.4826 × MAD)."""
    off = np.abs(values - np.median(values))
    return off > max(least, 5 * 1.4826 * float(np.median(off)))


def _few(odd: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """None of them where they are many: then the set is mixed, and they are no exceptions."""
    return odd if odd.mean() <= _EXCEPTIONS else np.zeros_like(odd)


def _size(width: float, height: float) -> str:
    return f"{width:.0f} × {height:.0f}"


def _ratio(shape: float) -> str:
    return f"{np.exp(abs(shape)):.1f} times as {'wide as high' if shape > 0 else 'high as wide'}"
