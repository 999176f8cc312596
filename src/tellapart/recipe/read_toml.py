"""TOML within bounds: bytes, keys, depth and numbers are limited before and after the parser sees the text."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from tellapart.errors import RecipeError

#: Bytes of a recipe. Those that Tellapart writes have some thousands.
MAX_BYTES = 500_000
MAX_DEPTH = 20
_MAX_VALUES = 20_000
_MAX_DOTS = 1_000  # on a line: the parser's time grows with the square of a key's parts
_LARGE = 2**64
_OPEN, _CLOSE = "[{", "]}"
_DIGITS = {"0x": "0123456789abcdef", "0o": "01234567", "0b": "01"}  # by what a number begins with


def read_text(path: Path) -> str:
    """The text of a file, without the byte-order mark that some editors put first.

    Raises:
        RecipeError: it cannot be read, is not UTF-8, or is longer than any recipe.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise RecipeError(f"{path} has more than {MAX_BYTES // 1000} kB.", "A recipe is a short text file in TOML.")
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read: {error}", "A recipe is a text file in UTF-8.") from error


def parse(text: str, name: str) -> dict[str, Any]:
    """The values in a text.

    Args:
        text: TOML.
        name: of the file or change it stands in, for messages.

    Raises:
        RecipeError: not TOML, or more than a recipe can have, with the line.
        tomllib.TOMLDecodeError: not TOML.
    """
    number = next((i for i, line in enumerate(text.split("\n"), 1) if line.count(".") > _MAX_DOTS), None)
    if number is not None:
        raise RecipeError(f"{name}, line {number}: a key of more than {MAX_DEPTH} parts.", _HINT)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise _too_deep(text, name) from None
    except ValueError:  # Python reads no numbers of thousands of digits
        raise _too_large(text, name) from None
    _check(values, text, name)
    return values


_HINT = "tellapart recipes show NAME prints examples."


def _check(values: dict[str, Any], text: str, name: str) -> None:
    """Refuse values too deep, too many or too large. Without recursion, as the depth is not known yet."""
    level: list[Any] = [values]
    n_values = 0
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += value.values()
            elif isinstance(value, list):
                below += value
            elif isinstance(value, int) and not -_LARGE < value < _LARGE:
                raise _too_large(text, name)
        n_values += len(below)
        if n_values > _MAX_VALUES:
            raise RecipeError(f"{name}: more than {_MAX_VALUES:,} values.", _HINT)
        level = below
        if not level:
            return
    raise _too_deep(text, name)


def _too_large(text: str, name: str) -> RecipeError:
    lines = text.split("\n")
    numbers = (i for i, line in enumerate(lines, 1) if any(_is_large(word) for word in re.findall(r"\w+", line)))
    return RecipeError(f"{_at(name, next(numbers, None))}: a number of more than 64 bits.", _HINT)


def _is_large(word: str) -> bool:
    digits = word.replace("_", "").lower()
    if allowed := _DIGITS.get(digits[:2]):
        return len(digits) > 18 and not digits[2:].strip(allowed) and int(digits, 0) >= _LARGE
    return digits.isdecimal() and (len(digits) > 20 or int(digits) >= _LARGE)


def _too_deep(text: str, name: str) -> RecipeError:
    """The error, with the first line that goes too deep: brackets are counted, within texts too."""
    depth = 0
    for number, line in enumerate(text.split("\n"), start=1):
        key_parts = line.partition("=")[0].count(".")
        depth += sum(line.count(bracket) for bracket in _OPEN)
        if max(depth, key_parts) > MAX_DEPTH:
            return RecipeError(f"{_at(name, number)}: tables or lists in more than {MAX_DEPTH} others.", _HINT)
        depth = max(0, depth - sum(line.count(bracket) for bracket in _CLOSE))
    return RecipeError(f"{name}: tables or lists in more than {MAX_DEPTH} others.", _HINT)


def _at(name: str, number: int | None) -> str:
    return name if number is None else f"{name}, line {number}"
