"""Names that are one though they are spelled in two ways: é is one character, or an e and an accent (macOS)."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def composed(name: str) -> str:
    """The name under NFC: names are compared so, and kept as they are spelled."""
    return unicodedata.normalize("NFC", name)


def one_spelling(names: Iterable[str]) -> dict[str, str]:
    """Name → its one spelling: its own, or the composed one where the names hold several spellings of it."""
    spellings: dict[str, set[str]] = {}
    for name in names:
        spellings.setdefault(composed(name), set()).add(name)
    return {name: key if len(same) > 1 else name for key, same in spellings.items() for name in same}
