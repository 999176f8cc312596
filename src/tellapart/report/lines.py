"""The curves of a chart, and the same in words and as a table, for those who do not see it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tellapart.report.blocks import Cell, Table

#: The most rows of a chart's table; of more points, some evenly spread.
_MOST_ROWS = 100


@dataclass(frozen=True)
class Line:
    """A curve. Points that are not finite break it.

    Attributes:
        name: shown with its values.
        x, y: the points.
        quiet: thin and grey; with a hue, dashed.
        hue: one of the style sheet's six colours; 0: the page's own.
        end: text at its right end; by default the name.
        low, high: limits of a band around it, for each point; none by default.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    quiet: bool = False
    hue: int = 0
    end: str | None = None
    low: Sequence[float] = ()
    high: Sequence[float] = ()

    @property
    def look(self) -> str:
        """Its CSS classes."""
        look = "quiet" if self.quiet else "loud"
        return f"{look} hue-{self.hue}" if self.hue else look

    @property
    def at_end(self) -> str:
        return self.name if self.end is None else self.end


def digits(value: float) -> str:
    """Four significant digits, without needless zeros."""
    return f"{value:.4g}".replace("e-0", "e-")


def in_words(lines: Sequence[Line], x_title: str, form: Callable[[float], str] = digits) -> str:
    """First, lowest, highest and last value of each curve."""
    return " ".join(filter(None, (_one_in_words(line, x_title, form) for line in lines)))


def _one_in_words(line: Line, x_title: str, form: Callable[[float], str]) -> str:
    points = [(x, y) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(x + y)]
    if not points:
        return ""
    name = f"{line.name}: " if line.name else ""
    if len(points) == 1:
        return f"{name}{form(points[0][1])} at {x_title} {digits(points[0][0])}."
    low, high = min(points, key=lambda p: p[1]), max(points, key=lambda p: p[1])
    named = (("first", points[0]), ("lowest", low), ("highest", high), ("last", points[-1]))
    return f"{name}{', '.join(f'{word} {form(y)} at {x_title} {digits(x)}' for word, (x, y) in named)}."


def values_table(lines: Sequence[Line], x_title: str, form: Callable[[float], str] = digits) -> Table:
    """The values of the curves, one row a place on the x axis."""
    at = sorted({x for line in lines for x, y in zip(line.x, line.y, strict=True) if math.isfinite(x + y)})
    every = max(1, math.ceil(len(at) / _MOST_ROWS))
    columns = [dict(zip(line.x, line.y, strict=True)) for line in lines]
    rows = [[Cell(digits(x), x), *(_value(column.get(x, math.nan), form) for column in columns)] for x in at[::every]]
    caption = f"One of every {every} points." if every > 1 else ""
    return Table([x_title, *(line.name or "value" for line in lines)], rows, caption)


def _value(value: float, form: Callable[[float], str]) -> Cell:
    return Cell(form(value) if math.isfinite(value) else "–", value)
