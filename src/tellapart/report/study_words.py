"""A study in words: the finding, verdicts, scores with their intervals, and the paragraph on methods."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tellapart.core.scores import is_share
from tellapart.core.text import counted
from tellapart.evaluation.comparison import Verdict
from tellapart.evaluation.study_summary import CellDifference, CellResult, Span, StudySummary
from tellapart.report import formatting

#: More seeds than this are "more than" so many: nobody trains them.
_MANY_SEEDS = 1_000


def label(summary: StudySummary, one: CellResult) -> str:
    """A cell by its levels: "lr = 0.01, dropout = none"; where one thing was changed at a time, by what was changed."""
    names: Sequence[str] = list(one.levels)
    baseline = summary.cell(summary.baseline)
    if summary.one_at_a_time and baseline is not None:
        if one.cell == baseline.cell:
            return "baseline"
        every = dict.fromkeys([*baseline.levels, *one.levels])
        names = [name for name in every if one.levels.get(name) != baseline.levels.get(name)]
    return ", ".join(f"{short_factor(name)} = {one.levels.get(name, '–')}" for name in names) or "as the recipe has it"


def baseline_words(summary: StudySummary) -> str:
    """The baseline's levels, where tables call it "baseline"; else ""."""
    baseline = summary.cell(summary.baseline)
    if not summary.one_at_a_time or baseline is None:
        return ""
    return ", ".join(f"{short_factor(name)} = {level}" for name, level in baseline.levels.items())


def short_factor(name: str) -> str:
    """A factor's name without what goes without saying: "stages.0.lr" → "lr", but "stages.1.lr" as it is."""
    return name.removeprefix("stages.0.").removeprefix("model.").removeprefix("data.")


def both_names(name: str) -> str:
    """The name of a factor, or of two with "×" between them, as charts have it."""
    return " × ".join(short_factor(part) for part in name.split(" × "))


def metric_words(metric: str) -> str:
    """A metric as it stands in a sentence."""
    return "number of parameters" if metric == "n_parameters" else formatting.plain(metric).lower().replace(",", "")


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: "a, b and c"."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def value(metric: str, number: float) -> str:
    """A score as it is shown, with its unit: "92.4 %", "0.214", "1 min 3 s"."""
    if metric == "seconds":
        return formatting.duration(number)
    if metric == "n_parameters":
        return f"{number:,.0f}" if math.isfinite(number) else "–"
    return formatting.score(metric, number)


def axis_form(metric: str) -> Callable[[float], str]:
    """How a score is written at an axis: "92.5 %", "0.31"."""
    if is_share(metric):
        return formatting.short_percent
    return lambda number: f"{number:,.4g}"


def amount(metric: str, number: float, unit: bool = True) -> str:
    """A difference with its sign: "+1.3 points", "−0.042", "+12 s"."""
    if not math.isfinite(number):
        return "–"
    if is_share(metric):
        text = f"{100 * number:+.1f}{' points' if unit else ''}"
    elif metric == "seconds":
        text = f"{number:+.1f}{' s' if unit else ''}"
    elif metric == "n_parameters":
        text = f"{number:+,.0f}"
    else:
        text = f"{number:+.3f}"
    return text.replace("-", "−")


def interval(metric: str, low: float, high: float) -> str:
    """The ends of a difference's interval: "−0.4 to +3.0"; "" where there is none."""
    if not math.isfinite(low):
        return ""
    return f"{amount(metric, low, unit=False)} to {amount(metric, high, unit=False)}"


def plus_minus(metric: str, span: Span) -> str:
    """Half the width of a mean's interval: "± 1.2"; "" where there is none."""
    if not math.isfinite(span.low):
        return ""
    half = span.value - span.low
    return f"± {100 * half:.1f}" if is_share(metric) else f"± {half:,.3g}"


def verdict(summary: StudySummary, one: CellResult) -> str:
    """The verdict on a cell: "baseline", "better", "worse", "cannot tell" or "no score"."""
    if one.cell == summary.baseline:
        return "baseline"
    if not one.n:
        return "no score"
    if one.difference is None:
        return "not compared"
    if one.difference.verdict != "cannot tell":
        return one.difference.verdict
    return "cannot tell"


def verdict_note(summary: StudySummary, one: CellResult) -> str:
    """What stands beside the verdict: what it would take to tell; "" where it can be told."""
    told = one.difference is None or one.difference.verdict != "cannot tell"
    return "" if told or one.difference is None else what_it_takes(summary, one.difference)


def what_it_takes(summary: StudySummary, difference: CellDifference) -> str:
    """What would tell a difference that cannot be told, if it is truly as large as the one seen."""
    if len(difference.by_seed) < 2:
        return "one seed"
    if not difference.value:
        return "no difference was seen"
    pictures = counted(summary.n_pictures, "validation picture")
    if math.isfinite(difference.more_seeds):
        n = round(difference.more_seeds)
        if n > _MANY_SEEDS:
            return f"more than {_MANY_SEEDS:,} more seeds"
        return f"about {counted(n, 'more seed')}"
    if math.isfinite(difference.pictures):
        return f"never with {pictures}, about {rounded(difference.pictures):,} would do"
    if summary.n_pictures:
        return f"never with {pictures}: more of them, and more seeds"
    return "no number of seeds would do"


def rounded(n: float) -> int:
    """Rounded up to two digits: such an estimate deserves no more."""
    digits = max(0, math.floor(math.log10(max(n, 1))) - 1)
    return int(math.ceil(n / 10**digits) * 10**digits)


def finding(summary: StudySummary) -> list[str]:
    """The finding in two or three sentences, the first one what a reader takes home."""
    best = summary.cell(summary.best)
    if best is None:
        return ["No setting has a score yet."]
    sentences = [_first_sentence(summary, best), _about_baseline(summary)]
    if summary.others:
        sentences.append(_about_front(summary))
    if summary.importance and not _is_chance(summary):
        first = summary.importance[0]
        share, part = formatting.percent(first.share, 0), "most" if first.share > 0.5 else "the largest part"
        sentences.append(f"{both_names(first.name)} makes {part} of the differences between settings ({share}).")
    return [sentence for sentence in sentences if sentence]


def _is_chance(summary: StudySummary) -> bool:
    """Whether no setting can be told from another one: then no factor makes a difference that is any."""
    verdicts = {one.difference.verdict for one in summary.cells if one.difference is not None}
    return verdicts <= {"cannot tell"} and len(summary.leading) == sum(1 for one in summary.cells if one.n)


def _few_labels(summary: StudySummary, cells: Sequence[CellResult], most: int) -> str:
    """The first few cells; their labels have commas."""
    more = f"; and {len(cells) - most:,} more" if len(cells) > most else ""
    return "; ".join(label(summary, one) for one in cells[:most]) + more


def _about_front(summary: StudySummary) -> str:
    """The settings that no other one beats in all objectives."""
    names = listed([metric_words(name) for name in (summary.metric, *summary.others)])
    front = [one for one in summary.cells if one.on_front]
    labels = _few_labels(summary, front, 3)
    are = "is" if len(front) == 1 else "are"
    return f"In {names} together, {counted(len(front), 'setting')} {are} beaten by no other: {labels}."


def _first_sentence(summary: StudySummary, best: CellResult) -> str:
    leading, scored = summary.leading, [one for one in summary.cells if one.n]
    score = f"{value(summary.metric, best.score.value)}"
    if len(scored) == 1:
        return f"One setting has a score: {score} ({label(summary, best)})."
    if len(leading) == 1:
        against = ""
        if best.difference is not None:
            against = f", {amount(summary.metric, best.difference.value)} against the baseline"
        baseline = ", the baseline," if best.cell == summary.baseline and not summary.one_at_a_time else ""
        return f"{_capital(label(summary, best))}{baseline} is best: {score} over {counted(best.n, 'seed')}{against}."
    if len(leading) == len(scored):
        return f"No setting can be told from the best: {_low(label(summary, best))} has the highest score, {score}."
    return (
        f"{len(leading):,} of {len(scored):,} settings cannot be told from the best: "
        f"{_low(label(summary, best))} has the highest score, {score}."
    )


def _capital(text: str) -> str:
    return "The baseline" if text == "baseline" else text


def _low(text: str) -> str:
    return "the baseline" if text == "baseline" else text


def _about_baseline(summary: StudySummary) -> str:
    judged = [one for one in summary.cells if one.difference is not None]
    if not judged:
        return ""
    order: tuple[Verdict, ...] = ("better", "worse", "cannot tell")
    groups = {name: [one for one in judged if one.difference and one.difference.verdict == name] for name in order}
    if len(groups["cannot tell"]) == len(judged):
        return (
            f"{label(summary, judged[0])} cannot be told from the baseline."
            if len(judged) == 1
            else f"None of {len(judged):,} settings can be told from the baseline."
        )
    words = []
    for name in order[:2]:
        if groups[name]:
            names = _few_labels(summary, groups[name], 2)
            words.append(f"{len(groups[name]):,} {'is' if len(groups[name]) == 1 else 'are'} {name} ({names})")
    if groups["cannot tell"]:
        words.append(f"{len(groups['cannot tell']):,} cannot be told from it")
    return f"Of {counted(len(judged), 'setting')} held against the baseline, {', '.join(words)}."
