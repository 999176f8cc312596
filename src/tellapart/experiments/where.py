"""Conditions on runs, such as `score > 0.9 and model = "vgg16"`: a small language of its own, never Python's."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tellapart.errors import UsageError

_LONGEST, _DEEPEST = 1_000, 50
_TOKEN = re.compile(
    r"\s*(?:(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|(?P<text>\"[^\"]*\"|'[^']*')"
    r"|(?P<operator><=|>=|!=|==|=|<|>|~)|(?P<bracket>[()])|(?P<word>[\w.\-/]+))"
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
}
Row = Mapping[str, Any]
Condition = Callable[[Row], bool]
_HINT = "For example: --where 'score > 0.9 and kind = run'; operators: < <= > >= = != ~ (contains), and, or, not, ( )."


def parse_where(text: str, names: list[str]) -> Condition:
    """Read a condition.

    Args:
        text: comparisons of a column with a number or text, joined by and, or, not and brackets. A missing value
            meets no comparison but !=.
        names: the columns.

    Raises:
        UsageError: it cannot be read, or names no column; with the place.
    """
    if len(text) > _LONGEST:
        raise UsageError(f"--where has more than {_LONGEST} signs.", _HINT)
    parser = _Parser(_tokens(text), names, text)
    condition = parser.either()
    if parser.left:
        raise UsageError(f"--where {text}: '{parser.left[0].text}' is not expected there.", _HINT)
    return condition


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


def _tokens(text: str) -> list[_Token]:
    tokens, position = [], 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if not match or not match.lastgroup:
            raise UsageError(f"--where {text}: '{text[position:].strip()[:20]}' cannot be read.", _HINT)
        tokens.append(_Token(match.lastgroup, match[match.lastgroup]))
        position = match.end()
    return tokens


@dataclass
class _Parser:
    """Recursive descent: either (or) → both (and) → one (not, brackets, comparison)."""

    left: list[_Token]
    names: list[str]
    text: str
    depth: int = 0

    def either(self) -> Condition:
        """Conditions joined by or."""
        parts = [self.both()]
        while self._word("or"):
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else lambda row: any(part(row) for part in parts)

    def both(self) -> Condition:
        """Conditions joined by and."""
        parts = [self.one()]
        while self._word("and"):
            parts.append(self.one())
        return parts[0] if len(parts) == 1 else lambda row: all(part(row) for part in parts)

    def one(self) -> Condition:
        """A comparison, or a condition in brackets, or one that must not hold."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise UsageError(f"--where: more than {_DEEPEST} conditions in one another.", _HINT)
        try:
            if self._word("not"):
                inner = self.one()
                return lambda row: not inner(row)
            if self.left and self.left[0] == _Token("bracket", "("):
                self.left.pop(0)
                inner = self.either()
                if self._take("bracket").text != ")":
                    raise UsageError(f"--where {self.text}: a bracket is not closed.", _HINT)
                return inner
            return self._comparison()
        finally:
            self.depth -= 1

    def _comparison(self) -> Condition:
        name = self._take("word").text
        if name not in self.names:
            raise UsageError(f"--where {self.text}: there is no column '{name}'.", f"Columns: {', '.join(self.names)}.")
        sign = self._take("operator").text
        token = self._take("number", "text", "word")
        value: Any = float(token.text) if token.kind == "number" else token.text.strip("\"'")
        return lambda row: _holds(row.get(name), sign, value)

    def _word(self, word: str) -> bool:
        if self.left and self.left[0] == _Token("word", word):
            self.left.pop(0)
            return True
        return False

    def _take(self, *kinds: str) -> _Token:
        if not self.left or self.left[0].kind not in kinds:
            after = f"'{self.left[0].text}'" if self.left else "the end"
            raise UsageError(f"--where {self.text}: {after} is not expected there.", _HINT)
        return self.left.pop(0)


def _holds(own: Any, sign: str, value: Any) -> bool:
    if own is None:
        return sign == "!="
    if sign == "~":
        return str(value).casefold() in str(own).casefold()
    if isinstance(own, bool | str) or isinstance(value, str):
        own = str(own).lower() if isinstance(own, bool) else str(own)
        value = f"{value:g}" if isinstance(value, float) else value
    return _COMPARE[sign](own, value)
