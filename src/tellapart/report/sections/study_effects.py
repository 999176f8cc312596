"""Sections of a study's page: effects of factors, interactions, trade-offs, importance, randomness, ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tellapart.core.scores import is_share
from tellapart.core.text import counted
from tellapart.evaluation.study_summary import CellResult, FactorEffect, Interaction, StudySummary
from tellapart.report import formatting
from tellapart.report.blocks import Block, Cell, Chart, Section, Side, Table, Text
from tellapart.report.chart_words import best_and_worst
from tellapart.report.study_charts import (
    Dot,
    Level,
    bar_chart,
    effect_chart,
    heat_chart,
    rank_chart,
    scatter_chart,
)
from tellapart.report.study_details import Ranks
from tellapart.report.study_table import other_metrics
from tellapart.report.study_words import (
    axis_form,
    both_names,
    label,
    metric_words,
    short_factor,
    value,
)

#: Charts of factors and of pairs of factors, the most important first.
_MOST_EFFECTS, _MOST_TABLES = 24, 12
#: Bars of importance.
_MOST_BARS = 20


def effects_section(summary: StudySummary) -> Section | None:
    """A chart a factor, and one a pair of factors that were crossed."""
    if not summary.effects:
        return None
    rank = {one.name: i for i, one in enumerate(summary.importance)}
    effects = sorted(summary.effects, key=lambda effect: rank.get(effect.factor, len(rank)))
    blocks: list[Block] = [Side([_effect(summary, effect) for effect in effects[:_MOST_EFFECTS]])]
    if len(effects) > _MOST_EFFECTS:
        blocks.append(Text(f"Shown for {_MOST_EFFECTS} of {len(effects)} factors.", "note"))
    tables = sorted(summary.interactions, key=lambda one: rank.get(f"{one.first} × {one.second}", len(rank)))
    if tables:
        charts = [
            Chart(
                f"{short_factor(one.first)} and {short_factor(one.second)}",
                heat_chart(
                    one.rows,
                    one.columns,
                    one.scores,
                    title=f"Mean score over {one.first} and {one.second}",
                    names=(short_factor(one.first), short_factor(one.second)),
                    form=lambda number: value(summary.metric, number),
                    reverse=summary.lower_is_better,
                ),
                _best_pair(summary, one),
                _pair_table(summary, one),
            )
            for one in tables[:_MOST_TABLES]
        ]
        blocks.append(Side(charts))
        more = f" Shown for {_MOST_TABLES} of {len(tables)} pairs." if len(tables) > _MOST_TABLES else ""
        blocks.append(Text(f"Darker is better: the mean over all settings with both levels.{more}", "note"))
    return Section("effects", "What each factor does", blocks, "Factors")


def _best_pair(summary: StudySummary, table: Interaction) -> str:
    pairs = [
        (f"{row} and {column}", table.scores[i][j])
        for i, row in enumerate(table.rows)
        for j, column in enumerate(table.columns)
    ]
    return best_and_worst(pairs, lambda number: value(summary.metric, number), summary.lower_is_better)


def _pair_table(summary: StudySummary, table: Interaction) -> Table:
    rows = [
        [Cell(row), *(Cell(value(summary.metric, score), score) for score in scores)]
        for row, scores in zip(table.rows, table.scores, strict=True)
    ]
    return Table([f"{short_factor(table.first)} ↓, {short_factor(table.second)} →", *table.columns], rows)


def _effect(summary: StudySummary, effect: FactorEffect) -> Chart:
    name = short_factor(effect.factor)
    unit = "" if is_share(summary.metric) or summary.metric != "seconds" else ", seconds"
    means = [(f"{name} = {level.level}", level.score.value) for level in effect.levels]
    finding = best_and_worst(means, lambda number: value(summary.metric, number), summary.lower_is_better)
    table = _levels_table(summary, effect)
    if effect.continuous:
        dots = [
            Dot(
                _number(level.level, i),
                level.score.value,
                f"{name} {level.level}: {value(summary.metric, level.score.value)}",
            )
            for i, level in enumerate(effect.levels)
        ]
        svg = scatter_chart(
            dots,
            title=f"Score over {effect.factor}",
            x_title=name,
            form=axis_form(summary.metric),
            log_x=effect.log,
        )
        return Chart(name, svg, f"{finding} Each dot: the mean over seeds of a setting.", table)
    baseline = summary.cell(summary.baseline)
    levels = []
    for level in effect.levels:
        cell = _only_cell(summary, effect.factor, level.level) if level.n_cells == 1 else None
        seeds = [
            (f"seed {seed}", score, f"{cell.paths[seed]}/" if cell and seed in cell.paths else "")
            for seed, score in level.scores.items()
        ]
        base = baseline is not None and baseline.levels.get(effect.factor) == level.level
        levels.append(Level(level.level, seeds, level.score.value, level.score.low, level.score.high, base))
    svg = effect_chart(
        levels,
        title=f"Score at each level of {effect.factor}, with 95 % intervals over seeds",
        x_title=f"{name}{unit}",
        form=axis_form(summary.metric),
    )
    n_cells = max(level.n_cells for level in effect.levels)
    over = f", the mean over {counted(n_cells, 'setting')} each" if n_cells > 1 else ""
    caption = f"{finding} Dots: seeds{over}. Bars: 95 % intervals. Bold: the baseline's level."
    return Chart(name, svg, caption, table)


def _levels_table(summary: StudySummary, effect: FactorEffect) -> Table:
    def score(number: float) -> Cell:
        return Cell(value(summary.metric, number) if math.isfinite(number) else "–", number)

    rows = [
        [
            Cell(level.level),
            *map(score, (level.score.value, level.score.low, level.score.high)),
            Cell(f"{level.score.n}", level.score.n),
        ]
        for level in effect.levels
    ]
    return Table([short_factor(effect.factor), metric_words(summary.metric), "low", "high", "seeds"], rows)


def _only_cell(summary: StudySummary, factor: str, level: str) -> CellResult | None:
    """The cell with this level that differs from the baseline in nothing else, or is the only one with it."""
    baseline = summary.cell(summary.baseline)
    every = [one for one in summary.cells if one.levels.get(factor) == level and one.n]
    others = {} if baseline is None else {k: v for k, v in baseline.levels.items() if k != factor}
    alike = [one for one in every if {k: v for k, v in one.levels.items() if k != factor} == others]
    return next(iter([*alike, *every]), None)


def _number(text: str, position: int) -> float:
    try:
        return float(text)
    except ValueError:
        return float(position)


def tradeoffs_section(summary: StudySummary) -> Section | None:
    """Score against time and against parameters, each with its Pareto front."""
    cells = [one for one in summary.cells if one.n]
    timed = [one for one in cells if math.isfinite(one.minutes.value)]
    unit, per_minute = time_unit([one.minutes.value for one in timed])
    times = [(one, per_minute * one.minutes.value) for one in timed]
    sizes = [(one, float(one.n_parameters)) for one in cells if one.n_parameters]
    charts = [_tradeoff(summary, times, f"{unit} a training")] if len(times) > 1 else []
    if len({size for _, size in sizes}) > 1:
        charts.append(_tradeoff(summary, sizes, "parameters"))
    charts = [] if summary.metric in ("seconds", "n_parameters") else charts
    charts += [chart for name in other_metrics(summary) if (chart := _objectives(summary, name)) is not None]
    if not charts:
        return None
    note = Text("The line joins the settings that no other one beats in both. Ringed: the baseline.", "note")
    return Section("tradeoffs", "What it costs", [Side(charts), note], "Cost")


def time_unit(minutes: Sequence[float]) -> tuple[str, float]:
    """The unit of an axis of times, and how many of it a minute has: seconds where all are short."""
    return ("seconds", 60.0) if max(minutes, default=0.0) < 2 else ("minutes", 1.0)


def pareto(points: Sequence[tuple[float, float]], lower_is_better: bool) -> list[int]:
    """Positions of the points (cost, score) that no other is at least as good in both, by rising cost."""
    sign = 1 if lower_is_better else -1
    order = sorted(range(len(points)), key=lambda i: (points[i][0], sign * points[i][1]))
    front: list[int] = []
    for i in order:
        if not front or sign * points[i][1] < sign * points[front[-1]][1]:
            front.append(i)
    return front


def _tradeoff(summary: StudySummary, known: Sequence[tuple[CellResult, float]], title: str) -> Chart:
    points = [(x, one.score.value) for one, x in known]
    front = pareto(points, summary.lower_is_better)
    dots = []
    for i, (one, x) in enumerate(known):
        look = "base" if one.cell == summary.baseline else "best" if i in front else ""
        path = next(iter(one.paths.values()), "")
        says = f"{label(summary, one)}: {value(summary.metric, one.score.value)}, {_cost(title, x)}"
        dots.append(Dot(x, one.score.value, says, f"{path}/" if path else "", look))
    xs = [x for _, x in known]
    svg = scatter_chart(
        dots,
        title=f"Score against {title}",
        x_title=title,
        form=axis_form(summary.metric),
        x_form=_short_count if title == "parameters" else None,
        log_x=max(xs) > 20 * min(xs) > 0,
        front=[points[i] for i in front],
    )
    cheapest = known[min(range(len(known)), key=lambda i: (points[i][0], i))][0]
    finding = _best_words(summary, [one for one, _ in known])
    finding += f" Cheapest: {label(summary, cheapest)} with {value(summary.metric, cheapest.score.value)}."
    rows = [_cost_row(summary, one, Cell(_cost(title, x), x)) for one, x in known]
    table = Table(["setting", metric_words(summary.metric), title], rows, sortable=True)
    return Chart(f"Score against {title}", svg, finding, table)


def _best_words(summary: StudySummary, cells: Sequence[CellResult]) -> str:
    scores = [(label(summary, one), one.score.value) for one in cells]
    return best_and_worst(scores, lambda number: value(summary.metric, number), summary.lower_is_better)


def _cost_row(summary: StudySummary, one: CellResult, cost: Cell) -> list[Cell]:
    return [Cell(label(summary, one)), Cell(value(summary.metric, one.score.value), one.score.value), cost]


def _objectives(summary: StudySummary, name: str) -> Chart | None:
    """The score against another objective; those of the front over all objectives are marked."""
    dots, rows = [], []
    for one in summary.cells:
        x = one.others.get(name, math.nan)
        if one.n and math.isfinite(x):
            rows.append(_cost_row(summary, one, Cell(value(name, x), x)))
            look = "base" if one.cell == summary.baseline else "best" if one.on_front else ""
            path = next(iter(one.paths.values()), "")
            score = value(summary.metric, one.score.value)
            says = f"{label(summary, one)}: {score}, {metric_words(name)} {value(name, x)}"
            dots.append(Dot(x, one.score.value, says, f"{path}/" if path else "", look))
    if not dots:
        return None
    title, form = f"Score against {metric_words(name)}", axis_form(summary.metric)
    svg = scatter_chart(dots, title=title, x_title=metric_words(name), form=form, x_form=axis_form(name))
    finding = _best_words(summary, [one for one in summary.cells if one.n])
    caption = f"{finding} Marked: no other setting is as good in all objectives and better in one."
    columns = ["setting", metric_words(summary.metric), metric_words(name)]
    return Chart(title, svg, caption, Table(columns, rows, sortable=True))


def _cost(title: str, x: float) -> str:
    if title == "parameters":
        return f"{x:,.0f} parameters"
    return formatting.duration(x if title.startswith("seconds") else 60 * x)


def _short_count(n: float) -> str:
    """12,345,678 → "12M"."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.3g}{unit}"
    return f"{n:g}"


def importance_section(summary: StudySummary) -> Section | None:
    """Importance of each factor, and what each source of randomness makes."""
    blocks: list[Block] = []
    if summary.importance:
        bars = [(both_names(one.name), one.share) for one in summary.importance[:_MOST_BARS]]
        svg = bar_chart(bars, title="Share of the differences between settings that each factor makes", form=_share)
        more = f" The first {_MOST_BARS} of {len(summary.importance)}." if len(summary.importance) > _MOST_BARS else ""
        name, share = bars[0]
        finding = f"{formatting.visible(name)} makes {_share(share)} of the differences between settings."
        table = Table(["factor", "share"], [[Cell(name), Cell(_share(share), share)] for name, share in bars])
        blocks.append(Chart("Importance", svg, f"{finding} How: {summary.importance_method}.{more}", table))
    if summary.variance:
        rows = [
            [
                Cell(one.source),
                Cell(formatting.percent(one.share, 0), one.share),
                Cell(
                    f"{100 * one.deviation:.2f} points" if is_share(summary.metric) else f"{one.deviation:.3g}",
                    one.deviation,
                ),
                Cell(f"{one.n}", one.n),
            ]
            for one in summary.variance
        ]
        caption = (
            "Share of the variance of one setting's scores, and the standard deviation that each source makes alone."
        )
        blocks.append(
            Table(["source", "share", "deviation", "seeds"], rows, caption, title="Where the spread comes from")
        )
    return Section("importance", "What matters", blocks, "Importance") if blocks else None


def _share(share: float) -> str:
    return formatting.percent(share, 0 if share >= 0.0995 or share == 0 else 1)


def ranks_section(ranks: Ranks) -> Section:
    """The critical-difference diagram over several picture sets."""
    svg = rank_chart(
        list(zip(ranks.names, ranks.ranks, strict=True)),
        ranks.groups,
        title=f"Mean ranks of {len(ranks.names)} settings over {len(ranks.sets)} picture sets",
        distance=ranks.distance,
    )
    first = f"First is {formatting.visible(ranks.names[0])} with a mean rank of {ranks.ranks[0]:.2f}."
    rows = [[Cell(name), Cell(f"{rank:.2f}", rank)] for name, rank in zip(ranks.names, ranks.ranks, strict=True)]
    caption = (
        f"{first} Mean ranks over {counted(len(ranks.sets), 'picture set')}, 1 is best; a bar joins settings that "
        f"cannot be told apart. {ranks.test}. Friedman's test: p {formatting.chance(ranks.p)}."
    )
    return Section(
        "ranks",
        "Over all picture sets",
        [Chart("Critical differences", svg, caption, Table(["setting", "mean rank"], rows))],
        "Ranks",
    )
