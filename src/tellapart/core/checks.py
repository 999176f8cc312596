"""Checks of plain values from files that may come from anybody: small functions that are put together to a schema.

A check takes a value and gives it back, brought to its type, or raises a ValueError that says where and what is wrong.
There are libraries for this. They take as long to load as all else that an answer needs, and these values are few.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

Check = Callable[[Any], Any]
#: For `record`: the key may be missing, and this function then makes its value.
Default = Callable[[], Any]


def number(least: float, most: float) -> Check:
    """A number within bounds, as a float; neither a bool nor a text."""

    def check(value: Any) -> float:
        if type(value) not in (int, float) or not least <= value <= most or not math.isfinite(value):
            raise ValueError(f"a number from {least:g} to {most:g} is needed here")
        return float(value)

    return check


def integer(least: int, most: int) -> Check:
    """An integer within bounds."""

    def check(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"an integer from {least:,} to {most:,} is needed here")
        return value

    return check


def boolean(value: Any) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise ValueError("true or false is needed here")
    return value


def text(most: int = 10_000) -> Check:
    """A text of so many characters at most."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or len(value) > most:
            raise ValueError(f"a text of at most {most:,} characters is needed here")
        return value

    return check


def one_of(*names: str) -> Check:
    """One of these texts."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise ValueError(f"{', '.join(map(repr, names[:-1]))} or {names[-1]!r} is needed here")
        return value

    return check


def plain(value: Any) -> dict[Any, Any]:
    """An object of any content."""
    if not isinstance(value, dict):
        raise ValueError("an object is needed here")
    return value


def listed(check: Check, lengths: Collection[int] = range(1_000_000_001)) -> Check:
    """A list of values that each pass a check; its length is one of these."""

    def check_all(value: Any) -> list[Any]:
        if not isinstance(value, (list, tuple)) or len(value) not in lengths:
            raise ValueError("a list is needed here, or one of another length")
        return [_at(number, check, item) for number, item in enumerate(value)]

    return check_all


def either(*checks: Check) -> Check:
    """A value that passes one of these checks."""

    def check(value: Any) -> Any:
        problems = []
        for one in checks:
            try:
                return one(value)
            except ValueError as error:
                problems.append(str(error))
        raise ValueError("; or ".join(problems))

    return check


def none_or(check: Check) -> Check:
    """None, or a value that passes the check."""
    return lambda value: None if value is None else check(value)


def by_key(key: Check, check: Check) -> Check:
    """An object whose keys pass one check and its values another."""

    def check_all(value: Any) -> dict[Any, Any]:
        return {key(name): _at(name, check, inner) for name, inner in plain(value).items()}

    return check_all


def record(fields: Mapping[str, Check | tuple[Check, Default]], others: bool = True) -> Callable[[Any], dict[str, Any]]:
    """An object with these keys; a check with a default may lack. The result holds these keys alone.

    Args:
        fields: key → check, or check and default.
        others: whether other keys are allowed.
    """

    def check(value: Any) -> dict[str, Any]:
        values = plain(value)
        if not others and (more := [key for key in values if key not in fields]):
            raise ValueError(f"{more[0]}: there is no such key")
        result = {}
        for key, own in fields.items():
            one, default = own if isinstance(own, tuple) else (own, None)
            if key in values:
                result[key] = _at(key, one, values[key])
            elif default is None:
                raise ValueError(f"{key}: it is missing")
            else:
                result[key] = default()
        return result

    return check


def _at(place: object, check: Check, value: Any) -> Any:
    try:
        return check(value)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
