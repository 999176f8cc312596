"""How good a trained classifier is, how sure that is, and the one most useful next step, from what its run measured.

The step is the first of a fixed order whose evidence is strong enough: a model at chance, labels that look wrong, a
training that had not ended, one that learned by heart, a class that is short of pictures, two classes that are mixed
up, too few pictures to judge by. Else it is to look at the mistakes, or to use the model.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tellapart.core.predictions import Predictions
from tellapart.core.scores import ALL_FOLDS, Evaluation
from tellapart.core.text import counted
from tellapart.evaluation.chance import chance_note, constant_score, more_pictures, precision_note
from tellapart.report import formatting
from tellapart.report.curves import Curves, StageSpan, curves
from tellapart.runs.run import ALONE, Run

_SURE, _UNLIKELY = 0.95, 0.01  # calibrated probabilities of an answer, and of a label that it contradicts
_RISE, _FALL = 1.1, 0.98  # of a loss on validation: after its best, and in the last epoch of a training that goes on
_SHARE_OF_CLASS, _SHARE_OF_PAIR = 0.15, 0.25  # of all mistakes
_FEW = 3  # pictures; from fewer nothing is concluded


@dataclass(frozen=True)
class Verdict:
    """Three sentences for the end of a training."""

    how_good: str
    how_sure: str
    next_step: str

    def lines(self) -> list[str]:
        """One line each, with its name in front."""
        return [f"How good: {self.how_good}", f"How sure: {self.how_sure}", f"Next:     {self.next_step}"]

    def table(self, evaluation: Evaluation) -> str:
        """The scores that it rests on, without the notes that it repeats."""
        wide = precision_note(*evaluation.headline, evaluation.on)
        notes = [note for note in evaluation.notes if note != wide and note not in self.next_step]
        return replace(evaluation, notes=tuple(notes)).table()


def verdict(run: Run) -> Verdict:
    """The verdict on a finished run.

    Raises:
        RunError: a file of the run is missing or damaged.
    """
    evaluation = next(iter(run.evaluations.values()))
    part = "test" if evaluation.on == "test" else "validation"
    return Verdict(
        f"{_how_good(evaluation, run.predictions(part))}{_of_students(run)}",
        _how_sure(evaluation),
        _next_step(run, evaluation, part),
    )


def verdict_of_folds(runs: Sequence[Run], pooled: Evaluation, predictions: Predictions, command: str) -> Verdict:
    """The verdict on a cross-validation.

    Args:
        runs: one finished training a fold.
        pooled: the score of all folds together; `predictions`: theirs, each divided by its fold's temperature.
        command: what trains the one to use.
    """
    name, _ = pooled.headline
    each = [next(iter(run.evaluations.values())).metrics[name].value for run in runs]
    spread = f"its folds go from {formatting.score(name, min(each))} to {formatting.score(name, max(each))}"
    return Verdict(
        _how_good(pooled, predictions),
        f"{_how_sure(pooled).removesuffix('.')}; {spread}.",
        _next_of_folds(runs, pooled, _labelled(predictions), command),
    )


def _next_of_folds(runs: Sequence[Run], pooled: Evaluation, predictions: Predictions, command: str) -> str:
    pictures, first = pictures_word(runs[0].catalog.root), shlex.quote(str(runs[0].directory))
    if len(predictions) and (note := chance_note(predictions, pooled.headline[1], 1.0)):
        return f"{note} {_at_chance(runs[0])}"
    n_odd = 0 if predictions.multilabel else _n_odd(predictions, 1.0)
    if n_odd >= max(2, math.ceil(pooled.n / 100)):
        return (
            f"{counted(n_odd, 'label')} {'look' if n_odd > 1 else 'looks'} wrong: the training that had not seen the "
            f"picture is sure of another class. See them: tellapart review {pictures}"
        )
    trained = _trained_on(runs[0], pooled.classes)
    if step := _of_classes(pooled, trained, f"tellapart errors {first}"):
        return step
    return f"no one cause of its mistakes stands out; train the one to use: {command}"


def _how_good(evaluation: Evaluation, predictions: Predictions) -> str:
    name, metric = evaluation.headline
    labelled = _labelled(predictions)
    base = f"; always the commonest answer would get {formatting.percent(constant_score(labelled))}"
    if name == "accuracy":
        right = round(metric.value * metric.n)
        score = f"{formatting.percent(metric.value)} right, {right:,} of {metric.n:,} {_pictures(evaluation)}"
    else:
        n = counted(evaluation.n, "picture")
        score = f"{formatting.plain(name)} {formatting.score(name, metric.value)} on {n} that it has not seen"
    return f"{score}{base if len(labelled) else ''}."


def _pictures(evaluation: Evaluation) -> str:
    if evaluation.on == "test":
        return "test pictures, which it has not seen"
    if evaluation.on == ALL_FOLDS:
        return "pictures, each by a training that had not seen it"
    return "validation pictures, by which its best epoch was chosen"


def _how_sure(evaluation: Evaluation) -> str:
    name, metric = evaluation.headline
    text = f"{formatting.SURE} sure of {formatting.interval(name, metric)} on new pictures of the same kind"
    n = more_pictures(name, metric)
    part = {"test": "test ", ALL_FOLDS: ""}.get(evaluation.on, "validation ")
    text += f"; {counted(n, f'more {part}picture')} would halve that" if n else ""
    unseen = evaluation.on in ("test", ALL_FOLDS)
    return f"{text}." if unseen else f"{text}; the same pictures chose the epoch, so it flatters."


def _of_students(run: Run) -> str:
    """What the teacher and the same student without it score, where the run is a student's."""
    about = (run.distillation or {}).get("verdict")
    if not about:
        return ""
    name = about["metric"]
    taught_by = " and ".join(formatting.score(name, each["value"]) for each in about["teachers"])
    alone = f"the same network without the teacher has {formatting.score(name, about['alone']['value'])}"
    return f" Its teacher has {taught_by}; {alone}." if taught_by else f" {alone[:1].upper()}{alone[1:]}."


def _at_chance(run: Run) -> str:
    """What to do where a training has learned nothing that can be told."""
    pictures, model = pictures_word(run.catalog.root), run.recipe.model
    if model.pretrained or model.weights or model.name == "auto":
        return f"Look at the pictures and their labels: tellapart audit {pictures}"
    return f"It began from scratch, and a pretrained network needs far fewer pictures: tellapart train {pictures}"


def pictures_word(root: Path) -> str:
    """A folder of pictures as one types it: by its path from here where it lies below."""
    here = Path.cwd()
    return shlex.quote(str(root.relative_to(here) if root.is_relative_to(here) and root != here else root))


# --- the next step --------------------------------------------------------------------------------------------------


def _next_step(run: Run, evaluation: Evaluation, part: str) -> str:
    predictions, name = _labelled(run.predictions(part)), shlex.quote(str(run.directory))
    if len(predictions) and (note := chance_note(predictions, evaluation.headline[1], _temperature(run))):
        return f"{note} {_at_chance(run)}"
    n_odd = 0 if predictions.multilabel else _odd_labels(run)
    if n_odd >= max(2, math.ceil(evaluation.n / 100)):
        return (
            f"{counted(n_odd, 'label')} of validation and test {'look' if n_odd > 1 else 'looks'} wrong: it is sure of "
            f"another class. See them: tellapart review {name}"
        )
    if ((run.distillation or {}).get("verdict") or {}).get("words") == "worse":
        return (
            "the teacher made it worse: use the same network trained on the labels alone: "
            f"tellapart predict {shlex.quote(str(run.directory / ALONE))} PICTURE"
        )
    course = curves(run.events())
    step = _of_training(run, course) or _of_classes(
        evaluation, _trained_on(run, evaluation.classes), f"tellapart errors {name}"
    )
    if step:
        return step
    metric_name, metric = evaluation.headline
    if n := more_pictures(metric_name, metric):
        return (
            f"{counted(n, 'more picture')} to test by would say more than another training: the interval is wide. Or "
            "tellapart cross-validate tests every picture once."
        )
    n_wrong = round((1 - metric.value) * metric.n)
    if metric_name == "accuracy" and n_wrong < _FEW:
        return f"use it: tellapart predict {name} PICTURE"
    return f"no one cause stands out; look at what it gets wrong: tellapart errors {name}"


def _labelled(predictions: Predictions) -> Predictions:
    """The predictions with a label to be compared with."""
    from tellapart.evaluation.metrics import take

    if predictions.multilabel:
        return predictions
    return take(predictions, predictions.target >= 0)


def _temperature(run: Run) -> float | tuple[float, ...]:
    value = run.evaluation_values["temperature"]
    return tuple(value) if isinstance(value, list) else float(value)


def _odd_labels(run: Run) -> int:
    """Pictures of validation and test whose label the classifier, sure of another class, all but rules out."""
    n, temperature = 0, _temperature(run)
    for part in ("validation", "test"):
        if run.predictions_file(part).is_file() and len(known := _labelled(run.predictions(part))):
            n += _n_odd(known, temperature)
    return n


def _n_odd(known: Predictions, temperature: float | tuple[float, ...]) -> int:
    p = known.probabilities(temperature)
    return int(((p.max(axis=1) >= _SURE) & (p[np.arange(len(p)), known.target] <= _UNLIKELY)).sum())


def _of_training(run: Run, course: Curves) -> str:
    """What the loss on validation says of the last stage that took steps; "" where it says nothing."""
    stages = run.recipe.stages
    if len(course.stages) != len(stages) or not course.stages or stages[-1].solver is not None:
        return ""
    span, stage, number = course.stages[-1], stages[-1], len(stages) - 1
    losses = course.validation_loss[span.start : span.end]
    if len(losses) < _FEW or not all(map(math.isfinite, losses)):
        return ""
    best = int(np.argmin(losses))
    if best == len(losses) - 1 and losses[-1] <= _FALL * losses[-2]:
        length = f"steps={2 * stage.steps}" if stage.steps else f"epochs={2 * stage.epochs}"
        more = f"--set stages.{number}.{length}"
        if run.plan is not None:
            more = "--minutes, twice as many as now,"
        return (
            f"it was still getting better at its end (loss on validation {losses[-2]:.3g}, then {losses[-1]:.3g}): "
            f"train again with {more} and another --out."
        )
    return _by_heart(run, course, span, best)


def _by_heart(run: Run, course: Curves, span: StageSpan, best: int) -> str:
    losses, trained = (line[span.start : span.end] for line in (course.validation_loss, course.train_loss))
    if losses[-1] < _RISE * losses[best] or not trained[-1] < trained[best]:
        return ""
    seen = (
        f"it is overfitting: after epoch {best + 1} the loss on validation rose from {losses[best]:.3g} to "
        f"{losses[-1]:.3g}, while that of training fell to {trained[-1]:.3g}."
    )
    if run.recipe.augment or run.plan is not None:
        return f"{seen} More pictures help most; tellapart errors {shlex.quote(str(run.directory))} shows which."
    pictures = pictures_word(run.catalog.root)
    return f"{seen} The recipe fast changes pictures while it trains, where that helps: tellapart train {pictures}"


def _of_classes(evaluation: Evaluation, trained: npt.NDArray[np.int64], look: str) -> str:
    """A class that is short of pictures, or two that are mixed up, where that makes many of the mistakes.

    Args:
        trained: training pictures of each class.
        look: the command that shows the mistakes.
    """
    if evaluation.multilabel or not evaluation.confusion:
        return ""
    confusion = np.array(evaluation.confusion)
    wrong = confusion - np.diag(confusion.diagonal())
    n_wrong, shown = int(wrong.sum()), confusion.sum(axis=1)
    if n_wrong < _FEW:
        return ""
    recall = confusion.diagonal() / np.maximum(shown, 1)
    typical = int(np.median(trained[recall >= np.median(recall)]))
    lost = wrong.sum(axis=1)
    short = np.flatnonzero((trained * 2 <= typical) & (lost >= _SHARE_OF_CLASS * n_wrong) & (lost >= 2))
    if len(short):
        k = int(short[lost[short].argmax()])
        return (
            f"about {counted(typical - int(trained[k]), 'more picture')} of {evaluation.classes[k]} would help most: "
            f"it has {trained[k]:,} to learn from, others about {typical:,}; {lost[k]} of {n_wrong} mistakes are its."
        )
    both = wrong + wrong.T
    i, j = np.unravel_index(int(np.triu(both).argmax()), both.shape)
    if both[i, j] >= max(_FEW, _SHARE_OF_PAIR * n_wrong):
        return (
            f"{both[i, j]} of {n_wrong} mistakes mix up {evaluation.classes[i]} and {evaluation.classes[j]}: see them, "
            f"and whether the two can be told apart: {look}"
        )
    return ""


def _trained_on(run: Run, classes: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Training pictures of each class."""
    target = run.catalog.target(run.split.train)
    return np.bincount(target[target >= 0], minlength=len(classes)).astype(np.int64)
