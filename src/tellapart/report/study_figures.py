"""Figures of a study for a paper: differences, effects, curves, costs, importance, each as SVG and PNG."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tellapart.core.scores import is_share
from tellapart.evaluation.study_summary import FactorEffect, Interaction, StudySummary
from tellapart.report import formatting
from tellapart.report.figures import ACCENT, GREY, INK, LINE, new_figure, save_figure, short_name, style
from tellapart.report.forest import write_forest_figure
from tellapart.report.sections.study_effects import pareto, time_unit
from tellapart.report.sections.study_page import difference_tick, differences
from tellapart.report.study_details import Ranks, StudyDetails
from tellapart.report.study_words import axis_form, both_names, label, short_factor, value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SUFFIXES = (".svg", ".png")
_PANELS, _ACROSS = 12, 4


def write_study_figures(details: StudyDetails, folder: Path) -> list[Path]:
    """Write a study's figures; one without data is left out.

    They are `differences`, `effect_NAME` of each factor, `interaction_NUMBER`, `curves`, `time`, `parameters`,
    `importance` and `ranks`. Each as .svg and .png (200 dots an inch); the same data give the same bytes.

    Returns:
        The files written.
    """
    written = []
    summary = details.summary
    intervals = differences(summary)
    for suffix in _SUFFIXES if intervals else ():
        written.append(folder / f"differences{suffix}")
        unit = ", percentage points" if is_share(summary.metric) else ""
        write_forest_figure(
            intervals,
            written[-1],
            x_title=f"difference to the baseline{unit}",
            form=lambda number: difference_tick(summary.metric, number),
        )
    with style():
        for name, figure in _figures(details):
            for suffix in _SUFFIXES:
                written.append(folder / f"{name}{suffix}")
                save_figure(figure, written[-1])
    return written


def _figures(details: StudyDetails) -> Iterator[tuple[str, Figure]]:
    summary = details.summary
    for number, effect in enumerate(summary.effects, start=1):
        yield f"effect_{number}", _effect(summary, effect)
    for number, table in enumerate(summary.interactions, start=1):
        yield f"interaction_{number}", _interaction(summary, table)
    if details.curves:
        yield "curves", _curves(details)
    cells = [one for one in summary.cells if one.n]
    minutes = [(one.minutes.value, one.score.value) for one in cells if math.isfinite(one.minutes.value)]
    sizes = [(float(one.n_parameters), one.score.value) for one in cells if one.n_parameters]
    if len(minutes) > 1:
        unit, per_minute = time_unit([minute for minute, _ in minutes])
        times = [(per_minute * minute, score) for minute, score in minutes]
        yield "time", _costs(summary, times, f"{unit} a training")
    if len({x for x, _ in sizes}) > 1:
        yield "parameters", _costs(summary, sizes, "parameters")
    if summary.importance:
        yield "importance", _importance(summary)
    if details.ranks is not None:
        yield "ranks", _ranks(details.ranks)


def _form(metric: str) -> Callable[[float, Any], str]:
    form = axis_form(metric)
    return lambda number, _: form(number)


def _ground(axes: Axes, which: Literal["x", "y"] = "y") -> None:
    axes.grid(axis=which, color=LINE, lw=0.6)
    axes.set_axisbelow(True)


def _effect(summary: StudySummary, effect: FactorEffect) -> Figure:
    figure, axes = new_figure(4.6, 3.2)
    means = [level.score.value for level in effect.levels]
    if effect.continuous:
        axes.plot([_number(level.level, i) for i, level in enumerate(effect.levels)], means, "o", ms=4, color=ACCENT)
        if effect.log:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda number, _: f"{number:g}")
    else:
        for i, level in enumerate(effect.levels):
            dots = list(level.scores.values())
            shifts = np.linspace(-0.22, -0.08, len(dots)) if len(dots) > 1 else [-0.15]
            axes.plot([i + shift for shift in shifts], dots, "o", ms=3, color=GREY)
            if math.isfinite(level.score.low):
                axes.plot([i, i], [level.score.low, level.score.high], color=ACCENT, lw=1.8)
        axes.plot(range(len(means)), means, "o-", ms=5, lw=1, color=ACCENT)
        turned = max(len(level.level) for level in effect.levels) * len(effect.levels) > 44
        axes.set_xticks(
            range(len(means)),
            [short_name(level.level, 24) for level in effect.levels],
            rotation=30 if turned else 0,
            ha="right" if turned else "center",
        )
    axes.set_xlabel(short_name(short_factor(effect.factor), 40))
    axes.set_ylabel(formatting.plain(summary.metric).lower())
    axes.yaxis.set_major_formatter(_form(summary.metric))
    _ground(axes)
    return figure


def _number(text: str, position: int) -> float:
    try:
        return float(text)
    except ValueError:
        return float(position)


def _interaction(summary: StudySummary, table: Interaction) -> Figure:
    figure, axes = new_figure(1.6 + 0.7 * len(table.columns), 1.2 + 0.45 * len(table.rows))
    values = np.array(table.scores)
    image = axes.imshow(values, cmap="Blues_r" if summary.lower_is_better else "Blues", aspect="auto")
    for (i, j), number in np.ndenumerate(values):
        if math.isfinite(number):
            dark = (image.norm(number) > 0.55) != summary.lower_is_better
            text = value(summary.metric, number).split("\u202f")[0]
            axes.text(j, i, text, ha="center", va="center", fontsize=9, color="white" if dark else INK)
    axes.set_xticks(range(len(table.columns)), [short_name(name, 16) for name in table.columns])
    axes.set_yticks(range(len(table.rows)), [short_name(name, 16) for name in table.rows])
    axes.set_xlabel(short_name(short_factor(table.second), 30))
    axes.set_ylabel(short_name(short_factor(table.first), 30))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def _curves(details: StudyDetails) -> Figure:
    """A panel a cell: training and validation accuracy with bands over seeds, on one scale."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    summary = details.summary
    cells = [one for one in summary.cells if one.cell in details.curves][:_PANELS]
    across = min(_ACROSS, len(cells))
    down = math.ceil(len(cells) / across)
    figure = Figure(figsize=(2.6 * across, 2.1 * down + 0.3))
    every: Any = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes, one in zip(every.ravel(), cells, strict=False):
        curves = details.curves[one.cell]
        for part, colour in (("training", GREY), ("validation", ACCENT)):
            band = curves.bands[f"{part}_accuracy"]
            axes.fill_between(curves.epochs, band.low, band.high, color=colour, alpha=0.2, lw=0)
            axes.plot(curves.epochs, band.mean, color=colour, lw=1.4, label=part)
        axes.set_title(short_name(label(summary, one), 32), fontsize=8)
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        _ground(axes)
    for axes in every.ravel()[len(cells) :]:
        axes.set_axis_off()
    for axes in every[-1]:
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    names = every[0, 0].get_legend_handles_labels()
    figure.legend(*names, frameon=False, fontsize=9, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.tight_layout()
    return figure


def _costs(summary: StudySummary, points: Sequence[tuple[float, float]], title: str) -> Figure:
    figure, axes = new_figure(4.6, 3.2)
    front = [points[i] for i in pareto(points, summary.lower_is_better)]
    axes.plot([x for x, _ in points], [y for _, y in points], "o", ms=4, color=GREY)
    axes.plot(
        [x for x, _ in front],
        [y for _, y in front],
        "o-",
        ms=5,
        lw=1,
        color=ACCENT,
        drawstyle="steps-post",
        label="not beaten in both",
    )
    xs = [x for x, _ in points]
    if max(xs) > 20 * min(xs) > 0:
        axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda number, _: f"{number:,.4g}")
    axes.yaxis.set_major_formatter(_form(summary.metric))
    axes.set_xlabel(title)
    axes.set_ylabel(formatting.plain(summary.metric).lower())
    axes.legend(frameon=False, fontsize=9)
    _ground(axes)
    return figure


def _importance(summary: StudySummary) -> Figure:
    bars = summary.importance[:20][::-1]
    figure, axes = new_figure(5.0, max(1.6, 0.28 * len(bars) + 0.9))
    axes.barh(range(len(bars)), [100 * one.share for one in bars], 0.7, color=ACCENT)
    axes.set_yticks(range(len(bars)), [short_name(both_names(one.name), 36) for one in bars])
    axes.set_xlabel("share of the differences between settings, %")
    axes.tick_params(axis="y", length=0)
    _ground(axes, "x")
    return figure


def _ranks(ranks: Ranks) -> Figure:
    figure, axes = new_figure(5.0, max(1.6, 0.3 * len(ranks.names) + 0.9))
    order = range(len(ranks.names))
    axes.plot(ranks.ranks, order, "o", ms=6, color=ACCENT)
    for i, (start, end) in enumerate(ranks.groups):
        at = -0.6 - 0.25 * i
        axes.plot([start, end], [at, at], lw=3, color=INK, solid_capstyle="round")
    axes.set_yticks(order, [short_name(name, 36) for name in ranks.names])
    axes.set_ylim(len(ranks.names) - 0.5, -0.9 - 0.25 * len(ranks.groups))
    axes.set_xlabel("mean rank, 1 is best; bars join what cannot be told apart")
    _ground(axes, "x")
    return figure
