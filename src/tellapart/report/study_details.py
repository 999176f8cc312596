"""What a study's page shows beside its summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tellapart.evaluation.study_summary import StudySummary
from tellapart.report.curve_bands import Banded


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of the same settings over several picture sets; see `experiments.critical_difference`.

    Attributes:
        sets: names of the picture sets.
        names, ranks: settings and their mean ranks, the best first.
        groups: from and to, of the mean ranks that cannot be told apart.
        distance: the critical difference (Nemenyi); None where pairs were tested one by one (Wilcoxon and Holm).
        p: of Friedman's test.
        test: how groups were found, in words.
    """

    sets: Sequence[str]
    names: Sequence[str]
    ranks: Sequence[float]
    groups: Sequence[tuple[float, float]]
    distance: float | None
    p: float
    test: str


@dataclass(frozen=True)
class StudyDetails:
    """A study as its page and its paper pack need it.

    Attributes:
        name: of its folder. about: the user's words.
        summary: its statistics.
        design: as in the study's file. varied: names of the factors.
        n_train, folds: as in the description.
        curves: cell → learning curves, of the cells that have such.
        facts: lines on machine and versions: (name, value).
        command: repeats or continues it.
        ranks: over picture sets, where there are several.
        test: of a closed study, what was measured on the test part: (of what, value, interval); notes on it.
    """

    name: str
    about: str
    summary: StudySummary
    design: str
    varied: Sequence[str]
    n_train: int = 0
    folds: int = 0
    curves: Mapping[str, Banded] = field(default_factory=dict)
    facts: Sequence[tuple[str, str]] = ()
    command: str = ""
    ranks: Ranks | None = None
    test: Sequence[tuple[str, str, str]] = ()
    test_notes: Sequence[str] = ()
