"""Charts as SVG text that stands in the page.

Colours and fonts come from the page's style sheet, so that they follow light and dark; sizes are chosen to be read at
half the page's width and on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

from tellapart.report.formatting import visible
from tellapart.report.lines import Line, digits, in_words

WIDTH, HEIGHT = 420, 280
_TOP, _RIGHT, _BOTTOM, _LEFT = 38, 84, 44, 52
_CHAR = 6.4  # width of a letter at the charts' font size, about


@dataclass(frozen=True)
class Axis:
    """A scale that maps `low`..`high` to `start`..`end` (drawing units), with ticks at round numbers."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    log: bool = False

    def position(self, value: float) -> float:
        """Drawing units of a value; one above the axis stands at its upper end."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log10(max(value, low)), math.log10(low), math.log10(high)
        share = min((value - low) / (high - low), 1.0)
        return self.start + share * (self.end - self.start)


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_title: str,
    form: Callable[[float], str] | None = None,
    log: bool = False,
    log_x: bool = False,
    whole_x: bool = False,
    y_limits: tuple[float, float] = (-math.inf, math.inf),
    spans: Sequence[tuple[str, float, float]] = (),
    best: tuple[float, float, str] | None = None,
    points: bool = True,
    y_include: Sequence[float] = (),
    y_top: float = math.inf,
) -> Markup:
    """Curves over one axis, named at their right ends.

    Args:
        lines: at least one finite point in all.
        title: text for screen readers.
        form: y value → text at the axis and in the values shown on hover; by default as few digits as needed.
        log, log_x: logarithmic axis; values must be above 0.
        whole_x: x ticks at whole numbers only.
        y_limits: limits of the y axis, such as 0 and 1 for a share.
        spans: stages as (name, from, to); boundaries are drawn between them.
        best: x, y and name of a point that is marked.
        points: show the values on hover and touch.
        y_include: values that the y axis reaches, so that several charts have one scale.
        y_top: values above it stretch no axis: they are drawn at its upper end, with an arrow head.
    """
    xs = [v for line in lines for v, y in zip(line.x, line.y, strict=True) if math.isfinite(v + y)]
    ys = [y for line in lines for v, y in zip(line.x, line.y, strict=True) if math.isfinite(v + y)]
    ys = [y for y in ys if y <= y_top]
    ys += y_include
    if spans:
        xs += [spans[0][1], spans[-1][2]]
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    x = log_axis(xs, _LEFT, right) if log_x else linear_axis(xs, _LEFT, right, whole=whole_x, tight=True, aim=6)
    y = log_axis(ys, bottom, _TOP) if log else linear_axis(ys, bottom, _TOP, limits=y_limits)
    written = form or tick_form(y.ticks)
    parts = [
        *_grid(x, y, written, tick_form(x.ticks), x_title),
        *_spans(spans, x),
        *(_band(line, x, y) for line in lines if line.low),
        *(_curve(line, x, y) for line in lines),
        *(_best(best, x, y) if best else ()),
        *_names(lines, y),
        *(_hits(lines, x, y, form or digits, x_title) if points else ()),
    ]
    label = _text(f"{title}. {in_words(lines, x_title, form or digits)}")
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f"<title>{_text(title)}</title>{''.join(parts)}</svg>"
    )


def linear_axis(
    values: Sequence[float],
    start: float,
    end: float,
    *,
    whole: bool = False,
    tight: bool = False,
    limits: tuple[float, float] = (-math.inf, math.inf),
    aim: int = 5,
) -> Axis:
    """An axis with about `aim` ticks at 1, 2, 2.5 or 5 times a power of ten.

    Args:
        whole: ends and ticks at whole numbers only.
        tight: ends at the values, not at the next tick.
        limits: the axis stays within these, if the values do.
    """
    low, high = min(values), max(values)
    if high - low < 1e-12 * max(1.0, abs(high)):
        pad = abs(high) * 0.1 if abs(high) > 1e-9 else 1.0
        low, high = max(low - pad, min(low, limits[0])), min(high + pad, max(high, limits[1]))
    if whole:
        low, high = math.floor(low), max(math.ceil(high), math.floor(low) + 1)
    step = round_step((high - low) / aim, whole)
    if not tight:
        low = max(math.floor(low / step + 1e-9) * step, min(low, limits[0]))
        high = min(math.ceil(high / step - 1e-9) * step, max(high, limits[1]))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return Axis(low, high, start, end, tuple(i * step for i in range(first, last + 1)))


def log_axis(values: Sequence[float], start: float, end: float) -> Axis:
    """A logarithmic axis from a power of ten to a power of ten, with at most six ticks."""
    above = [v for v in values if v > 0]
    low, high = math.floor(math.log10(min(above)) + 1e-9), math.ceil(math.log10(max(above)) - 1e-9)
    high = max(high, low + 1)
    every = max(1, math.ceil((high - low) / 6))
    ticks = tuple(10.0**power for power in range(low, high + 1, every))
    return Axis(10.0**low, 10.0**high, start, end, ticks, log=True)


def round_step(rough: float, whole: bool = False) -> float:
    """The smallest of 1, 2, 2.5, 5, 10 times a power of ten that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= rough * (1 - 1e-9))
    return max(1.0, float(math.ceil(step))) if whole else step


def tick_form(ticks: Sequence[float]) -> Callable[[float], str]:
    """Formatter of ticks: the same decimals for all, or powers of ten where they are tiny or far apart."""
    above = [abs(t) for t in ticks if t]
    if above and (max(above) < 1e-3 or max(above) >= 1e6 or max(above) / min(above) > 999):
        return _power
    gaps = [b - a for a, b in pairwise(ticks)] or above or [1.0]
    decimals = next((d for d in range(7) if all(abs(round(v, d) - v) < 1e-9 for v in [*gaps, *ticks])), 6)
    return lambda value: f"{value:,.{decimals}f}" if value else "0"


def _text(text: str) -> Markup:
    """Escaped, with control characters made visible: XML allows none of them."""
    return escape(visible(text))


def _power(value: float) -> str:
    """0.00025 → "2.5e-4"."""
    return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-").replace("e+0", "e") if value else "0"


def _grid(x: Axis, y: Axis, y_form: Callable[[float], str], x_form: Callable[[float], str], x_title: str) -> list[str]:
    parts = []
    for tick in y.ticks:
        at = y.position(tick)
        parts.append(f'<path class="grid" d="M{_LEFT} {at:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{y_form(tick)}</text>')
    bottom = HEIGHT - _BOTTOM
    parts.append(f'<path class="axis" d="M{_LEFT} {bottom}H{WIDTH - _RIGHT}"/>')
    for tick in x.ticks:
        at = x.position(tick)
        parts.append(f'<path class="axis" d="M{at:.1f} {bottom}v5"/>')
        parts.append(f'<text class="tick" x="{at:.1f}" y="{bottom + 19}" text-anchor="middle">{x_form(tick)}</text>')
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(f'<text class="tick" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{_text(x_title)}</text>')
    return parts


def _spans(spans: Sequence[tuple[str, float, float]], x: Axis) -> list[str]:
    """Boundaries between stages, and their names above."""
    if len(spans) < 2:
        return []
    parts = []
    for i, (name, start, end) in enumerate(spans):
        left, right = x.position(start), x.position(end)
        if i:
            parts.append(f'<path class="bound" d="M{left:.1f} {_TOP - 22}V{HEIGHT - _BOTTOM}"/>')
        end_of_room = right if i < len(spans) - 1 else right + _RIGHT - 12  # beside the last, nothing stands
        room = max(0, int((end_of_room - left - 6) / _CHAR))
        shown = name if len(name) <= room else f"{name[: room - 1]}…" if room > 4 else str(i + 1) if room else ""
        parts.append(
            f'<text class="stage" x="{left + 5:.1f}" y="{_TOP - 12}">{_text(shown)}<title>{_text(name)}</title></text>'
        )
    return parts


def _curve(line: Line, x: Axis, y: Axis) -> str:
    """One curve; short ones with dots, so that a single epoch is seen too."""
    path, dots, above, pen_up = [], [], [], True
    for value, height in zip(line.x, line.y, strict=True):
        if not math.isfinite(value + height):
            pen_up = True
            continue
        at = f"{x.position(value):.1f} {y.position(height):.1f}"
        path.append(("M" if pen_up else "L") + at)
        dots.append(f'<circle cx="{at.split()[0]}" cy="{at.split()[1]}" r="2.6"/>')
        if height > y.high:
            above.append(f'<path class="above" d="M{x.position(value):.1f} {y.end - 9:.1f}l5 9h-10Z"/>')
        pen_up = False
    shown = "".join(dots) if len(dots) <= 30 else ""
    drawn = f'<path d="{"".join(path)}"/>{shown}{"".join(above)}'
    return f'<g class="line {line.look}">{drawn}</g>' if path else ""


def _band(line: Line, x: Axis, y: Axis) -> str:
    """The band around a curve, over the points where both its limits are finite."""
    points = [(a, b, c) for a, b, c in zip(line.x, line.low, line.high, strict=True) if math.isfinite(a + b + c)]
    corners = [(a, b) for a, b, _ in points] + [(a, c) for a, _, c in reversed(points)]
    path = "L".join(f"{x.position(a):.1f} {min(max(y.position(b), y.end), y.start):.1f}" for a, b in corners)
    hue = f" hue-{line.hue}" if line.hue else ""
    return f'<path class="band{" quiet" if line.quiet else ""}{hue}" d="M{path}Z"/>' if points else ""


def _best(best: tuple[float, float, str], x: Axis, y: Axis) -> list[str]:
    left, top = x.position(best[0]), y.position(best[1])
    near_end = left > WIDTH - _RIGHT - 40
    anchor, shift = ("end", -5) if near_end else ("start", 5)
    # The name stands at the end of the line that is further from the point, and so from the curves.
    middle = (_TOP + HEIGHT - _BOTTOM) / 2
    height = _TOP + 11 if top > middle else HEIGHT - _BOTTOM - 7
    return [
        f'<path class="best" d="M{left:.1f} {_TOP}V{HEIGHT - _BOTTOM}"/>',
        f'<circle class="best" cx="{left:.1f}" cy="{top:.1f}" r="5.5"/>',
        f'<text class="best" x="{left + shift:.1f}" y="{height}" text-anchor="{anchor}">{_text(best[2])}</text>',
    ]


def _names(lines: Sequence[Line], y: Axis) -> list[str]:
    """Names at the right ends of the curves, pushed apart where they would cover each other."""
    ends = []
    for line in lines:
        finite = [v for v in line.y if math.isfinite(v)]
        if finite and line.at_end:
            ends.append((y.position(finite[-1]), line))
    ends.sort(key=lambda end: end[0])
    heights = [at for at, _ in ends]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + 16)
    over = max(0.0, heights[-1] - (HEIGHT - _BOTTOM)) if heights else 0.0
    return [
        f'<text class="name {line.look}" x="{WIDTH - _RIGHT + 11}" y="{at - over + 4:.1f}">{_text(line.at_end)}</text>'
        for at, (_, line) in zip(heights, ends, strict=True)
    ]


def _hits(lines: Sequence[Line], x: Axis, y: Axis, form: Callable[[float], str], x_title: str) -> list[str]:
    """Invisible bands, one for each x, that show the values there on hover."""
    values: dict[float, list[tuple[str, float]]] = {}
    for line in lines:
        for at, height in zip(line.x, line.y, strict=True):
            if math.isfinite(at + height):
                values.setdefault(at, []).append((line.name, height))
    positions = sorted(values)
    every = max(1, math.ceil(len(positions) / 150))
    positions = positions[::every]
    edges = [x.position(at) for at in positions]
    parts = []
    for i, at in enumerate(positions):
        left = (edges[i - 1] + edges[i]) / 2 if i else edges[i] - 8
        right = (edges[i] + edges[i + 1]) / 2 if i + 1 < len(edges) else edges[i] + 8
        listed = ", ".join(f"{name} {form(v)}".strip() for name, v in values[at])
        text = _text(f"{x_title} {digits(at)}: {listed}")
        dots = "".join(f'<circle cx="{edges[i]:.1f}" cy="{y.position(v):.1f}" r="4"/>' for _, v in values[at])
        parts.append(
            f'<g class="hit" data-say="{text}"><title>{text}</title><rect x="{left:.1f}" y="{_TOP}" '
            f'width="{right - left:.1f}" height="{HEIGHT - _TOP - _BOTTOM}"/>{dots}</g>'
        )
    return parts
