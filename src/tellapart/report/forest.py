"""Forest plots: values with their intervals, one below the other, around a line that means "no difference"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from tellapart.core.palette import LIGHT
from tellapart.core.text import as_lines
from tellapart.report import formatting
from tellapart.report.blocks import Cell, Table
from tellapart.report.charts import linear_axis
from tellapart.report.figures import new_figure, save_figure, short_name, style

_WIDTH, _LEFT, _RIGHT, _TOP, _LINE = 420, 84, 12, 26, 26
#: Longer names are cut in the middle.
_LONGEST = 28
_HUES = {"better": LIGHT["hue-3"], "worse": LIGHT["hue-5"], "": LIGHT["quiet-line"]}
#: The same in the page's style sheet, which has them on dark too.
_LOOKS = {"better": "line loud hue-3", "worse": "line loud hue-5", "": "line quiet"}


@dataclass(frozen=True)
class Interval:
    """One line: `look` is "better", "worse" or "" where the interval proves nothing."""

    name: str
    value: float
    low: float
    high: float
    look: str = ""


def forest_chart(
    intervals: Sequence[Interval], *, title: str, x_title: str, form: Callable[[float], str], ends: tuple[str, str]
) -> Markup:
    """A forest plot as SVG text for the page.

    Args:
        intervals: at least one, the first on top.
        title: text for screen readers.
        form: value → text.
        ends: texts above the left and the right half.
    """
    bottom = _TOP + _LINE * len(intervals)
    longest = max(len(formatting.shortened(one.name, _LONGEST)) for one in intervals)
    left = max(_LEFT, 16 + 7 * longest)
    width = _WIDTH + left - _LEFT
    axis = linear_axis(_values(intervals), left, width - _RIGHT, aim=4)
    zero = axis.position(0.0)
    parts = []
    for tick in axis.ticks:
        at = axis.position(tick)
        parts.append(f'<path class="grid" d="M{at:.1f} {_TOP}V{bottom}"/>')
        parts.append(f'<text class="tick" x="{at:.1f}" y="{bottom + 18}" text-anchor="middle">{form(tick)}</text>')
    parts.append(f'<path class="axis" d="M{zero:.1f} {_TOP - 4}V{bottom}"/>')
    for text, x, anchor in ((ends[0], zero - 8, "end"), (ends[1], zero + 8, "start")):
        parts.append(f'<text class="stage" x="{x:.1f}" y="{_TOP - 10}" text-anchor="{anchor}">{_text(text)}</text>')
    for i, one in enumerate(intervals):
        y = _TOP + _LINE * (i + 0.5)
        low, value, high = (axis.position(v) for v in (one.low, one.value, one.high))
        name = formatting.shortened(one.name, _LONGEST)
        label = _text(f"{one.name}: {form(one.value)}, 95 % interval {form(one.low)} to {form(one.high)}")
        parts.append(
            f'<g class="{_LOOKS[one.look]}"><title>{label}</title><path d="M{low:.1f} {y}H{high:.1f}"/>'
            f'<circle cx="{value:.1f}" cy="{y}" r="4.5"/></g>'
            f'<text x="{left - 10}" y="{y + 4.5}" text-anchor="end">{_text(name)}</text>'
            f'<g class="hit" data-say="{label}"><rect x="0" y="{y - _LINE / 2}" width="{width}" height="{_LINE}"/></g>'
        )
    numbers = "; ".join(f"{one.name} {form(one.value)}, {form(one.low)} to {form(one.high)}" for one in intervals)
    label = _text(f"{title}: {numbers}")
    middle = (left + width - _RIGHT) / 2
    parts.append(f'<text class="tick" x="{middle}" y="{bottom + 38}" text-anchor="middle">{_text(x_title)}</text>')
    return Markup(
        f'<svg class="chart" viewBox="0 0 {width} {bottom + 46}" role="img" aria-label="{label}">'
        f"<title>{_text(title)}</title>{''.join(parts)}</svg>"
    )


def forest_finding(intervals: Sequence[Interval], form: Callable[[float], str]) -> str:
    """What is proven, and the largest difference, in a sentence."""
    n = {look: sum(one.look == look for one in intervals) for look in ("better", "worse")}
    largest = max(intervals, key=lambda one: abs(one.value))
    size = f"{formatting.visible(largest.name)} {form(largest.value)}"
    if len(intervals) == 1:
        return f"{size}: {f'proven {largest.look}' if largest.look else 'it may be chance'}."
    proven = " and ".join(f"{n[look] or 'none'} {look}" for look in ("better", "worse")) if any(n.values()) else "none"
    return (
        f"Of {len(intervals)} differences, {proven} {'are' if sum(n.values()) > 1 else 'is'} proven; largest: {size}."
    )


def forest_table(intervals: Sequence[Interval], form: Callable[[float], str]) -> Table:
    """The numbers of a forest plot."""
    rows = [
        [
            Cell(one.name),
            *(Cell(form(number), number) for number in (one.value, one.low, one.high)),
            Cell(one.look or "may be chance"),
        ]
        for one in intervals
    ]
    return Table(["of", "difference", "low", "high", "verdict"], rows, "Low and high: ends of the 95\u202f% interval.")


def write_forest_figure(
    intervals: Sequence[Interval], path: Path, *, x_title: str, form: Callable[[float], str], legend: Sequence[str] = ()
) -> None:
    """Write a forest plot as a file with a suffix of `FIGURES`. `legend`: lines of text below it."""
    with style():
        figure, axes = new_figure(5.6, 1.1 + 0.32 * len(intervals))
        for i, one in enumerate(intervals):
            colour = _HUES[one.look]
            axes.plot([one.low, one.high], [i, i], color=colour, lw=1.8, solid_capstyle="round")
            axes.plot([one.value], [i], "o", ms=6, color=colour)
        axes.axvline(0, color=_HUES[""], lw=1)
        axes.set_yticks(range(len(intervals)), [short_name(one.name, 40) for one in intervals])
        axes.set_ylim(len(intervals) - 0.5, -0.5)
        axes.xaxis.set_major_formatter(lambda value, _: form(value))
        axes.set_xlabel(x_title)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", lw=0.6, alpha=0.5)
        axes.set_axisbelow(True)
        below = as_lines(legend)
        figure.tight_layout()
        figure.text(0.02, -0.02, below, ha="left", va="top", fontsize=8)
        save_figure(figure, path)


def _values(intervals: Sequence[Interval]) -> list[float]:
    """The limits of all intervals, and room on the right of 0 for the text above it."""
    limits = [0.0, *(limit for one in intervals for limit in (one.low, one.high))]
    return [*limits, 0.2 * (max(limits) - min(limits))]


def _text(text: str) -> Markup:
    return escape(formatting.visible(text))
