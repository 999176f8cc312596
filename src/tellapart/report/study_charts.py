"""Charts of a study as SVG text for the page: effects of factors, interactions, trade-offs, importance, ranks.

Every point that stands for a training is a link to its folder beside the page.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from markupsafe import Markup, escape

from tellapart.report.charts import Axis, linear_axis, log_axis, tick_form
from tellapart.report.formatting import shortened, visible

_WIDTH, _HEIGHT = 420, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 16, 44
_CHAR = 6.6

#: What points say, as `_svg` finds it in the drawing; and how much of it a text alternative holds.
_SAYS, _MOST_SAID = re.compile(r'data-say="([^"]*)"'), 60

Form = Callable[[float], str]


@dataclass(frozen=True)
class Dot:
    """A point of a scatter: `says` on hover; `href` opens its run. `look`: "", "best" (on the front) or "base"."""

    x: float
    y: float
    says: str
    href: str = ""
    look: str = ""


@dataclass(frozen=True)
class Level:
    """One level of an effect plot: a dot a seed, and the mean with its interval (ends may be NaN)."""

    name: str
    dots: Sequence[tuple[str, float, str]]  # name of the seed, score, href
    value: float
    low: float
    high: float
    base: bool = False


def effect_chart(levels: Sequence[Level], *, title: str, x_title: str, form: Form) -> Markup:
    """Scores over the levels of a factor: dots are seeds, bars intervals, the line joins the means."""
    ys = [y for one in levels for y in (one.value, *(score for _, score, _ in one.dots)) if math.isfinite(y)]
    # An interval of two seeds can be endless: the dots decide on the axis, and bars end at its edge.
    room = 0.6 * (max(ys) - min(ys)) or 0.02
    ys += [max(one.low, min(ys) - room) for one in levels if math.isfinite(one.low)]
    ys += [min(one.high, max(ys) + room) for one in levels if math.isfinite(one.high)]
    room_for_name = (_WIDTH - _LEFT - _RIGHT) / len(levels)
    slanted = max(len(one.name) for one in levels) * _CHAR > room_for_name - 6
    bottom = _HEIGHT - _BOTTOM - (46 if slanted else 0)
    y = linear_axis(ys, bottom, _TOP)
    parts = _rules(y, form, bottom)
    means = []
    for i, one in enumerate(levels):
        at = _LEFT + (i + 0.5) * room_for_name
        parts.append(_level_name(one, at, bottom, room_for_name, slanted))
        spread = min(16.0, room_for_name / 4)
        for j, (seed, score, href) in enumerate(one.dots):
            shift = spread * (j / (len(one.dots) - 1) - 0.5) if len(one.dots) > 1 else 0.0
            says = f"{one.name}, {seed}: {form(score)}"
            parts.append(_point(at - 12 + shift, y.position(score), 2.6, "seed", says, href))
        means.append((at + 8, y.position(one.value)))
        parts.append(_mean(one, at + 8, y, form))
    path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in means)
    parts.insert(0, f'<g class="line quiet"><path d="{path}"/></g>')
    parts.append(_axis_title(x_title))
    return _svg(title, parts, _HEIGHT)


def _level_name(one: Level, at: float, bottom: float, room: float, slanted: bool) -> str:
    name = shortened(one.name, 16 if slanted else 40)
    look = "tick strong" if one.base else "tick"
    if slanted:
        turn = f'transform="rotate(-35 {at:.1f} {bottom + 16})"'
        return f'<text class="{look}" x="{at + 4:.1f}" y="{bottom + 16}" text-anchor="end" {turn}>{_text(name)}</text>'
    return f'<text class="{look}" x="{at:.1f}" y="{bottom + 19}" text-anchor="middle">{_text(name)}</text>'


def _mean(one: Level, at: float, y: Axis, form: Form) -> str:
    label = _text(f"{one.name}: {form(one.value)}, 95 % interval {form(one.low)} to {form(one.high)}")
    bar = ""
    if math.isfinite(one.low):
        low, high = (min(max(y.position(v), _TOP), y.start) for v in (one.low, one.high))
        bar = f'<path d="M{at:.1f} {low:.1f}V{high:.1f}"/>'
    else:
        label = _text(f"{one.name}: {form(one.value)}")
    height = y.position(one.value)
    return (
        f'<g class="line loud"><title>{label}</title>{bar}<circle cx="{at:.1f}" cy="{height:.1f}" r="4.5"/></g>'
        f'<g class="hit" data-say="{label}"><rect x="{at - 8:.1f}" y="{_TOP}" width="16" height="{y.start - _TOP}"/>'
        "</g>"
    )


def scatter_chart(
    dots: Sequence[Dot],
    *,
    title: str,
    x_title: str,
    form: Form,
    x_form: Form | None = None,
    log_x: bool = False,
    front: Sequence[tuple[float, float]] = (),
) -> Markup:
    """Points over two measures. `front`: the corner points of a Pareto front, drawn as steps."""
    bottom = _HEIGHT - _BOTTOM
    log_x = log_x and all(dot.x > 0 for dot in dots)
    xs = [dot.x for dot in dots]
    right = _WIDTH - _RIGHT - 14
    x = log_axis(xs, _LEFT + 6, right) if log_x else linear_axis(xs, _LEFT + 6, right, aim=4)
    y = linear_axis([dot.y for dot in dots], bottom, _TOP)
    parts = _rules(y, form, bottom)
    written = x_form or tick_form(x.ticks)
    for tick in x.ticks:
        at = x.position(tick)
        parts.append(f'<path class="axis" d="M{at:.1f} {bottom}v5"/>')
        parts.append(f'<text class="tick" x="{at:.1f}" y="{bottom + 19}" text-anchor="middle">{written(tick)}</text>')
    if len(front) > 1:
        corners = [(x.position(a), y.position(b)) for a, b in front]
        path = f"M{corners[0][0]:.1f} {corners[0][1]:.1f}" + "".join(f"H{a:.1f}V{b:.1f}" for a, b in corners[1:])
        parts.append(f'<g class="line quiet"><path d="{path}"/></g>')
    radius = 3.2 if len(dots) <= 300 else 2.2
    for dot in sorted(dots, key=lambda one: one.look != ""):  # what is marked lies on top
        parts.append(_point(x.position(dot.x), y.position(dot.y), radius, dot.look or "cell", dot.says, dot.href))
    parts.append(_axis_title(x_title))
    return _svg(title, parts, _HEIGHT)


def heat_chart(
    rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]], *, title: str,
    names: tuple[str, str], form: Form, reverse: bool = False,
) -> Markup:  # fmt: skip
    """A heat map of mean scores; empty cells are those without a score. `reverse`: low values are dark."""
    finite = [v for row in values for v in row if math.isfinite(v)]
    low, width = min(finite), (max(finite) - min(finite)) or 1.0
    left = 18 + _CHAR * max(len(shortened(name, 14)) for name in rows)
    side = min(64.0, (_WIDTH - left - 8) / len(columns))
    height = max(20.0, min(34.0, side))
    slanted = max(len(name) for name in columns) * _CHAR > side - 4
    top = 34.0 + (54 if slanted else 0)
    parts = [f'<text class="tick" x="{left}" y="14">{_text(f"{names[0]} ↓, {names[1]} →")}</text>']
    for j, name in enumerate(columns):
        at, short = left + (j + 0.5) * side, _text(shortened(name, 12))
        turn = (
            f' text-anchor="start" transform="rotate(-40 {at:.1f} {top - 6})"' if slanted else ' text-anchor="middle"'
        )
        parts.append(f'<text class="tick" x="{at:.1f}" y="{top - 6}"{turn}>{short}</text>')
    for i, name in enumerate(rows):
        y = top + i * height
        parts.append(
            f'<text class="tick" x="{left - 8}" y="{y + height / 2 + 4:.1f}" text-anchor="end">'
            f"{_text(shortened(name, 14))}</text>"
        )
        for j, value in enumerate(values[i]):
            x = left + j * side
            if not math.isfinite(value):
                continue
            share = (value - low) / width
            shade = min(6, int(7 * (1 - share if reverse else share)))
            says = _text(f"{names[0]} {name}, {names[1]} {columns[j]}: {form(value)}")
            number = form(value).split("\u202f")[0]
            inside = (
                f'<text class="on-v{shade}" x="{x + side / 2:.1f}" y="{y + height / 2 + 4:.1f}" text-anchor="middle">'
            )
            inside += f"{_text(number)}</text>"
            parts.append(
                f'<g class="hit" data-say="{says}"><title>{says}</title><rect class="shade v{shade}" x="{x + 1:.1f}" '
                f'y="{y + 1:.1f}" width="{side - 2:.1f}" height="{height - 2:.1f}"/>'
                f"{inside if len(number) * _CHAR < side else ''}</g>"
            )
    return _svg(title, parts, top + len(rows) * height + 8)


def bar_chart(bars: Sequence[tuple[str, float]], *, title: str, form: Form) -> Markup:
    """Shares as bars, one below the other."""
    line, left = 24, 12 + _CHAR * min(28, max(len(name) for name, _ in bars))
    width = _WIDTH - left - 52
    largest = max(share for _, share in bars) or 1.0
    parts = []
    for i, (name, share) in enumerate(bars):
        y = 6 + i * line
        length = width * share / largest
        parts.append(f'<text x="{left - 8:.1f}" y="{y + 15}" text-anchor="end">{_text(shortened(name, 28))}</text>')
        parts.append(
            f'<rect class="amount" x="{left:.1f}" y="{y + 3}" width="{length:.1f}" height="{line - 8}" rx="2"/>'
        )
        parts.append(f'<text class="tick" x="{left + length + 7:.1f}" y="{y + 15}">{form(share)}</text>')
    return _svg(title, parts, 12 + line * len(bars), [f"{name} {form(share)}" for name, share in bars])


def rank_chart(
    ranks: Sequence[tuple[str, float]], groups: Sequence[tuple[float, float]], *, title: str, distance: float | None
) -> Markup:
    """A critical-difference diagram: mean ranks, 1 the best, with bars over those that cannot be told apart.

    Args:
        ranks: name and mean rank, the best first.
        groups: from and to, of each bar.
        distance: the critical difference, drawn on top; None where each pair has a test of its own.
    """
    half = math.ceil(len(ranks) / 2)
    left, right, top = 16.0, _WIDTH - 16.0, 54.0
    low, high = math.floor(ranks[0][1]), max(math.ceil(ranks[-1][1]), math.floor(ranks[0][1]) + 1)
    axis = Axis(low, high, left + 90, right - 90, tuple(map(float, range(low, high + 1))))
    parts = [f'<path class="axis" d="M{axis.start} {top}H{axis.end}"/>']
    for tick in axis.ticks:
        at = axis.position(tick)
        parts.append(f'<path class="axis" d="M{at:.1f} {top}v-6"/>')
        parts.append(f'<text class="tick" x="{at:.1f}" y="{top - 11}" text-anchor="middle">{tick:g}</text>')
    if distance is not None:
        length = axis.position(low + distance) - axis.start
        parts.append(f'<path class="axis" d="M{axis.start} 12v8m0 -4h{length:.1f}m0 -4v8"/>')
        parts.append(f'<text class="tick" x="{axis.start + length + 6:.1f}" y="20">CD {distance:.2f}</text>')
    for i, (start, end) in enumerate(groups):
        y = top + 10 + 8 * i
        parts.append(f'<path class="group" d="M{axis.position(start) - 4:.1f} {y}H{axis.position(end) + 4:.1f}"/>')
    first = top + 26 + 8 * len(groups)
    for i, (name, rank) in enumerate(ranks):
        at = axis.position(rank)
        on_left = i < half
        y = first + 20 * (i if on_left else len(ranks) - 1 - i)
        end, anchor = (left + 84, "end") if on_left else (right - 84, "start")
        parts.append(f'<g class="line quiet"><path d="M{at:.1f} {top}V{y}H{end}"/></g>')
        shift = -6 if on_left else 6
        text = _text(f"{shortened(name, 14)} {rank:.2f}")
        parts.append(
            f'<text x="{end + shift}" y="{y + 4}" text-anchor="{anchor}">{text}<title>{_text(name)}</title></text>'
        )
    return _svg(title, parts, first + 20 * half, [f"{name} {rank:.2f}" for name, rank in ranks])


def _rules(y: Axis, form: Form, bottom: float) -> list[str]:
    parts = []
    for tick in y.ticks:
        at = y.position(tick)
        parts.append(f'<path class="grid" d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{form(tick)}</text>')
    parts.append(f'<path class="axis" d="M{_LEFT} {bottom}H{_WIDTH - _RIGHT}"/>')
    return parts


def _point(x: float, y: float, radius: float, look: str, says: str, href: str) -> str:
    """A dot that says its values on hover, and opens its run on a click."""
    text = _text(says)
    dot = f'<circle class="dot {look}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"><title>{text}</title></circle>'
    if href:
        dot = f'<a href="{_text(quote(href))}" aria-label="{text}">{dot}</a>'
    return f'<g class="hit" data-say="{text}">{dot}</g>'


def _axis_title(text: str) -> str:
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return f'<text class="tick" x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{_text(text)}</text>'


def _text(text: str) -> Markup:
    return escape(visible(text))


def _svg(title: str, parts: Sequence[str], height: float, numbers: Sequence[str] = ()) -> Markup:
    """The drawing. Its text alternative has the numbers: those given, or what its points say on hover."""
    drawn = "".join(parts)
    said = [_text(number) for number in numbers] or [Markup(text) for text in _SAYS.findall(drawn)]
    more = f"; and {len(said) - _MOST_SAID} more" if len(said) > _MOST_SAID else ""
    label = f"{_text(title)}: {'; '.join(said[:_MOST_SAID])}{more}" if said else _text(title)
    # What holds links is no single image: a screen reader would not let one reach them.
    role = "group" if "<a " in drawn else "img"
    return Markup(
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {height:.0f}" role="{role}" aria-label="{label}">'
        f"<title>{_text(title)}</title>{drawn}</svg>"
    )
