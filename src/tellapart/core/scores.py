"""Metrics with their intervals, and an evaluation of them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tellapart.core.notebook import html_table
from tellapart.core.old_names import current_keys
from tellapart.core.text import as_lines, counted, percent


@dataclass(frozen=True)
class Metric:
    """A score with its 95 % interval. `n` is the number of pictures it rests on."""

    value: float
    low: float
    high: float
    n: int


def is_share(metric: str) -> bool:
    """Whether a metric lies between 0 and 1 and is read as a percentage."""
    return "loss" not in metric and "error" not in metric and metric not in ("seconds", "n_parameters")


def score_text(metric: str, value: float) -> str:
    """A score as people read it: "92.4 %", or "0.251" of a loss; "–" where it is not known. Files have the number."""
    if is_share(metric) or not math.isfinite(value):
        return percent(value)
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:,.0f}"


def difference_text(metric: str, value: float) -> str:
    """A difference of two scores with its sign: "+1.5 points" of a share, or "+0.031"."""
    return f"{100 * value:+.1f} points" if is_share(metric) else f"{value:+.3f}"


def interval_text(metric: str, score: Metric) -> str:
    """The 95 % interval of a score: "90.1 to 94.0 %"."""
    if not (math.isfinite(score.low) and math.isfinite(score.high)):
        return "–"
    if is_share(metric):
        return f"{100 * score.low:.1f} to {percent(score.high)}"
    return f"{score_text(metric, score.low)} to {score_text(metric, score.high)}"


def with_interval(metric: str, score: Metric) -> str:
    """A score and its interval: "92.4 %  (95 %: 90.1 to 94.0 %)"."""
    return f"{score_text(metric, score.value)}  (95 %: {interval_text(metric, score)})"


#: `Evaluation.on` of the network that was validated, where the one that answers was trained on these pictures too.
BEFORE_RETRAINING = "validation, before retraining"
#: `Evaluation.on` of a cross-validation: every picture, answered by the training that had not seen it.
ALL_FOLDS = "all folds"


@dataclass(frozen=True)
class Evaluation:
    """How good a model is on one set of pictures.

    Attributes:
        on: which pictures: "test", "validation", `BEFORE_RETRAINING`, `ALL_FOLDS` or a folder.
        multilabel: True where pictures may have several labels.
        n: number of pictures with a known answer.
        classes: names, in the order used below.
        metrics: by scikit-learn's names, e.g. "accuracy", "f1_macro", "log_loss"; the first is the headline.
        per_class: one dictionary a class: "precision", "recall", "f1" (each a Metric), "n" and "n_predicted".
        confusion: counts [n_classes][n_classes], row = given, column = answered; empty for multilabel.
        together, taken_for: multilabel: pairs of labels with their pictures, see `evaluation.label_pairs`.
        notes: sentences on what the scores mean: whether they are above chance, how certain they are.
        with_trained: the same with the pictures that the network was trained or validated on, which this one leaves
            out; None where it leaves out none.
    """

    on: str
    multilabel: bool
    n: int
    classes: tuple[str, ...]
    metrics: dict[str, Metric]
    per_class: tuple[dict[str, Any], ...] = field(default=())
    confusion: tuple[tuple[int, ...], ...] = field(default=())
    together: tuple[dict[str, Any], ...] = field(default=())
    taken_for: tuple[dict[str, Any], ...] = field(default=())
    notes: tuple[str, ...] = field(default=())
    with_trained: Evaluation | None = field(default=None)

    @property
    def headline(self) -> tuple[str, Metric]:
        """Name and value of the score that is shown first."""
        name = next(iter(self.metrics))
        return name, self.metrics[name]

    def table(self) -> str:
        """The metrics as lines of text: name, value, interval; then the notes."""
        width = max(map(len, self.metrics))
        lines = [f"{self.on}: {self.n} pictures, {len(self.classes)} classes"]
        lines += [
            f"  {name:<{width}}  {score_text(name, m.value):>7}  (95 %: {interval_text(name, m)})"
            for name, m in self.metrics.items()
        ]
        if self.with_trained is not None:
            name, metric = self.with_trained.headline
            lines.append(
                f"With those it was trained or validated on, {self.with_trained.n} pictures: {name} "
                f"{with_interval(name, metric)}"
            )
        return as_lines([*lines, *self.notes])

    def _repr_html_(self) -> str:
        """What a notebook shows: each metric with its interval, and what they mean."""
        rows = [(name, score_text(name, m.value), interval_text(name, m)) for name, m in self.metrics.items()]
        title = f"{self.on}: {counted(self.n, 'picture')}, {counted(len(self.classes), 'class', 'classes')}"
        return html_table(title, ["metric", "value", "95 % interval"], rows, self.notes)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Evaluation:
        """The inverse of `as_dict`."""
        values = current_keys(values)

        def revive(entry: dict[str, Any]) -> dict[str, Any]:
            return {k: Metric(**v) if isinstance(v, dict) else v for k, v in entry.items()}

        return cls(
            on=values["on"],
            multilabel=values["multilabel"],
            n=values["n"],
            classes=tuple(values["classes"]),
            metrics=revive(values["metrics"]),
            per_class=tuple(revive(entry) for entry in values["per_class"]),
            confusion=tuple(tuple(line) for line in values["confusion"]),
            together=tuple(pair | {"labels": tuple(pair["labels"])} for pair in values.get("together", ())),
            taken_for=tuple(values.get("taken_for", ())),
            notes=tuple(values.get("notes", ())),
            with_trained=cls.from_dict(values["with_trained"]) if values.get("with_trained") else None,
        )


def with_notes(evaluation: Evaluation, *notes: str) -> Evaluation:
    """The evaluation with more notes, before its own."""
    return replace(evaluation, notes=(*notes, *evaluation.notes))
