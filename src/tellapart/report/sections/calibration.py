"""Calibration: reliability before and after the temperature, prediction sets, out-of-distribution pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tellapart.core.scores import Metric
from tellapart.core.text import counted
from tellapart.report import formatting
from tellapart.report.blocks import Block, Cell, Chart, Fold, Section, Side, Table, Text
from tellapart.report.charts import line_chart
from tellapart.report.lines import Line, values_table
from tellapart.runs.run import Run

#: So few points of a diagram have no shape.
_FEW = 3
_MEANING = {
    "accepted": "pictures of the known classes that are answered",
    "accuracy_of_accepted": "of those, answered rightly",
    "right_and_accepted": "of all, answered and rightly so",
}


def certainty(run: Run) -> Section | None:
    """The section on calibration, from `evaluation.json`; None where that has nothing on it."""
    values = run.evaluation_values
    parts = values.get("certainty", {})
    on = next(iter(values["evaluations"]))
    if on not in parts:  # a training of an earlier version
        return None
    summary = parts[on]
    multilabel = values["thresholds"] is not None
    first, *rest = _error_sentences(summary, on, multilabel)
    blocks: list[Block] = [Text(first, "lead"), Text(" ".join(rest), "note")]
    if summary.get("sets"):
        blocks.append(Fold(_sets_line(summary["sets"]), [_sets(summary["sets"], values["n_validation"])]))
    if summary.get("unknown"):
        blocks.append(Fold(_unknown_line(summary["unknown"]), [_unknown(summary["unknown"], values["ood_score"])]))
    if values.get("tta"):
        blocks.append(Text(values["tta"]["sentence"]))
    blocks.append(Fold("Before the correction", [_diagram("Before the correction", summary["before"])]))
    side = Side([blocks, _diagram("As answered", summary["after"])])
    return Section("certainty", "Can its certainty be trusted?", [side], "Certainty", after="next")


def _sets_line(sets: Sequence[Mapping[str, Any]]) -> str:
    """What sets of classes promise and held, in a line."""
    last = sets[-1]
    return (
        f"Several classes instead of one: sets that promise the right one in {formatting.percent(last['coverage'], 0)} "
        f"held it in {formatting.percent(last['covered']['value'])}"
    )


def _unknown_line(shares: Mapping[str, Any]) -> str:
    share = f"{formatting.percent(shares['accepted']['value'])} of" if "accepted" in shares else "not all"
    return f"None of these: {share} pictures of known classes get an answer, the others “unknown”"


def _error_sentences(summary: Mapping[str, Any], on: str, multilabel: bool) -> list[str]:
    before, after = Metric(**summary["before"]["error"]), Metric(**summary["after"]["error"])
    quantity = "a label's probability" if multilabel else "the certainty of an answer"
    sentences = [
        f"On average {quantity} is off by {formatting.percent(after.value)} "
        f"({formatting.SURE} interval {formatting.interval('', after)}).",
        f"Measured on the {on} pictures; without its correction it would be off by "
        f"{formatting.percent(before.value)} ({formatting.interval('', before)}).",
        "This is the expected calibration error; with few pictures it is above 0 even where every certainty is true.",
    ]
    if on == "validation":
        sentences.append("It was fitted on these very pictures, so this is flattering.")
    return sentences


def _diagram(title: str, reliability: Mapping[str, Any]) -> Chart:
    """Reliability diagram: accuracy over certainty."""
    bins = reliability["bins"]
    right = Line("right", [b["certainty"] for b in bins], [b["right"]["value"] for b in bins])
    svg = line_chart(
        [Line("ideal", [0.0, 1.0], [0.0, 1.0], quiet=True), right],
        title=f"{title}: share that is right, over certainty",
        x_title="certainty",
        form=_whole_percent,
        y_limits=(0.0, 1.0),
    )
    return Chart(title, svg, _bins_sentence(bins), values_table([right], "certainty", _whole_percent))


def _whole_percent(share: float) -> str:
    return formatting.percent(share, 0)


def _bins_sentence(bins: Sequence[Mapping[str, Any]]) -> str:
    """Whether answers are too sure or too modest, as far as so many points can tell."""
    off = [b["right"]["value"] - b["certainty"] for b in bins]
    sure = [b for b in bins if not b["right"]["low"] <= b["certainty"] <= b["right"]["high"]]
    way = "too modest" if sum(off) > 0 else "too sure"
    text = f"Mostly {way}" if sure else "No point is proven off the straight line"
    are = "is" if len(bins) == 1 else "are"
    few = f" There {are} {counted(len(bins), 'point')} only: too few to read a shape from." if len(bins) <= _FEW else ""
    return f"{text}: above it an answer is too modest, below it too sure.{few}"


def _metric(values: Mapping[str, Any]) -> Cell:
    metric = Metric(**values)
    return Cell(formatting.percent(metric.value), metric.value, quiet=formatting.interval("", metric))


def _sets(sets: list[Mapping[str, Any]], n_validation: int) -> Table:
    rows = [
        [
            Cell(formatting.percent(entry["coverage"], 0), entry["coverage"]),
            _metric(entry["covered"]),
            Cell(f"{entry['size']:.2f}", entry["size"]),
        ]
        for entry in sets
    ]
    return Table(
        ["coverage", "sets that hold the right class", "classes a set"],
        rows,
        "Asked for with --coverage, an answer is a set of classes that holds the right one at least this often, "
        f"as {formatting.count(n_validation)} validation pictures promise.",
        title="Prediction sets",
    )


def _unknown(shares: Mapping[str, Any], ood_score: Mapping[str, Any]) -> Table:
    rows = [[Cell(_MEANING[name]), _metric(values)] for name, values in shares.items()]
    default = (
        "That is the default; --no-unknown answers all." if ood_score["by_default"] else "Only if asked: --unknown."
    )
    return Table(
        ["what", "share"],
        rows,
        "A picture unlike all classes is answered with “unknown”; the limit is such that at least "
        f"{formatting.percent(ood_score['share'])} of known pictures are expected to be answered. {default}",
        title="None of these",
    )
