"""Fonts for figures and captions: matplotlib's own, and of other scripts those that are installed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

#: Fonts with letters that matplotlib's own lacks; used where they are installed.
OTHER_LETTERS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
)


@cache
def installed_fonts() -> dict[str, Path]:
    """Name and file of each font, in the order in which they are tried for a letter."""
    import matplotlib
    from matplotlib.font_manager import fontManager

    own = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    files = {entry.name: Path(entry.fname) for entry in reversed(fontManager.ttflist)}
    return {"DejaVu Sans": own} | {name: files[name] for name in OTHER_LETTERS if name in files}


@cache
def letters_of(font: Path) -> frozenset[int]:
    """Code points of the letters that a font has."""
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(font)).get_charmap())


def font_for(text: str) -> tuple[Path, str]:
    """The first font that has all letters of a text, and the text.

    Where none has them, it is matplotlib's own, and letters that it lacks are escapes, as in Python.
    """
    fonts = list(installed_fonts().values())
    for font in fonts:
        if letters_of(font) >= set(map(ord, text)):
            return font, text
    own = letters_of(fonts[0])
    return fonts[0], "".join(c if ord(c) in own else c.encode("unicode_escape").decode() for c in text)
