"""A row of an answer: its columns and cells, the same in all formats."""

from __future__ import annotations

import re
from itertools import chain
from typing import Any

from tellapart.core.files import guarded
from tellapart.deploy.answer import Answer

_DECIMALS = 6
OPTIONAL_COLUMNS = ("candidates", "ood_score", "unknown")


def columns(top: int, optional: tuple[str, ...] = ()) -> list[str]:
    """Names of the columns for `top` labels a row, and further ones."""
    others = chain.from_iterable((f"label_{i}", f"certainty_{i}") for i in range(2, top + 1))
    return ["path", "label", "certainty", *others, "problem", *optional]


def row_of(answer: Answer, top: int, optional: tuple[str, ...] = ()) -> list[Any]:
    """The cells of `columns`; None where there is nothing to say."""
    added = [_optional_cell(answer, name) for name in optional]
    if answer.problem is not None:
        return [clean(answer.path), *[None] * (2 * top), answer.problem, *added]
    others = [pair for pair in answer.labels if pair[0] not in answer.chosen][: top - 1]
    cells: list[Any] = [clean(answer.path), clean(answer.label), round(answer.certainty, _DECIMALS)]
    for name, probability in others:
        cells += [clean(name), round(probability, _DECIMALS)]
    return [*cells, *[None] * (2 * top + 1 - len(cells)), None, *added]


def _optional_cell(answer: Answer, name: str) -> str | float | list[str] | None:
    """The cell of one of the `OPTIONAL_COLUMNS` columns."""
    if name == "candidates":
        return [clean(candidate) for candidate in answer.candidates] or None
    if name == "ood_score":
        return None if answer.ood_score is None else round(answer.ood_score, _DECIMALS)
    return answer.unknown


def joined(cells: list[Any]) -> list[Any]:
    """Cells for formats that know no lists."""
    return [" or ".join(cell) if isinstance(cell, list) else cell for cell in cells]


def clean(text: str) -> str:
    """A text that can be written as UTF-8: bytes of a file name that are none become escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


# Semicolon and tab too: in many countries they, not commas, part the cells for a spreadsheet.
_QUOTED = re.compile(r"[\",;\t\r\n]|^\s|\s$")


def csv_cell(value: str | float | None) -> str:
    """One cell of a CSV file (RFC 4180, UTF-8, lines end with a line feed).

    A text that a spreadsheet would run as a formula (its first sign that is not a blank is = + - @, or it begins
    with a tab or line break) gets a single quote in front. Numbers stay.
    """
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value)
    text = guarded(value)
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text
