"""What a study's page shows beside its summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tellapart.core.predictions import Floats
from tellapart.evaluation.study_summary import StudySummary


@dataclass(frozen=True)
class Band:
    """A measure after each epoch, over seeds: mean, lowest and highest [n_epochs]; NaN where it was not measured."""

    mean: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class CellCurves:
    """Learning curves of a cell, over the epochs that all its seeds reached.

    Attributes:
        epochs: 1 to n, counted on over stages.
        bands: "training_accuracy", "validation_accuracy", "training_loss", "validation_loss" → band.
        best: the epoch whose weights were kept, the median over seeds.
    """

    epochs: Sequence[int]
    bands: Mapping[str, Band]
    best: int


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
    curves: Mapping[str, CellCurves] = field(default_factory=dict)
    facts: Sequence[tuple[str, str]] = ()
    command: str = ""
    ranks: Ranks | None = None
    test: Sequence[tuple[str, str, str]] = ()
    test_notes: Sequence[str] = ()
