"""Calibration: reliability before and after the temperature, prediction sets, out-of-distribution pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tellapart.core.scores import Metric
from tellapart.report import formatting
from tellapart.report.blocks import Block, Cell, Chart, Section, Side, Table, Text
from tellapart.report.charts import Line, line_chart
from tellapart.runs.run import Run

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
    blocks: list[Block] = [Text(_error_sentence(summary, on, multilabel), "lead")]
    blocks.append(
        Side([_diagram("Before the temperature", summary["before"]), _diagram("As answered", summary["after"])])
    )
    if summary.get("sets"):
        blocks.append(_sets(summary["sets"], values["n_validation"]))
    if summary.get("unknown"):
        blocks.append(_unknown(summary["unknown"], values["ood_score"]))
    if values.get("tta"):
        blocks.append(Text(values["tta"]["sentence"]))
    return Section("certainty", "How far its certainty can be trusted", blocks, "Certainty", after="score")


def _error_sentence(summary: Mapping[str, Any], on: str, multilabel: bool) -> str:
    before, after = Metric(**summary["before"]["error"]), Metric(**summary["after"]["error"])
    quantity = "a label's probability" if multilabel else "the certainty of an answer"
    flattering = " It was fitted on these very pictures, so this is flattering." if on == "validation" else ""
    return (
        f"On average {quantity} is off by {formatting.percent(after.value)} (95\u202f% interval "
        f"{formatting.interval('', after)}), "
        f"measured on the {on} pictures; without the temperature by {formatting.percent(before.value)} "
        f"({formatting.interval('', before)}). This is the expected calibration error; with few pictures it is "
        "above 0 even "
        f"where every certainty is true.{flattering}"
    )


def _diagram(title: str, reliability: Mapping[str, Any]) -> Chart:
    """Reliability diagram: accuracy over certainty."""
    bins = reliability["bins"]
    svg = line_chart(
        [
            Line("ideal", [0.0, 1.0], [0.0, 1.0], quiet=True),
            Line("right", [b["certainty"] for b in bins], [b["right"]["value"] for b in bins]),
        ],
        title=f"{title}: share that is right, over certainty",
        x_title="certainty",
        form=lambda share: formatting.percent(share, 0),
        y_limits=(0.0, 1.0),
    )
    return Chart(title, svg, "Above the straight line it is too modest, below it too sure.")


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
