"""Learning-rate tests of a training: loss over learning rate, with the one that was taken marked."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np

from tellapart.core.text import lr_text
from tellapart.report.blocks import Block, Chart, Section, Side
from tellapart.report.charts import line_chart
from tellapart.report.lines import Line, values_table
from tellapart.runs.run import Run


def lr_finder(run: Run) -> Section | None:
    """A chart for each stage with a learning-rate test; None where no stage had one."""
    events = {event["stage"]: event for event in run.events() if event["event"] == "LrFound"}
    charts: list[Block] = [_chart(events[stage]) for stage in sorted(events) if events[stage]["lrs"]]
    return Section("training", "", [Side(charts)]) if charts else None


def _chart(event: Mapping[str, Any]) -> Chart:
    x, smoothed = np.asarray(event["lrs"], float), np.asarray(event["smoothed"], float)
    # The end, where the loss blows up, would flatten all the rest; so would single losses far above the others.
    low, high = smoothed.min(), smoothed[: max(1, len(smoothed) // 2)].max()
    top = high + 0.5 * ((high - low) or abs(high) or 1.0)
    lines = [
        Line("loss", x.tolist(), _below(event["losses"], top), quiet=True, end=""),
        Line("smoothed", x.tolist(), _below(smoothed, top), end=""),
    ]
    lr, rule = float(event["lr"]), event["taken"].replace("_", " ")
    if event["taken"] != "otherwise":
        lines.append(
            Line(
                f"{rule} {lr_text(lr)}, loss",
                [lr],
                [float(np.interp(lr, x, smoothed))],
                hue=2,
                end=_SHORT.get(event["taken"], rule),
            )
        )
    svg = line_chart(
        lines,
        title=f"Learning-rate test of stage {event['stage'] + 1}: loss over learning rate",
        x_title="learning rate",
        log_x=True,
    )
    return Chart(
        f"Learning-rate test, stage {event['stage'] + 1}",
        svg,
        " ".join(_sentences(event)),
        values_table(lines[:2], "learning rate"),
    )


def _sentences(event: Mapping[str, Any]) -> list[str]:
    rule = event["taken"].replace("_", " ")
    if event["taken"] == "otherwise":
        rule = "the recipe's own, as the loss did not fall in the test"
    sentences = [f"The stage took {lr_text(event['lr'])} ({rule})."]
    if event.get("setting"):
        sentences.append(f"Without a test: --set {shlex.quote(event['setting'])}.")
    if event.get("diverges"):
        sentences.append(f"The loss diverges at {lr_text(event['diverges'])}; no suggestion lies in the decade before.")
    elif not event["rose"]:
        sentences.append("The loss never rose clearly: the test ended before the learning rate was too high.")
    return sentences


#: Short names of suggestions: there is little room at the right end of a chart.
_SHORT = {"tenth_of_minimum": "min. / 10", "highest_falling": "still falling"}


def _below(losses: Any, top: float) -> list[float]:
    return [loss if loss <= top else math.nan for loss in map(float, losses)]
