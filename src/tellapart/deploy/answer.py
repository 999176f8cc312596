"""The answer of a model to one picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypedDict

NONE = "none"
UNKNOWN = "unknown"


class AnswerDict(TypedDict):
    """An answer as plain values for JSON: see `Answer.to_dict`."""

    path: str
    label: str
    chosen: list[str]
    labels: dict[str, float]
    certainty: float | None
    problem: str | None
    candidates: list[str]
    ood_score: float | None
    unknown: str | None


@dataclass(frozen=True)
class Answer:
    """The answer of a model to one picture.

    Attributes:
        path: the picture's path as the caller wrote it; empty for a picture that was no file.
        chosen: the answer: one class name; where several labels are possible, those at or above their thresholds,
            most probable first, which may be none. Empty where the picture is unknown or could not be read.
        labels: class names with their probabilities (0 to 1), most probable first: the chosen ones and the best
            others, as far as `top` goes.
        certainty: the probability of the label, or of the least probable one of several. Where no label is chosen,
            1 - the highest probability. Where the picture is unknown, the probability of the first of `labels`, which
            it probably is not. NaN where the picture could not be read.
        problem: why the picture could not be read, in a plain sentence; None where it could.
        candidates: the prediction set, most probable first; empty where no coverage was asked for.
        ood_score: the out-of-distribution score, higher for pictures unlike the known classes; None where the model
            has none.
        unknown: why the picture is probably of no known class; None where it is of one, or that was not asked.
    """

    path: str
    chosen: tuple[str, ...]
    labels: tuple[tuple[str, float], ...]
    certainty: float
    problem: str | None = None
    candidates: tuple[str, ...] = ()
    ood_score: float | None = None
    unknown: str | None = None

    @property
    def label(self) -> str:
        """The chosen label, several joined with ", ", "none", "unknown", or "" where the picture could not be read."""
        if self.problem is not None:
            return ""
        if self.unknown is not None:
            return UNKNOWN
        return ", ".join(self.chosen) or NONE

    def to_dict(self) -> AnswerDict:
        """The answer as plain values for JSON.

        Keys and values are those of the attributes, with `label` besides. `labels` are names with probabilities, most
        probable first; `certainty` is None, not NaN, where the picture could not be read.
        """
        return {
            "path": self.path,
            "label": self.label,
            "chosen": list(self.chosen),
            "labels": dict(self.labels),
            "certainty": None if math.isnan(self.certainty) else self.certainty,
            "problem": self.problem,
            "candidates": list(self.candidates),
            "ood_score": self.ood_score,
            "unknown": self.unknown,
        }

    def __str__(self) -> str:
        """For people: "Beagle 98 %", "Beagle or Basset", "cat 98 %, bunny 87 %", "none", "unknown: …" and so on."""
        if self.problem is not None:
            return f"unreadable: {self.problem}"
        if self.unknown is not None:
            return f"{UNKNOWN}: {self.unknown}"
        if len(self.candidates) > 1:
            return " or ".join(self.candidates)
        probability = dict(self.labels)
        return ", ".join(f"{name} {percent(probability[name])}" for name in self.chosen) or NONE


def percent(probability: float) -> str:
    """A probability for people: "98 %"; a decimal near the ends; never rounded up to a certainty of 100 %."""
    if probability < 0.001:
        return "< 0.1 %"
    digits = 1 if probability < 0.01 or probability >= 0.99 else 0
    return f"{min(probability, 0.999) * 100:.{digits}f} %"
