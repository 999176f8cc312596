"""Learning curves, stages and epochs of a training."""

from __future__ import annotations

import math
from itertools import pairwise

from tellapart.core.text import lr_text
from tellapart.report import formatting
from tellapart.report.blocks import Block, Cell, Chart, Fold, Section, Side, Table, Text
from tellapart.report.charts import line_chart
from tellapart.report.curves import Curves, above_sentence, loss_top
from tellapart.report.lines import Line, digits, values_table
from tellapart.report.sections.curve_words import accuracy_finding, jump_notes, loss_finding, stages_line


def training_section(course: Curves) -> Section | None:
    """Curves of loss, accuracy and learning rate; stages; every epoch as a table."""
    if not course.epoch:
        return None
    drawn = (
        _curve_chart(course, "Loss", course.train_loss, course.validation_loss),
        _curve_chart(course, course.accuracy_name, course.train_accuracy, course.validation_accuracy),
    )
    charts: list[Block] = [chart for chart in drawn if chart is not None]
    rates = _lr_chart(course)
    stages = _stage_table(course)
    blocks: list[Block] = []
    if course.best is not None:
        blocks.append(Text(f"The weights kept are those after epoch {course.best} of {len(course.epoch)}."))
        if course.train_accuracy[course.best - 1] < course.validation_accuracy[course.best - 1]:
            blocks.append(
                Text(
                    "Validation may well do better than training, as here: training measures while the network "
                    "still learns, on pictures made harder by augmentation, mixing or dropout, where there are any.",
                    "note",
                )
            )
    blocks.append(Side(charts))
    if notes := jump_notes(course):
        blocks.append(Fold("Why the curves jump between stages, and what was kept", notes))
    blocks.append(Fold(stages_line(course), [stages, *([rates] if rates else []), _epoch_table(course)]))
    return Section("training", "How the training went", blocks, "Training")


def _curve_chart(course: Curves, title: str, train: tuple[float, ...], validation: tuple[float, ...]) -> Chart | None:
    if not any(map(math.isfinite, (*train, *validation))):
        return None
    share = title != "Loss"
    top = math.inf if share else loss_top(course)
    marked = validation if any(map(math.isfinite, validation)) else train
    best = None
    if course.best is not None and math.isfinite(marked[course.best - 1]):
        best = (float(course.best), marked[course.best - 1], "kept")
    lines = [Line("training", course.epoch, train, quiet=True), Line("validation", course.epoch, validation)]
    svg = line_chart(
        lines,
        title=f"{title} after each epoch, on training and validation pictures",
        x_title="epoch",
        form=formatting.short_percent if share else None,
        whole_x=True,
        y_limits=(0.0, 1.0) if share else (0.0, math.inf),
        spans=[(span.name, span.start, span.end) for span in course.stages],
        best=best,
        y_top=top,
    )
    caption = accuracy_finding(course) if share else f"{loss_finding(course)} {above_sentence(course, top)}".strip()
    return Chart(title, svg, caption, values_table(lines, "epoch", formatting.short_percent if share else digits))


def _lr_chart(course: Curves) -> Chart | None:
    if not course.lr or max(course.lr) <= 0:
        return None
    steps = list(zip(course.lr_at, course.lr, strict=True))
    peaks = [max((lr for at, lr in steps if span.start < at <= span.end), default=0.0) for span in course.stages]
    peaks = [peak for peak in peaks if peak > 0]
    log = len(peaks) > 1 and max(peaks) / min(peaks) > 30
    # On a logarithmic axis the last steps of a cosine would stretch it over many empty powers of ten.
    floor = min(peaks) / 100 if log else -math.inf
    lr = [max(value, floor) for value in course.lr]
    line = [Line("", course.lr_at, lr)]
    svg = line_chart(
        line,
        title="Learning rate over the training",
        x_title="epoch",
        log=log,
        whole_x=True,
        y_limits=(0.0, math.inf),
        spans=[(span.name, span.start, span.end) for span in course.stages],
    )
    highest = f"It reaches {lr_text(max(course.lr))}."
    scale = " Logarithmic scale; rates close to 0 are drawn at its lower end." if log else ""
    return Chart("Learning rate", svg, f"{highest}{scale}", values_table(line, "epoch"))


def _stage_table(course: Curves) -> Table:
    before = ["", *(span.runtime for span in course.stages)]
    runtimes = ["" if a == b else b for a, b in pairwise(before)]  # a runtime is named once
    rows = [
        [
            Cell(span.name, quiet=" ".join(map(_sentence, filter(None, (span.description, runtime, span.reason))))),
            Cell(str(span.end - span.start), span.end - span.start),
            Cell(str(span.best) if span.best else "–", span.best or 0),
            Cell(formatting.duration(span.preparation), span.preparation),
            Cell(formatting.duration(span.epoch_seconds), span.epoch_seconds),
            Cell(formatting.duration(span.seconds), span.seconds),
        ]
        for span, runtime in zip(course.stages, runtimes, strict=True)
    ]
    caption = (
        "Preparation: what is done once before the first step, and what the first epoch, which decodes the pictures, "
        "takes longer than the later ones. An epoch: the median of those. Time: of all epochs, without the preparation."
    )
    return Table(["stage", "epochs", "best at", "preparation", "an epoch", "time"], rows, caption)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _epoch_table(course: Curves) -> Table:
    def loss(value: float) -> Cell:
        return Cell(f"{value:.4f}" if math.isfinite(value) else "–", value)

    def share(value: float) -> Cell:
        return Cell(formatting.percent(value), value)

    rows = [
        [
            Cell(f"{epoch}{' (kept)' if epoch == course.best else ''}", epoch),
            loss(course.train_loss[i]),
            loss(course.validation_loss[i]),
            share(course.train_accuracy[i]),
            share(course.validation_accuracy[i]),
            Cell(formatting.duration(course.seconds[i]), course.seconds[i]),
        ]
        for i, epoch in enumerate(course.epoch)
    ]
    share_name = course.accuracy_name.lower()
    names = ["epoch", "training loss", "validation loss", f"training {share_name}", f"validation {share_name}", "time"]
    return Table(names, rows, title="Every epoch")
