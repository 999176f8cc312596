"""Text for people: numbers and lists in sentences, and names that cannot steer whatever shows them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any

_NONCHARACTERS = "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(17))
#: What steers a terminal or the direction of a text, is invisible, or is no character at all: control characters, soft
#: hyphen, direction marks and overrides, line and paragraph separators, byte-order mark, tags, lone surrogates. The
#: joiners U+200C and U+200D are left: Persian, Hindi and emoji are written with them.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufdd0-\ufdef\ufeff\ufff9-\ufffb"
    f"\ud800-\udfff\U000e0000-\U000e0fff{_NONCHARACTERS}]"
)


class Lines(str):
    """A text of several lines that is clean already; see `as_lines`."""

    __slots__ = ()


def visible(text: str) -> str:
    r"""The one function that cleans a text for people: whatever steers what shows it becomes an escape, as `\x1b`.

    Line breaks become escapes too, so that a name stays on its line; only those of `Lines` are left.
    """
    return text if isinstance(text, Lines) else _UNSAFE.sub(_escape, text)


def as_lines(texts: Iterable[str]) -> Lines:
    """Join texts to lines, each of them cleaned: `visible`."""
    return Lines("\n".join(map(visible, texts)))


def without_controls(text: str) -> str:
    """As `visible`, but line breaks and tabs stay: of a text whose lines are not known one by one."""
    return _UNSAFE.sub(lambda match: match[0] if match[0] in "\n\t" else _escape(match), text)


def json_text(value: Any, *, ascii: bool = True) -> str:
    """A value as one line of JSON, in which whatever steers a terminal is escaped; nothing is lost by it.

    JSON has no numbers that are not finite: they become null.
    """
    return _UNSAFE.sub(_json_escape, json.dumps(_finite(value), ensure_ascii=ascii, allow_nan=False))


def json_in_html(value: Any) -> str:
    """JSON that can stand inside <script>: no "<", ">", "&" and nothing outside ASCII, all escaped."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def counted(n: int, noun: str, plural: str = "") -> str:
    """A number and what it counts: "1 picture", "3,607 pictures"; `plural` where English forms it otherwise."""
    regular = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{n:,} {noun if n == 1 else plural or regular}"


def percent(share: float, decimals: int = 1, signed: bool = False) -> str:
    """0.924 → "92.4 %", with a space that does not break; "–" where it is not known. The one way to write a share."""
    if not math.isfinite(share):
        return "–"
    return f"{100 * share:{'+' if signed else ''}.{decimals}f}\u202f%"


def lr_text(lr: float) -> str:
    """A learning rate as recipes, `--set` and JSON write it, rounded to three digits: "0.0028", "2.8e-05"."""
    return repr(float(f"{lr:.3g}"))


def first_few(names: Iterable[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def _json_escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))
