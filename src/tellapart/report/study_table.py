"""The table of a study in text: for the terminal, Markdown, LaTeX and CSV. All from one list of rows."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tellapart.core.csv_text import csv_text
from tellapart.core.files import guarded
from tellapart.core.scores import is_share
from tellapart.core.text import as_lines, visible
from tellapart.evaluation.study_summary import CellDifference, CellResult, StudySummary
from tellapart.report import formatting
from tellapart.report.study_words import (
    amount,
    baseline_words,
    finding,
    interval,
    label,
    metric_words,
    plus_minus,
    value,
    verdict,
    verdict_note,
)

#: Rows on a terminal; the page and the CSV have all.
_MOST_LINES = 60
_LEADING = "● cannot be told from the best."
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "×": r"$\times$",
    "−": r"$-$",
    "±": r"$\pm$",
    "\u202f": r"\,",
    "–": "--",
    "→": r"$\rightarrow$",
    "↗": r"$\nearrow$",
    "…": r"\ldots{}",
    "“": "``",
    "”": "''",
    "„": ",,",
    "‘": "`",
    "’": "'",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    # Behind a line's end these would be its options.
    "[": "{[}",
    "*": "{*}",
    # In the fonts of old another sign each, or joined to another one.
    "|": r"\textbar{}",
    '"': r"{\ttfamily\char34}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "-": "{-}",
}
_LATEX_SIGNS = re.compile("|".join(map(re.escape, _LATEX)))


@dataclass(frozen=True)
class Row:
    """A cell in text. `bold`: it is proven better than every other one. `leading`: it cannot be told from the best.

    `others`: further objectives that are metrics; time and parameters stand there anyway.
    """

    setting: str
    score: str
    spread: str
    seeds: str
    difference: str
    interval: str
    p: str
    verdict: str
    note: str
    training: str
    minutes: str
    parameters: str
    others: tuple[str, ...] = ()
    bold: bool = False
    leading: bool = False


def other_metrics(summary: StudySummary) -> list[str]:
    """The further objectives that no column shows anyway."""
    return [name for name in summary.others if name not in ("seconds", "n_parameters")]


def rows(summary: StudySummary) -> list[Row]:
    """One a cell, the best first."""
    sign = 1 if summary.lower_is_better else -1
    order = sorted(summary.cells, key=lambda one: (not one.n, sign * one.score.value if one.n else 0.0, one.number))
    return [_row(summary, one) for one in order]


def _row(summary: StudySummary, one: CellResult) -> Row:
    difference, metric = one.difference, summary.metric
    alone = one.leading and len(summary.leading) == 1
    return Row(
        setting=label(summary, one),
        score=value(metric, one.score.value),
        spread=plus_minus(metric, one.score),
        seeds=f"{one.n}",
        difference="–" if difference is None else amount(metric, difference.value, unit=False),
        interval="" if difference is None else interval(metric, difference.low, difference.high),
        p="" if difference is None or math.isnan(difference.p_corrected) else formatting.chance(difference.p_corrected),
        verdict=verdict(summary, one),
        note=verdict_note(summary, one),
        training=formatting.percent(one.training.value),
        minutes=f"{one.minutes.value:.1f}" if math.isfinite(one.minutes.value) else "–",
        parameters="–" if one.n_parameters is None else formatting.count(one.n_parameters),
        others=tuple(value(name, one.others.get(name, math.nan)) for name in other_metrics(summary)),
        bold=alone,
        leading=one.leading and not alone and len(summary.leading) < len(summary.cells),
    )


def text(summary: StudySummary) -> str:
    """The finding and the table, for a terminal."""
    listed = rows(summary)
    shown = listed[:_MOST_LINES]
    width = min(48, max((len(row.setting) for row in shown), default=0))
    unit = " (points)" if is_share(summary.metric) else ""
    lines = list(finding(summary))
    lines += ["", f"  {'setting':<{width}}  {summary.metric:>10}  {'':<7} seeds  {f'difference{unit}':>28}  verdict"]
    for row in shown:
        difference = f"{row.difference} ({row.interval})" if row.interval else row.difference
        mark = "●" if row.leading else " "
        note = f" ({row.note})" if row.note else ""
        lines.append(
            f"{mark} {formatting.shortened(row.setting, width):<{width}}  {row.score:>10}  {row.spread:<7} "
            f"{row.seeds:>5}  {difference:>28}  {row.verdict}{note}"
        )
    if len(listed) > len(shown):
        lines.append(f"  and {len(listed) - len(shown):,} more: study.html and table.csv have all.")
    if base := baseline_words(summary):
        lines.append(f"The baseline: {base}.")
    if any(row.leading for row in shown):
        lines.append(_LEADING)
    failed = [(label(summary, one), reason, n) for one in summary.cells for reason, n in one.failed.items()]
    lines += [f"Failed, {n} times: {name}: {reason}" for name, reason, n in failed[:10]]
    if len(failed) > 10:
        lines.append(f"and {len(failed) - 10:,} more failed.")
    return as_lines([*lines, *summary.notes])


_COLUMNS = (
    *("setting", "validation", "seeds", "difference", "95 % interval", "p (Holm)", "verdict"),
    *("training", "minutes", "parameters"),
)


def markdown(summary: StudySummary) -> str:
    """The table in Markdown (GitHub's)."""
    heads = [*_COLUMNS, *map(metric_words, other_metrics(summary))]
    lines = [_markdown_line(heads), _markdown_line(["---"] * len(heads))]
    for row in rows(summary):
        cells = [_markdown_text(cell) for cell in _cells(row)]
        if row.bold:
            cells[1] = f"**{cells[1]}**"
        lines.append(_markdown_line(cells))
    return "\n".join(lines) + "\n" + (f"\n{_LEADING}\n" if any(row.leading for row in rows(summary)) else "")


def _cells(row: Row) -> list[str]:
    note = f" ({row.note})" if row.note else ""
    mark = " ●" if row.leading else ""
    score = f"{row.score} {row.spread}".strip() + mark
    first = [row.setting, score, row.seeds, row.difference, row.interval, row.p, row.verdict + note]
    return [*first, row.training, row.minutes, row.parameters, *row.others]


def _markdown_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_text(text: str) -> str:
    """A text that Markdown shows as it is: no sign of it does anything, and no HTML."""
    return re.sub(r"([\\`*_\[\]<>#|~&])", r"\\\1", visible(text)) if text else ""


def latex(summary: StudySummary, caption: str) -> str:
    """The table in LaTeX, for the package booktabs."""
    heads = ["Setting", "Validation", "$n$", "Difference", r"95\,\% interval", "$p$", "Verdict"]
    heads += ["Minutes", "Parameters", *(latex_text(metric_words(name)) for name in other_metrics(summary))]
    listed = rows(summary)
    mark = r" $^\bullet$: cannot be told from the best." if any(row.leading for row in listed) else ""
    lines = [
        r"% Needs \usepackage{booktabs}.",
        *_fonts([caption, *(row.setting for row in listed)]),
        r"\begin{table}",
        rf"  \caption{{{latex_text(caption)}{mark}}}",
        rf"  \begin{{tabular}}{{lrrrlrlrr{'r' * len(other_metrics(summary))}}}",
        r"    \toprule",
        f"    {' & '.join(heads)} \\\\",
        r"    \midrule",
    ]
    for row in listed:
        score = latex_text(f"{row.score} {row.spread}".strip())
        score = rf"\textbf{{{score}}}" if row.bold else score + (r"$^\bullet$" if row.leading else "")
        rest = (row.seeds, row.difference, row.interval, row.p, row.verdict, row.minutes, row.parameters, *row.others)
        lines.append("    " + " & ".join([latex_text(row.setting), score, *map(latex_text, rest)]) + r" \\")
    return "\n".join([*lines, r"    \bottomrule", r"  \end{tabular}", r"\end{table}", ""])


def latex_text(text: str) -> str:
    """A text that LaTeX sets as it is: none of its signs is a command, and no two of them become another one."""
    return _LATEX_SIGNS.sub(lambda match: _LATEX[match[0]], visible(text))


def _fonts(texts: Sequence[str]) -> list[str]:
    """What a table needs for letters that pdfLaTeX does not know: those outside of the Latin alphabets."""
    rest = _LATEX_SIGNS.sub("", "".join(texts))
    others = any(sign > "\u024f" for sign in rest)
    return ["% Letters that are not Latin: XeLaTeX or LuaLaTeX, with a font that has them."] if others else []


def records(summary: StudySummary) -> list[dict[str, str | float | int | None]]:
    """Every cell in full precision, in the order of the design: column → value; None where there is none.

    A factor that is called as another column, such as "low", stands as "low (factor)".
    """
    factors = list(dict.fromkeys(name for one in summary.cells for name in one.levels))
    return [_record(summary, one, factors) for one in summary.cells]


def _record(summary: StudySummary, one: CellResult, factors: Sequence[str]) -> dict[str, str | float | int | None]:
    nothing = CellDifference(math.nan, math.nan, math.nan, math.nan, math.nan, "cannot tell", {}, math.nan)
    difference = one.difference or nothing
    measured: dict[str, str | float | int | None] = {
        summary.metric: _number(one.score.value),
        "low": _number(one.score.low),
        "high": _number(one.score.high),
        "seeds": one.n,
        "training_accuracy": _number(one.training.value),
        "minutes": _number(one.minutes.value),
        "parameters": one.n_parameters,
        "difference": _number(difference.value),
        "difference_low": _number(difference.low),
        "difference_high": _number(difference.high),
        "p": _number(difference.p),
        "p_holm": _number(difference.p_corrected),
        "verdict": verdict(summary, one),
        "more_seeds": _number(difference.more_seeds),
        "among_best": int(one.leading),
        "still_rising": one.still_rising,
        "failed": sum(one.failed.values()),
        "stopped": sum(one.stopped.values()),
        **{name: _number(one.others.get(name, math.nan)) for name in other_metrics(summary)},
        **({"on_front": int(one.on_front)} if summary.others else {}),
    }
    taken = {"cell", *measured}
    levels = {f"{name} (factor)" if name in taken else name: one.levels.get(name) for name in factors}
    return {"cell": one.cell, **levels, **measured}


def table_csv(summary: StudySummary) -> str:
    """`records` as CSV; texts that a spreadsheet would run as a formula have a quote in front."""
    listed = records(summary)
    head = [guarded(name) for name in listed[0]] if listed else ["cell"]
    return csv_text([head, *([_csv_value(value) for value in record.values()] for record in listed)])


def _csv_value(value: str | float | None) -> str | float | None:
    return guarded(value) if isinstance(value, str) else value


def _number(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None
