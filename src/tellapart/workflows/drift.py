"""Whether the pictures that a model answers in use differ from those it was validated on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tellapart.core.predictions import Floats, Predictions
from tellapart.core.text import as_lines, counted
from tellapart.deploy.answer import NONE, percent
from tellapart.deploy.bundle.read import Bundle
from tellapart.deploy.monitor import BINS, Counts, read_counts
from tellapart.errors import UsageError
from tellapart.evaluation.drift import FEW, LARGE, Difference, differences
from tellapart.runs.run import Run

_SHOWN, _SHOWN_ODD = 3, 10
_UNLIKE, _LIKE = "unlike all classes", "like a class"


@dataclass(frozen=True)
class Drift:
    """What was counted in use, beside validation.

    Attributes:
        n: pictures answered in use.
        n_validation: pictures of validation.
        differences: the counts that were compared.
        certainty: mean certainty of validation and of the new pictures.
        odd: the new pictures least like the classes, as (score, path), the oddest first; as far as they were kept.
        notes: what could not be compared, and how far to trust the rest.
        since, until: when the counting began and ended, in seconds since 1970.
    """

    n: int
    n_validation: int
    differences: tuple[Difference, ...]
    certainty: tuple[float, float]
    odd: tuple[tuple[float, str], ...]
    notes: tuple[str, ...]
    since: float
    until: float

    @property
    def drifted(self) -> bool:
        """Whether a difference is proven and concerns more than a few pictures."""
        return any(each.proven and each.distance >= LARGE for each in self.differences)

    @property
    def verdict(self) -> str:
        """One sentence: whether the new pictures differ from validation, and in what."""
        proven = [each for each in self.differences if each.proven]
        if not proven:
            return "No difference from validation is beyond chance."
        names = " and ".join(_NAMES[each.name] for each in proven)
        if self.drifted:
            return f"The new pictures differ from validation: {names}."
        return f"The new pictures differ from validation, but little: {names}."

    def text(self) -> str:
        """For people: the verdict first, then each comparison, notes, and the oddest pictures."""
        days = " to ".join(
            time.strftime("%Y-%m-%d %H:%M", time.localtime(moment)) for moment in (self.since, self.until)
        )
        lines = [self.verdict, ""]
        lines += [
            f"{counted(self.n, 'new picture')} ({days}) beside {counted(self.n_validation, 'picture')} of validation."
        ]
        lines += [self._line(each) for each in self.differences]
        lines += ["", *self.notes] if self.notes else []
        if self.odd:
            lines += ["", "Least like the classes:"]
            lines += [f"  {score:6.2f}  {path}" for score, path in self.odd[:_SHOWN_ODD]]
        return as_lines(lines)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "verdict": self.verdict, "drifted": self.drifted}

    def _line(self, each: Difference) -> str:
        beyond = "beyond chance" if each.proven else "within chance"
        if each.name == "unknown":
            what = f"{_share(each.new[_UNLIKE])} are unlike all classes, instead of {_share(each.validation[_UNLIKE])}"
        elif each.name == "certainty":
            what = f"the mean is {percent(self.certainty[1])} instead of {percent(self.certainty[0])}"
        else:
            cells = each.moved[:_SHOWN]
            what = ", ".join(
                f"{cell} {_share(each.new[cell])} instead of {_share(each.validation[cell])}" for cell in cells
            )
        return f"  {_NAMES[each.name]:<18} {beyond}, p {_p(each.p)}: {what}"


_NAMES = {"unknown": "share of unknown", "certainty": "certainty", "classes": "shares of classes"}


def drift(run: str | Path, monitor: str | Path) -> Drift:
    """Compare what `predict --monitor` counted with the answers to the validation pictures.

    Args:
        run: a run directory, whose bundle gave the answers.
        monitor: the file of counts.

    Raises:
        RunError, BundleError: the run has not finished, or is damaged.
        UsageError: the file is missing or damaged, holds counts of another model, or none at all.
    """
    directory = Run(Path(run))
    predictions = directory.predictions("validation")
    bundle = Bundle.load(run)
    counts = read_counts(Path(monitor), bundle)
    if not counts.n:
        raise UsageError(f"{monitor} holds no answers yet.", "tellapart predict RUN PICTURES --monitor FILE adds some.")
    labels, certainty = _answers(bundle, predictions)
    bins = np.minimum((certainty * BINS).astype(int), BINS - 1)
    validation = {str(cell): int(n) for cell, n in zip(*np.unique(bins, return_counts=True), strict=True)}
    new = {str(cell): n for cell, n in enumerate(counts.certainty) if n}
    compared: dict[str, tuple[Mapping[str, int], Mapping[str, int]]] = {}
    notes = []
    if unlike := _unlike(directory, bundle):
        ours = {_UNLIKE: counts.n_unlike, _LIKE: counts.n - counts.n_unlike}
        compared["unknown"] = ({_UNLIKE: unlike[0], _LIKE: unlike[1] - unlike[0]}, ours)
    else:
        notes.append("The share of unknown is not compared: this model has no out-of-distribution score.")
    compared |= {"certainty": (validation, new), "classes": (labels, counts.labels)}
    middle = (np.arange(BINS) + 0.5) / BINS
    mean = float(np.dot(middle, counts.certainty) / counts.n)
    return Drift(
        n=counts.n,
        n_validation=len(predictions),
        differences=tuple(differences(compared)),
        certainty=(float(middle[bins].mean()), mean),
        odd=tuple(counts.odd),
        notes=(*notes, *_notes(counts, len(predictions))),
        since=counts.first,
        until=counts.last,
    )


def _answers(bundle: Bundle, predictions: Predictions) -> tuple[Counter[str], Floats]:
    """How often each label was the answer on validation, and the certainty of each answer, as `predict` has them."""
    probabilities = bundle.probabilities(predictions.logits)
    if not bundle.multilabel:
        best = probabilities.argmax(axis=1)
        return Counter(bundle.classes[number] for number in best.tolist()), probabilities.max(axis=1)
    chosen = probabilities >= np.asarray(bundle.thresholds)
    labels = Counter({name: int(n) for name, n in zip(bundle.classes, chosen.sum(axis=0), strict=True)})
    labels[NONE] += int((~chosen.any(axis=1)).sum())
    least = np.where(chosen, probabilities, np.inf).min(axis=1)
    return labels, np.where(chosen.any(axis=1), least, 1 - probabilities.max(axis=1))


def _unlike(run: Run, bundle: Bundle) -> tuple[int, int] | None:
    """Of validation, how many pictures were unlike all classes, of how many; None where that is not known."""
    if bundle.ood_score is None:
        return None
    try:
        accepted = run.evaluation_values["certainty"]["validation"]["unknown"]["accepted"]
        value, n = float(accepted["value"]), int(accepted["n"])
    except (KeyError, TypeError, ValueError):
        return None
    return (round((1 - value) * n), n) if n else None


def _notes(counts: Counts, n_validation: int) -> list[str]:
    notes = []
    if counts.n < FEW:
        notes.append(f"With {counted(counts.n, 'new picture')}, only a large difference can be proven.")
    if n_validation < FEW:
        notes.append(f"With {counted(n_validation, 'validation picture')}, only a large difference can be proven.")
    if counts.n_unreadable:
        notes.append(f"{counted(counts.n_unreadable, 'picture')} could not be read, and are in no count.")
    return notes


def _share(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.2g}"
