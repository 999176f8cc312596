"""The page of a comparison: verdicts, differences with intervals, and the pictures that make the difference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from string import ascii_uppercase

import numpy as np
import numpy.typing as npt

from tellapart.core.scores import score_text
from tellapart.core.text import as_lines, counted
from tellapart.evaluation.comparison import Comparison, Difference
from tellapart.evaluation.significance import ALPHA
from tellapart.report import formatting
from tellapart.report.answers import Answers
from tellapart.report.blocks import Block, Card, Cell, Chart, Fold, Gallery, Page, Section, Side, Table, Text
from tellapart.report.curve_bands import Banded
from tellapart.report.forest import Interval, forest_chart, forest_finding, forest_table, write_forest_figure
from tellapart.report.sections.band_charts import LEGEND, panels, together
from tellapart.report.sections.galleries import first_row
from tellapart.report.sections.settings import settings_section

#: The most contenders: each has a letter.
MOST = len(ascii_uppercase)
_SHOWN, _GALLERIES = 21, 6
#: Metrics shown beside the one that is compared and the headline.
_BESIDE = ("f1_macro", "log_loss")
_THIN = "\u202f"


@dataclass(frozen=True)
class ComparisonDetails:
    """Inputs of the page beside the comparison itself.

    Attributes:
        on: "test", "validation" or "all folds".
        answers: of each contender, to the same pictures in the same order. Of several seeds: their mean.
        settings: recipe keys that differ → the value of each contender.
        notes: lines that must be seen.
        curves: learning curves of each contender, over its seeds; None where it has none, such as an average.
    """

    on: str
    answers: Sequence[Answers]
    settings: Mapping[str, Sequence[str]]
    notes: Sequence[str] = ()
    curves: Sequence[Banded | None] = ()


def amount(metric: str, value: float) -> str:
    """A difference with its sign: "+1.3 points", or "−0.042" of a loss."""
    figure = f"{100 * value:+.1f} points" if formatting.is_share(metric, 0.5) else f"{value:+.3f}"
    return figure.replace("-", "−")


def span_of(metric: str, difference: Difference) -> str:
    """Interval of a difference: "−0.4 to +3.0"."""
    scale, decimals = (100, 1) if formatting.is_share(metric, 0.5) else (1, 3)
    ends = (difference.low * scale, difference.high * scale)
    return " to ".join(f"{end:+.{decimals}f}".replace("-", "−") for end in ends)


def verdict(comparison: Comparison, difference: Difference) -> str:
    """Verdict on a pair in a sentence or two: "B is better than A: …"."""
    first, second = (ascii_uppercase[i] for i in (difference.first, difference.second))
    difference_text = in_words(comparison, difference)
    if difference.verdict != "cannot tell":
        return f"{second} is {difference.verdict} than {first}: {difference_text}."
    n = counted(comparison.n, "picture")
    return f"Cannot tell {second} from {first} with {n}: {difference_text}. {needed(comparison, difference)}"


def in_words(comparison: Comparison, difference: Difference) -> str:
    """A difference with its interval: "+1.3 points of accuracy, 95 % interval −0.4 to +3.0".

    Where the interval alone would tell, and the correction for several comparisons does not, that is said.
    """
    metric = comparison.metric
    sentence = (
        f"{amount(metric, difference.value)} of {_lower(formatting.plain(metric))}, 95 % interval "
        f"{span_of(metric, difference)}"
    )
    if difference.p < ALPHA <= difference.p_corrected:
        p, n = formatting.chance(difference.p_corrected), len(comparison.differences)
        sentence += f", but p is {p} once corrected for {n} comparisons"
    return sentence


def needed(comparison: Comparison, difference: Difference) -> str:
    """Number of pictures needed to prove such a difference, in a sentence."""
    if abs(difference.value) < 1e-12:
        return "No difference was seen."
    if math.isinf(difference.needed):
        return "With so few seeds no number of pictures would tell: train more seeds."
    n = _rounded(max(difference.needed, comparison.n + 1))
    more = f"more than {formatting.count(10_000_000)}" if n > 10_000_000 else f"about {formatting.count(n)}"
    return f"Were it truly so large, {more} pictures would tell."


def text(comparison: Comparison, on: str) -> str:
    """Scores and verdicts, for a terminal."""
    names = [formatting.visible(s.name) for s in comparison.standings]
    width = max(map(len, names))
    lines = [f"{on}, {comparison.metric}, {counted(comparison.n, 'picture')}:"]
    for i, standing in enumerate(comparison.standings):
        score = score_text(comparison.metric, standing.value)
        if standing.deviation is not None:
            deviation = score_text(comparison.metric, standing.deviation)
            score += f" ± {deviation} over {len(standing.scores)} seeds"
        lines.append(f"  {ascii_uppercase[i]}  {names[i]:<{width}}  {score:>7}")
    pairs = comparison.differences
    unit = "points" if formatting.is_share(comparison.metric, 0.5) else "difference"
    lines += ["", f"  pair   {unit:>10}  95 % interval      {'p':>11}  {'pictures needed':>16}  can be told"]
    for pair in pairs:
        cells = [
            f"{ascii_uppercase[pair.second]} − {ascii_uppercase[pair.first]}",
            f"{amount(comparison.metric, pair.value).removesuffix(' points'):>11}",
            f"{span_of(comparison.metric, pair):<17}",
            f"{formatting.chance(pair.p_corrected):>11}",
            f"{_needed_cell(pair):>16}",
            _size(comparison.metric, pair.smallest),
        ]
        lines.append("  " + "  ".join(cells))
    lines += ["", *(verdict(comparison, pair) for pair in pairs[:3]), *comparison.notes]
    tests = ", ".join(dict.fromkeys(pair.test for pair in pairs))
    many = f", corrected for {len(pairs)} comparisons (Holm)" if len(pairs) > 1 else ""
    lines.append(f"p: {tests}{many}. Pictures needed, can be told: with 80 % certainty.")
    lines.append(seeds_note(comparison))
    return as_lines(lines)


def seeds_note(comparison: Comparison) -> str:
    """How far the comparison holds for other seeds, in a sentence."""
    if comparison.seeds_known:
        return (
            "± is the standard deviation over seeds. The intervals take both sources of chance into account: other "
            "pictures and other seeds."
        )
    return (
        "Each recipe was trained once: this is about these networks. Another seed gives another network; to compare "
        "recipes, train each with several seeds."
    )


def comparison_page(comparison: Comparison, details: ComparisonDetails) -> Page:
    """The page of a comparison."""
    names = [formatting.shortened(standing.name, 30) for standing in comparison.standings]
    sections = [_difference_section(comparison), _scores(comparison)]
    sections += [
        *_curves(comparison, details),
        _pictures(comparison, details),
        settings_section(details.settings, "Their recipes are the same but for seeds."),
    ]
    return Page(
        title=" or ".join(names) if len(names) < 4 else f"{len(names)} recipes compared",
        subtitle=[
            f"{formatting.plain(comparison.metric)} on {counted(comparison.n, f'{details.on} picture')}",
            *(f"{letter} = {s.name}" for letter, s in zip(ascii_uppercase, comparison.standings, strict=False)),
        ],
        sections=sections,
        notes=[*details.notes, *comparison.notes],
    )


def write_differences_figure(comparison: Comparison, path: Path) -> None:
    """Write the plot of the differences, a file with a suffix of `FIGURES`."""
    metric = comparison.metric
    names = [f"{ascii_uppercase[i]}: {s.name}" for i, s in enumerate(comparison.standings)]
    write_forest_figure(
        _intervals(comparison), path, x_title=_axis(metric), form=lambda value: _tick(metric, value), legend=names
    )


def _difference_section(comparison: Comparison) -> Section:
    metric = comparison.metric
    worse, better = ("← better", "worse →") if comparison.lower_is_better else ("← worse", "better →")
    intervals = _intervals(comparison)

    def form(value: float) -> str:
        return _tick(metric, value)

    svg = forest_chart(
        intervals,
        title=f"Differences in {_lower(formatting.plain(metric))} with their 95 % intervals",
        x_title=_axis(metric),
        form=form,
        ends=(worse, better),
    )
    caption = (
        f"{forest_finding(intervals, form)} Each line: the score of the first letter less that of the second. "
        "Grey: the difference may be chance."
    )
    lead = [Text(verdict(comparison, pair), "lead") for pair in comparison.differences[:3]]
    chart = Chart("Differences", svg, caption, forest_table(intervals, form))
    blocks: list[Block] = [*lead, chart, _pairs(comparison)]
    blocks.append(Text(seeds_note(comparison), "note"))
    return Section("difference", "Is there a difference?", blocks, "Difference")


def _intervals(comparison: Comparison) -> list[Interval]:
    looks = {"better": "better", "worse": "worse", "cannot tell": ""}
    return [
        Interval(
            f"{ascii_uppercase[pair.second]} − {ascii_uppercase[pair.first]}",
            pair.value,
            pair.low,
            pair.high,
            looks[pair.verdict],
        )
        for pair in comparison.differences
    ]


def _pairs(comparison: Comparison) -> Table:
    rows = []
    for pair in comparison.differences:
        only = ("–", "–") if pair.discordant is None else tuple(map(formatting.count, pair.discordant))
        rows.append(
            [
                Cell(f"{ascii_uppercase[pair.second]} against {ascii_uppercase[pair.first]}"),
                Cell(pair.verdict),
                Cell(amount(comparison.metric, pair.value), pair.value, span_of(comparison.metric, pair)),
                Cell(formatting.chance(pair.p_corrected), pair.p_corrected, pair.test),
                Cell(only[1], float("nan") if pair.discordant is None else pair.discordant[1]),
                Cell(only[0], float("nan") if pair.discordant is None else pair.discordant[0]),
                Cell(_needed_cell(pair), min(pair.needed, 1e12)),
                Cell(_size(comparison.metric, pair.smallest), pair.smallest),
            ]
        )
    corrected = (
        f"p is corrected for {len(rows)} comparisons (Holm); the intervals stand each for itself. " if rows[1:] else ""
    )
    caption = (
        f"{corrected}Only first right: pictures that the first letter alone answers rightly. "
        "p: how often chance alone would make so large a difference; below 0.05 counts as told. "
        "Pictures needed: to tell with 80 % certainty, if the true difference is the one seen. "
        "Can be told: the difference that these pictures show with 80 % certainty."
    )
    columns = ["pair", "verdict", "difference", "p", "only first right", "only second right"]
    return Table([*columns, "pictures needed", "can be told"], rows, caption, sortable=len(rows) > 2)


def _needed_cell(pair: Difference) -> str:
    if math.isinf(pair.needed):
        return "–"
    n = _rounded(pair.needed)
    return formatting.count(n) if n <= 10_000_000 else f"over {formatting.count(10_000_000)}"


def _scores(comparison: Comparison) -> Section:
    metric, leading = comparison.metric, comparison.leading
    mark = "best" if len(leading) == 1 else "among the best" if len(leading) < len(comparison.standings) else ""
    known = comparison.standings[0].others
    names = list(dict.fromkeys([metric, next(iter(known)), *(name for name in _BESIDE if name in known)]))
    rows = []
    for i, standing in enumerate(comparison.standings):
        cells = [Cell(f"{ascii_uppercase[i]}  {standing.name}")]
        for name in names:
            value = standing.others[name]
            quiet = [mark] if name == metric and i in leading and mark else []
            if name == metric and standing.deviation is not None:
                quiet.insert(0, f"± {_size(name, standing.deviation)}, {len(standing.scores)} seeds")
            cells.append(Cell(formatting.score(name, value), value, ", ".join(quiet)))
        rows.append(cells)
    caption = "All on the same pictures. Only the first score was compared."
    if mark:
        caption += " Best: proven better than each of the others; among the best: it cannot be told from the highest."
    if any(s.deviation is not None for s in comparison.standings):
        caption += " Of several seeds: the mean, ± standard deviation."
    table = Table(["run", *map(formatting.plain, names)], rows, caption, sortable=len(rows) > 2)
    return Section("scores", "Scores", [table])


def _curves(comparison: Comparison, details: ComparisonDetails) -> list[Section]:
    """The learning curves of those that have such, as `tellapart curves` and studies show them."""
    named = [
        (ascii_uppercase[i], f"{ascii_uppercase[i]}  {comparison.standings[i].name}", curves)
        for i, curves in enumerate(details.curves)
        if curves is not None
    ]
    if not named:
        return []
    blocks: list[Block] = [Side(together(named)), Side(panels(named), small=True), Text(LEGEND, "note")]
    return [Section("curves", "Learning curves", blocks, "Curves")]


def _pictures(comparison: Comparison, details: ComparisonDetails) -> Section:
    """Galleries of pictures that one contender answers better than the other, both ways; those of the best first."""
    order = sorted(combinations(range(len(details.answers)), 2), key=lambda pair: comparison.best not in pair)
    shown, folded = order[:1], order[1:_GALLERIES]
    blocks: list[Block] = [block for i, j in shown for block in _both_ways(details, i, j)]
    for i, j in folded:
        blocks.append(Fold(f"Where {ascii_uppercase[i]} and {ascii_uppercase[j]} differ", _both_ways(details, i, j)))
    if len(order) > _GALLERIES:
        blocks.append(Text(f"Shown for {_GALLERIES} of {len(order)} pairs.", "note"))
    if any(s.deviation is not None for s in comparison.standings):
        blocks.append(Text("Of several seeds: what the mean of their probabilities answers.", "note"))
    return Section("pictures", "The pictures that make the difference", blocks, "Pictures")


def _both_ways(details: ComparisonDetails, i: int, j: int) -> list[Block]:
    return [
        block
        for right, wrong in ((j, i), (i, j))
        for block in first_row(_gallery(details, right, wrong), f"that {ascii_uppercase[right]} has right")
    ]


def _gallery(details: ComparisonDetails, right: int, wrong: int) -> Gallery:
    """Pictures answered rightly by one and wrongly by the other, the most surely wrong first."""
    good, bad = details.answers[right], details.answers[wrong]
    gained = _n_wrong(bad) - _n_wrong(good)
    positions = np.flatnonzero(gained > 0)
    sure = bad.probabilities.max(axis=1)
    positions = positions[np.lexsort((-sure[positions], -gained[positions]))]
    letter, other = ascii_uppercase[right], ascii_uppercase[wrong]
    cards = [bad.card(int(i), note=_answer_note(letter, good, int(i))) for i in positions[:_SHOWN].tolist()]
    multilabel = good.predictions.multilabel
    title = f"more labels right in {letter} than in {other}" if multilabel else f"right in {letter}, wrong in {other}"
    more = f"{counted(len(positions), 'picture')}; here are {len(cards)}. " if len(positions) > len(cards) else ""
    caption = f"{more}Shown is the answer of {other}, the surest first."
    return Gallery(f"{formatting.count(len(positions))} {title}", cards, caption, "There is no such picture.")


def _n_wrong(answers: Answers) -> npt.NDArray[np.int64]:
    wrong = np.asarray(answers.answered != answers.labels)
    return np.asarray(wrong.reshape(len(wrong), -1).sum(axis=1), np.int64)


def _answer_note(letter: str, answers: Answers, i: int) -> str:
    card: Card = answers.card(i)
    labels = ", ".join(
        f"{formatting.visible(a.name)} {formatting.certainty(a.certainty or 0.0)}" for a in card.answered
    )
    return f"{letter}: {labels or 'no label'}"


def _rounded(n: float) -> int:
    """Round to two digits: such an estimate deserves no more."""
    digits = max(0, math.floor(math.log10(max(n, 1))) - 1)
    return int(math.ceil(n / 10**digits) * 10**digits)


def _size(metric: str, value: float) -> str:
    return f"{100 * value:.1f} points" if formatting.is_share(metric, 0.5) else f"{value:.3f}"


def _tick(metric: str, value: float) -> str:
    if formatting.is_share(metric, 0.5):
        value *= 100
    return f"{value:+.4g}".replace("-", "−") if abs(value) > 1e-9 else "0"


def _axis(metric: str) -> str:
    unit = ", percentage points" if formatting.is_share(metric, 0.5) else ""
    return f"difference in {_lower(formatting.plain(metric))}{unit}"


def _lower(name: str) -> str:
    return name if name[:2] == "F1" else name[:1].lower() + name[1:]
