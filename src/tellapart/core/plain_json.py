"""Reads JSON that may come from anybody: bounded, and every fault is a `ValueError`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

MOST = 64 << 20  # bytes of a file
MOST_DIGITS = 100  # of a whole number; a float takes 308


def parse_json(text: bytes | str) -> Any:
    """Plain values from JSON.

    Raises:
        ValueError: it is not JSON, nested deeper than can be read, or holds a number that no float can take.
    """
    try:
        return json.loads(text, parse_int=_integer)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"it holds a number of {len(digits):,} digits")
    return int(digits)


def read_json_file(path: Path) -> Any:
    """Plain values from a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: as `parse_json`, or the file is larger than `MOST`.
    """
    with path.open("rb") as file:
        content = file.read(MOST + 1)
    if len(content) > MOST:
        raise ValueError(f"it is larger than {MOST >> 20} MiB")
    return parse_json(content)


def first_fault(error: ValidationError) -> str:
    """The first of the faults of a schema: where, and what is wrong, on one line."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return ": ".join(filter(None, (".".join(map(str, fault["loc"])), fault["msg"]))).partition("\n")[0]
