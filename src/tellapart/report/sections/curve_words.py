"""Learning curves in sentences: what each shows, and why they jump where a stage ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from tellapart.core.text import counted, first_few
from tellapart.report import formatting
from tellapart.report.blocks import Block, Text
from tellapart.report.curves import Curves

#: A change of a loss by this share of all that it goes through is a jump.
_JUMP = 0.1
#: Points that the gap of training and validation may have before it is worth a word.
_GAP = 0.05


def loss_finding(course: Curves) -> str:
    """What the curve of validation loss shows: its lowest, and where it ended."""
    low = _lowest(course.validation_loss)
    if low is None:
        return ""
    last = course.validation_loss[-1]
    found = f"Validation loss is lowest at epoch {low + 1}, {course.validation_loss[low]:.3g}"
    if low == len(course.epoch) - 1 and not course.stages[-1].solved:
        return f"{found}, its last: more epochs may still help."
    return f"{found}; it ends at {last:.3g}." if math.isfinite(last) else f"{found}."


def accuracy_finding(course: Curves) -> str:
    """What the curves of accuracy show: what was kept, and how far training is above it."""
    if course.best is None:
        return ""
    at = course.best - 1
    trained, checked = course.train_accuracy[at], course.validation_accuracy[at]
    if not math.isfinite(checked):
        return ""
    found = f"The weights kept have {formatting.percent(checked)} on validation"
    if not math.isfinite(trained):
        return f"{found}; on training, accuracy was not measured there."
    gap = trained - checked
    learned = ": much was learned by heart" if gap > _GAP else ""
    return f"{found} and {formatting.percent(trained)} on training{learned}."


def _lowest(values: Sequence[float]) -> int | None:
    finite = [(value, i) for i, value in enumerate(values) if math.isfinite(value)]
    return min(finite)[1] if finite else None


def stages_line(course: Curves) -> str:
    """The stages and their time, in a line."""
    names = first_few(formatting.visible(span.name) for span in course.stages)
    return f"{counted(len(course.stages), 'stage')} in {formatting.duration(course.total_seconds)}: {names}"


def jump_notes(course: Curves) -> list[Block]:
    """Why a curve jumps where a stage ends, and what a point is where it is no epoch; else nothing."""
    sentences = []
    for before, after in pairwise(course.stages):
        lines = {"training": course.train_loss, "validation": course.validation_loss}
        jumped = [name for name, line in lines.items() if _jumps(line, before.end - 1)]
        if jumped:
            sentences.append(
                f"Between “{formatting.visible(before.name)}” and “{formatting.visible(after.name)}” the "
                f"{' and '.join(jumped)} loss {'jumps' if len(jumped) == 1 else 'jump'}: "
            )
    notes: list[Block] = []
    if sentences:
        why = (
            "a stage begins from the best weights of the one before, trains other layers at a rate of its own, and "
            "measures its loss in its own way (augmentation, mixing, label smoothing)."
        )
        notes.append(Text(f"{'; '.join(text.rstrip(': ') for text in sentences)}: {why}", "note"))
    solved = [span.name for span in course.stages if span.solved]
    low = _lowest(course.validation_loss)
    if course.best is not None and low is not None and low + 1 != course.best:
        notes.append(Text(_why_not_lowest(course, low), "note"))
    if solved:
        notes.append(
            Text(
                f"In {first_few(f'“{formatting.visible(name)}”' for name in solved)} a point is no epoch but one "
                "penalty on large weights: the last layer is solved for each of them, and the best one is kept.",
                "note",
            )
        )
    return notes


def _why_not_lowest(course: Curves, low: int) -> str:
    """Why the weights with the lowest validation loss are not those that were kept."""
    if any(span.solved and span.start < (course.best or 0) <= span.end for span in course.stages):
        return (
            "The weights kept are not those with the lowest validation loss: in their stage, answers to training "
            "pictures that were held out in turn decided, so that validation stays unused."
        )
    return (
        f"The weights kept are not those of epoch {low + 1}, which has the lowest validation loss: what the recipe "
        "monitors, or the loss of another stage, decided."
    )


def _jumps(line: Sequence[float], at: int) -> bool:
    """Whether the loss changes from this epoch to the next by so much that it is seen."""
    finite = [value for value in line if math.isfinite(value)]
    return abs(line[at + 1] - line[at]) > _JUMP * (max(finite) - min(finite)) if finite else False
