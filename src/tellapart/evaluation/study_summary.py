"""The values that a study comes to: cells with their scores, differences, effects of factors. Pages show them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tellapart.evaluation.comparison import Verdict


@dataclass(frozen=True)
class Span:
    """A mean over seeds with its 95 % interval (Student's t); the ends are NaN with fewer than two seeds."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class CellDifference:
    """A cell held against another one, seed by seed.

    Attributes:
        value: its score less that of the other, the mean over the seeds that both have.
        low, high: 95 % interval, over seeds and pictures. NaN where there is one seed only.
        p: how often chance alone would make so large a difference; where seeds were added on demand, that is taken
            into account. NaN where there is one seed only.
        p_corrected: the same, corrected for all cells of the study (Holm).
        verdict: on the cell. "cannot tell" where `p_corrected` is not below 0.05.
        by_seed: seed → difference.
        more_seeds: about how many more seeds would tell, if the difference is truly the one seen (power 80 %);
            infinite where no number would do with so many pictures.
        pictures: about how many validation pictures would tell with these seeds; infinite where no number would do.
        picture_share: share of the variance that the choice of pictures makes, and that more seeds do not lessen.
    """

    value: float
    low: float
    high: float
    p: float
    p_corrected: float
    verdict: Verdict
    by_seed: Mapping[int, float]
    more_seeds: float = math.inf
    pictures: float = math.inf
    picture_share: float = 0.0


@dataclass(frozen=True)
class CellResult:
    """A cell: one setting, trained with several seeds.

    Attributes:
        cell: its id. number: its place in the design. levels: factor → label.
        scores: seed → score on validation, of the seeds that are done.
        score: their mean. training, minutes: the same of training accuracy, and of time.
        n_parameters: None where it is not known.
        difference: to the baseline; None for the baseline itself, and where either has no score.
        leading: whether it is the best, or cannot be told from it.
        still_rising: seeds whose validation score was best in their last epoch.
        failed, stopped: reason → number of trainings that failed, or that the search stopped.
        paths: seed → folder of its training, relative to the study.
        others: further objective → mean over seeds; NaN where one has none.
        on_front: of several objectives, whether no other cell is as good in all and better in one.
    """

    cell: str
    number: int
    levels: Mapping[str, str]
    scores: Mapping[int, float]
    score: Span
    training: Span
    minutes: Span
    n_parameters: int | None
    difference: CellDifference | None = None
    leading: bool = False
    still_rising: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    stopped: Mapping[str, int] = field(default_factory=dict)
    paths: Mapping[int, str] = field(default_factory=dict)
    others: Mapping[str, float] = field(default_factory=dict)
    on_front: bool = False

    @property
    def n(self) -> int:
        """Seeds that are done."""
        return len(self.scores)


@dataclass(frozen=True)
class LevelEffect:
    """One level of a factor: seed → mean score of the cells that differ from each other in other factors only."""

    level: str
    scores: Mapping[int, float]
    score: Span
    n_cells: int


@dataclass(frozen=True)
class FactorEffect:
    """What a factor does. `levels` are in the factor's order; `continuous`: they are numbers drawn by a search."""

    factor: str
    levels: Sequence[LevelEffect]
    continuous: bool = False
    log: bool = False


@dataclass(frozen=True)
class Interaction:
    """Mean scores over two factors: [rows][columns], NaN where no cell has both levels."""

    first: str
    second: str
    rows: Sequence[str]
    columns: Sequence[str]
    scores: Sequence[Sequence[float]]


@dataclass(frozen=True)
class Importance:
    """How much of the variance between cells a factor makes, or two together beyond what each does; 0..1."""

    name: str
    share: float


@dataclass(frozen=True)
class VarianceShare:
    """How much of the spread a source of randomness makes. `deviation`: its standard deviation, in score."""

    source: str
    share: float
    deviation: float
    n: int


@dataclass(frozen=True)
class StudySummary:
    """A study, judged.

    Attributes:
        metric: the score compared. lower_is_better: such as a loss, or seconds.
        baseline: id of the cell that the others are compared with.
        cells: in the order of the design.
        best: id of the cell with the best mean; "" where none has a score.
        effects, interactions: of the factors.
        importance: the most important first. importance_method: how it was computed, in words.
        variance: of the sources of randomness; empty where they were not varied apart.
        n_pictures: validation pictures that a score rests on. shared_pictures: whether all seeds are judged on the
            same ones.
        seeds: planned seeds a cell, (first, last); equal where none are added on demand.
        tested: number of differences corrected for.
        one_at_a_time: whether each cell differs from the baseline in one factor.
        others: further objectives, after the metric.
        varied: what differs between the seeds of a cell: "split", "init", "order". nested: whether each has seeds of
            its own, inside those of the one before.
        notes: sentences that must be seen with it.
    """

    metric: str
    lower_is_better: bool
    baseline: str
    cells: Sequence[CellResult]
    best: str
    effects: Sequence[FactorEffect] = ()
    interactions: Sequence[Interaction] = ()
    importance: Sequence[Importance] = ()
    importance_method: str = ""
    variance: Sequence[VarianceShare] = ()
    n_pictures: int = 0
    shared_pictures: bool = True
    seeds: tuple[int, int] = (1, 1)
    tested: int = 0
    one_at_a_time: bool = False
    others: Sequence[str] = ()
    varied: Sequence[str] = ("init", "order")
    nested: bool = False
    notes: Sequence[str] = ()

    def cell(self, cell: str) -> CellResult | None:
        """The cell of an id; None where there is none."""
        return next((one for one in self.cells if one.cell == cell), None)

    @property
    def leading(self) -> list[CellResult]:
        """The best cell and those that cannot be told from it."""
        return [one for one in self.cells if one.leading]

    @property
    def on_demand(self) -> bool:
        """Whether undecided cells get more seeds."""
        return self.seeds[1] > self.seeds[0]
